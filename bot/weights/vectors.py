"""Word vectors: read those of given words from a base, a GloVe text file, or a zip file that contains one.

Reads  models/base/NAME (`python run_bot.py models pull glove-6b-50d`), or a text file with a word and its numbers on each line, such as
       glove.twitter.27B.25d.txt. The line of counts with which word2vec's text files begin is skipped.

    read("glove-6b-50d", {"the", "cat"})
    read("glove.6B.zip/glove.6B.100d.txt", {"the", "cat"})     a member of a zip file; without its name if there is only one
"""

from __future__ import annotations

import itertools
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from bot import cli, files
from bot.cli import UserError
from bot.weights import bases

MAX_LINE_BYTES = 1 << 16  # a longer line counts as several broken ones
LINES_FOR_WIDTH = 1000

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class WordVectors:
    """by_word: the vectors, float32 (width,), of the requested words that have one. lines, broken: how many the file has.

    first_broken: a line number. name, sha256: for model cards.
    """

    by_word: dict[str, Array]
    width: int
    lines: int
    broken: int = 0
    first_broken: int = 0
    name: str = ""
    sha256: str = ""


def read(where: str, words: Collection[str]) -> WordVectors:
    """The vectors of these words. where: the name of a base, or the path of a text file, a zip file, or a zip file and its member.

    Lines that are not a word and its numbers are ignored, and counted in one line on standard error.

    Raises:
        UserError: there is no such base or file, it cannot be read, or it has none of the words.
    """
    archive, member = _archive_of(Path(where))
    if archive is None and not Path(where).is_file():
        if Path(where).is_dir() or len(Path(where).parts) > 1:
            raise UserError(f"{where}: no such file; give a GloVe text file, a zip file with one, or the name of a base (`models list`)")
        result = _read_base(where, words)
    else:
        path = archive or Path(where)
        try:
            with _open_text(path, archive, member) as lines:
                parsed = parse(lines, words)
        except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{where}: cannot be read ({cli.first_line(error)}); download it again") from None
        result = WordVectors(**{**vars(parsed), "name": Path(where).name, "sha256": files.sha256_of(path)})
    if not result.width or result.broken == result.lines:
        raise UserError(f"{where}: no line has a word and its numbers ({result.lines:,} lines); give a text file of word vectors")
    if not result.by_word:
        raise UserError(f"{where}: has none of the {len(words):,} words of the training texts; use vectors of the same language")
    if result.broken:
        cli.say(
            f"{where}: ignored {result.broken:,} of {result.lines:,} lines, the first at line {result.first_broken:,},"
            f" that are not a word and {result.width} numbers"
        )
    return result


def parse(lines: Iterable[bytes], words: Collection[str]) -> WordVectors:
    """The vectors of these words in the lines of a text file. The first line of a word counts.

    The width is that of most of the first lines. Words may contain spaces, as some of GloVe's do. The numbers of other words are only
    counted, not read.

    >>> parsed = parse([b"3 2\\n", b"cat 0.5 1\\n", b"dog 0.5\\n", b". . 1 2\\n"], {"cat", "dog", ". ."})
    >>> {word: vector.tolist() for word, vector in parsed.by_word.items()}, parsed.width, parsed.broken, parsed.first_broken
    ({'cat': [0.5, 1.0], '. .': [1.0, 2.0]}, 2, 1, 3)
    """
    stream = iter(lines)
    first = [line.rstrip() for line in itertools.islice(stream, LINES_FOR_WIDTH)]
    header = bool(first) and len(first[0].split()) == 2 and all(part.isdigit() for part in first[0].split())
    counts = Counter(line.count(b" ") for line in first[header:])
    width = counts.most_common(1)[0][0] if counts else 0
    by_word: dict[str, Array] = {}
    number = broken = first_broken = 0
    for number, line in enumerate(itertools.chain(first, stream), start=1):
        if number == 1 and header:
            continue
        if not _parse_line(line.rstrip(), width, words, by_word):
            broken += 1
            first_broken = first_broken or number
    return WordVectors(by_word, width, number - header, broken, first_broken)


def _parse_line(line: bytes, width: int, words: Collection[str], by_word: dict[str, Array]) -> bool:
    """Add the vector of a line if its word is wanted. False if the line is broken."""
    word, *numbers = line.rsplit(b" ", width)
    if len(numbers) != width or not word or not width:
        return False
    try:
        name = word.decode("utf-8")
        if name not in words or name in by_word:
            return True
        vector = np.array([float(each) for each in numbers], np.float32)
    except ValueError:  # not UTF-8, or not a number
        return False
    if not np.isfinite(vector).all():
        return False
    by_word[name] = vector
    return True


def _archive_of(path: Path) -> tuple[Path | None, str]:
    """The zip file of a path that is one or leads into one, and the member's name (empty for the only one)."""
    for parent in (path, *path.parents):
        if parent.is_file() and zipfile.is_zipfile(parent):
            return parent, "" if parent == path else path.relative_to(parent).as_posix()
    return None, ""


@contextmanager
def _open_text(path: Path, archive: Path | None, member: str) -> Iterator[Iterator[bytes]]:
    """Yield the lines of a text file or of a member of a zip file."""
    if archive is None:
        with path.open("rb") as file:
            yield _lines(file)
        return
    with zipfile.ZipFile(archive) as opened:
        names = [name for name in opened.namelist() if name.endswith((".txt", ".vec"))]
        if member and member not in names:
            raise UserError(f"{archive}: has no member {member}; it has {', '.join(names) or 'no text file'}")
        if not member and len(names) != 1:
            listed = ", ".join(f"{archive.name}/{name}" for name in names) or "none"
            raise UserError(f"{archive}: expected one text file of word vectors; give one of: {listed}")
        with opened.open(member or names[0]) as packed:
            yield _lines(packed)


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: file.readline(MAX_LINE_BYTES), b"")


def _read_base(name: str, words: Collection[str]) -> WordVectors:
    """The vectors in a base: one *_emb.npy, float32 (words, width), and one *_index.parquet with the word of each row."""
    import pyarrow.parquet as pq

    folder = bases.base_path(name)
    if (bases.read_base(name) or {}).get("kind") != "vectors":
        raise UserError(f"{name}: not a base of word vectors; use glove-6b-50d, or the path of a GloVe text file")
    (table,), (index,) = (sorted(folder.glob(pattern)) for pattern in bases.VECTOR_FILES)
    vectors = np.load(table, mmap_mode="r")
    every = pq.read_table(index).column(0).to_pylist()
    rows = {word: row for row, word in enumerate(every) if word in words}
    by_word = {word: np.array(vectors[row], np.float32) for word, row in rows.items()}
    return WordVectors(by_word, vectors.shape[1], len(every), name=name, sha256=bases.base_sha256(name))
