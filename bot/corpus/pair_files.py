"""Read texts line by line from files that may be damaged: JSON lines, or CSV with a header, of comment and reply. See dialogues.py.

Every line that cannot be used is counted by its flaw, and the others are read.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from bot import text
from bot.cli import UserError
from bot.corpus import dumps

MAX_LINE = 1 << 20  # bytes


def lines_of(blocks: Iterable[bytes], counts: Counter[str]) -> Iterator[bytes]:
    r"""The lines in blocks of bytes, without line ends and byte order mark. Too long ones are counted and left out.

    >>> list(lines_of([b"\xef\xbb\xbfa\r\nb", b"c\n\nd"], Counter()))
    [b'a', b'bc', b'', b'd']
    """
    rest, skipping, start = b"", False, codecs.BOM_UTF8
    for block in blocks:
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            counts["read"] += 1
            if skipping or len(line) > MAX_LINE:
                counts["too_long"] += 1
                skipping = False
            else:
                yield line.removeprefix(start).removesuffix(b"\r")
            start = b""
        if len(rest) > MAX_LINE:
            rest, skipping = b"", True
    if rest or skipping:
        counts["read"] += 1
        counts["too_long" if skipping else "no_line_end"] += 1
        if not skipping:
            yield rest.removeprefix(start).removesuffix(b"\r")


def scratch() -> Path:
    return Path(tempfile.gettempdir())


def texts_of(path: Path, counts: Counter[str]) -> Iterator[tuple[str, str]]:
    """Comment and reply of each usable line.

    Raises:
        UserError: the file is neither JSON lines nor CSV with the columns comment and reply, or its compression is damaged.
    """
    lines = lines_of(dumps.blocks(path, scratch()), counts)
    first = b""
    for first in lines:
        if first.strip():
            break
        counts["blank"] += 1
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f"{path}: UTF-16, expected UTF-8; save it as UTF-8")
    if first.strip() == b"[" or first.lstrip().startswith(b"[{"):
        raise UserError(f"{path}: a JSON array, expected JSON lines; write one object with comment and reply per line")
    is_json = first.lstrip().startswith(b"{") or re.search(r"\.(jsonl|ndjson|json)\b", path.name.lower())
    return json_texts(chain([first], lines), counts) if is_json else csv_texts(path, first, lines, counts)


def json_texts(lines: Iterable[bytes], counts: Counter[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        if not line.strip():
            counts["blank"] += 1
            continue
        try:
            row = json.loads(line.decode())
        except UnicodeDecodeError:
            counts["not_utf_8"] += 1
            continue
        except (ValueError, RecursionError):  # ValueError: also a number of 5,000 digits
            row = None
        texts: list[Any] = [row.get("comment"), row.get("reply")] if isinstance(row, dict) else []
        if flaw := flaw_of(texts):
            counts[flaw] += 1
        else:
            yield texts[0], texts[1]


def flaw_of(texts: Sequence[Any]) -> str | None:
    """What makes comment and reply of a JSON line unusable. texts: empty if it is not an object."""
    if not texts:
        return "unreadable"
    if None in texts:
        return "missing_key"
    if not all(isinstance(each, str) for each in texts):
        return "wrong_type"
    return "nul" if any("\0" in each for each in texts) else None


def csv_texts(path: Path, header: bytes, lines: Iterable[bytes], counts: Counter[str]) -> Iterator[tuple[str, str]]:
    names, delimiter = header_of(path, header)
    body = (line.decode(errors="surrogateescape") + "\n" for line in lines)
    reader = csv.reader(body, delimiter=delimiter, strict=True)
    places = names.index("comment"), names.index("reply")
    while True:
        before = reader.line_num
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            counts["broken_quotes"] += reader.line_num - before
            continue
        texts = [cells[place] for place in places] if len(cells) == len(names) else []
        flaw = (
            "blank" if not any(map(str.strip, cells)) else "wrong_fields" if not texts else "nul" if any("\0" in each for each in texts)
            else "not_utf_8" if any(text.well_formed(each) != each for each in texts) else None
        )  # fmt: skip
        if flaw:
            counts[flaw] += 1
        else:
            yield texts[0], texts[1]


def header_of(path: Path, line: bytes) -> tuple[list[str], str]:
    """The names of the columns, in lower case, and the delimiter. Raises UserError if comment or reply is not exactly one of them.

    >>> header_of(Path("a.csv"), b'"Reply";"id";"Comment"')
    (['reply', 'id', 'comment'], ';')
    """
    for delimiter in ",;\t":
        try:
            names = [cell.strip().lower() for cell in next(csv.reader([line.decode(errors="replace")], delimiter=delimiter), [])]
        except csv.Error:  # lines that end in \r only, or a very long cell
            break
        if names.count("comment") == names.count("reply") == 1:
            return names, delimiter
    raise UserError(
        f"{path}: neither JSON lines nor CSV with one column comment and one column reply; its first line is {ascii(line[:80])[1:]}"
    )
