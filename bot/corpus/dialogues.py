r"""Dialogue corpora as reply pairs: two consecutive lines of a conversation are a comment and its reply.

                      reads
--source cornell      the Cornell Movie-Dialogs Corpus, a folder or zip with movie_lines.txt and movie_conversations.txt: ISO-8859-1, fields
                      separated by ` +++$+++ `
--source chitchat     the package chitchat-dataset: conversations of two people; what one of them wrote in a row is one text
--source pairs        pairs of comment and reply: JSON lines, or CSV with a header (other columns are ignored; separated by comma, semicolon
                      or tab), UTF-8, plain or .gz, .zst, .bz2, .xz

Writes OUT/corpus-NAME.parquet (columns of schema.Pair) and its manifest. NAME is cornell, chitchat, or the name of the file of pairs.

    python run_bot.py extract --source cornell --in cornell_movie_dialogs_corpus.zip
    python run_bot.py extract --source chitchat
    python run_bot.py extract --source pairs --in film_pairs.jsonl.zst

The column subreddit is `corpus-NAME`, which is not a possible name of a subreddit. There is no karma, and times only in chitchat. depth is
that of the comment in its conversation, from 0; empty for pairs. thread_id is the conversation. In a file of pairs, pairs with the same
comment are one conversation, and so are pairs if the reply of one is the comment of another: of the next one, or, if the text has at least
LONG_TEXT characters, of any; so are pairs with the same reply of this length. Ids are the prefix t1_ or t3_ and
the first 15 hexadecimal digits of the SHA-256 of NAME and the corpus's own id (of a line, a conversation, the number of a turn) or, for
pairs, the text; the ids of Reddit are shorter.

Formatting tags (<u>, <i>, <br>) are removed, and characters U+0080 to U+009F are read as Windows-1252, which is what such files mean by
them. In films, stage directions in parentheses or brackets are removed; a sentence in brackets is speech in another language and is kept.

Counted by file: lines that are blank, too_long (over 1 MiB), nul, wrong_fields (number of fields or cells), duplicate_id (the first line
is used), unreadable (not a JSON object, or not a list of lines), missing_key, wrong_type, not_utf_8, broken_quotes (all lines up to the end
of the quote), single_line (conversation), repeated_line (conversation with a line twice, or with one of an earlier conversation).
Counted, but used: as_utf_8 (in a corpus that should be ISO-8859-1), no_line_end (the last line, which may be cut off).
in_no_conversation: lines to which no conversation refers.
Counted as no pair: missing_line (the conversation refers to a line that does not exist), no_text, duplicate (comment and reply).
"""

from __future__ import annotations

import hashlib
import json
import lzma
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import resources
from itertools import islice, pairwise
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import pyarrow as pa

from bot import cli, files, schema, text
from bot.cli import UserError
from bot.corpus import dumps
from bot.corpus.pair_files import lines_of, scratch, texts_of
from bot.corpus.pairs import CORPUS, REDDIT
from bot.schema import Pair

REVISION = 2  # of the readers
BATCH_ROWS = 10_000
SEPARATOR = " +++$+++ "
LINES, CONVERSATIONS = "movie_lines.txt", "movie_conversations.txt"
CHITCHAT = "chitchat-dataset==0.9.0"
LONG_TEXT = 40  # characters; a shorter text, such as "Yes.", is in many conversations
PAIRS_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt")

_LINE_IDS = re.compile(r"\[\s*+(?:'[^']*+'\s*+(?:,\s*+|(?=\])))*+\]\s*+")
_ATTRIBUTES = r"(?:\s++[\w-]++\s*+=\s*+(?:\"[^\"<>]*+\"|'[^'<>]*+'|[^\s\"'<>]++))*+\s*+"
_BREAK = re.compile(rf"(?i)</?(?:br|p|div){_ATTRIBUTES}/?>")
_TAG = re.compile(rf"(?i)</?(?:[uibsq]|em|strong|strike|del|ins|small|big|su[bp]|tt|pre|code|font|span|center|body|html){_ATTRIBUTES}>")
_DIRECTION = re.compile(r"\([^()]*+\)|\[([^\[\]]*+)\]")
_WINDOWS = {number: character for number in range(0x80, 0xA0) if (character := bytes([number]).decode("cp1252", "ignore"))}

Element = TypeVar("Element", Path, str)


@dataclass(slots=True)
class Counts:
    """lines: by file, "read" and the unusable ones by flaw; dropped: the pairs that are left out, by reason. See the module's docstring."""

    lines: dict[str, Counter[str]] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)

    def of(self, name: str) -> Counter[str]:
        return self.lines.setdefault(name, Counter(read=0))


@dataclass(frozen=True, slots=True)
class Turn:
    """What one person says. name: the corpus's own id."""

    name: str
    body: str
    utc: int | None = None


def extract(source: str, given: Path | None, out: Path) -> None:
    """Write the pairs of a corpus to OUT/corpus-NAME.parquet and print the counts. given: the corpus; None for chitchat.

    Raises:
        UserError: the corpus is missing, has another format, or contains no pair.
    """
    if source == "chitchat":
        if given is not None:
            raise UserError(f"--in {given}: --source chitchat reads an installed package; remove --in")
        with chitchat_file() as path:
            write(source, [path], lambda counts: chitchat(path, counts), out)
        return
    if given is None:
        raise UserError(f"--in is missing: give the {'folder or zip of the corpus' if source == 'cornell' else 'file of pairs'}")
    if not given.exists():
        raise UserError(f"{given}: no such file or folder; correct --in")
    if source == "cornell":
        with cornell_files(given) as (inputs, (lines, conversations)):
            write(source, inputs, lambda counts: cornell(lines, conversations, counts), out)
    elif not given.is_file():
        raise UserError(f"{given}: not a file; --in must be a file of pairs")
    else:
        name = name_of(given)
        write(name, [given], lambda counts: pairs(name, given, counts), out)


def write(name: str, inputs: Sequence[Path], read: Callable[[Counts], Iterator[Pair]], out: Path) -> None:
    """Write the pairs that `read` yields, and their counts."""
    target, counts, conversations = out / f"{CORPUS}{name}.parquet", Counts(), set[str]()
    files.check_output(target, inputs)

    def batches() -> Iterator[pa.RecordBatch]:
        rows = read(counts)
        while batch := list(islice(rows, BATCH_ROWS)):
            conversations.update(pair.thread_id for pair in batch)
            columns = {column: [getattr(pair, column) for pair in batch] for column in schema.columns_of(Pair)}
            yield pa.RecordBatch.from_pydict(columns, schema=schema.arrow_schema(schema.Pair))
            facts["conversations"] = len(conversations)
        if not conversations:
            raise UserError(f"{', '.join(map(str, inputs))}: contains no pair ({'; '.join(described(counts))}); is it the right file?")

    made_from = {"corpus": name, "files": {path.name: files.sha256_of(path) for path in inputs}, "reader": REVISION}
    facts: dict[str, Any] = {"made_from": made_from, "lines": counts.lines, "dropped": counts.dropped}
    target.parent.mkdir(parents=True, exist_ok=True)
    rows = schema.write_batches(target, schema.arrow_schema(schema.Pair), batches(), facts)
    print("\n".join(described(counts)))
    print(f"{target}: {rows:,} pairs of {len(conversations):,} conversations, without karma")


def described(counts: Counts) -> list[str]:
    """One line per input file, and one for the pairs that are left out."""
    lines = [f"{name}: {each['read']:,} lines: {dumps.format_counts(each) or 'all usable'}" for name, each in counts.lines.items()]
    return [*lines, f"no pair: {dumps.format_counts(counts.dropped) or 'none'}"]


def fullname(kind: str, *parts: str) -> str:
    """The id of a line or a conversation; see the module's docstring.

    >>> fullname("t1", "cornell", "L194")
    't1_f91cff22d9ee974'
    """
    return f"{kind}_{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:15]}"


def name_of(path: Path) -> str:
    """The name of a file of pairs, in lower case, with hyphens.

    >>> name_of(Path("data/Film_pairs.v2.jsonl.zst"))
    'film-pairs-v2'
    """
    stem = path.name.lower()
    for suffixes in ((".zst", *dumps.OPENERS), PAIRS_SUFFIXES):
        stem = next((stem.removesuffix(suffix) for suffix in suffixes if stem.endswith(suffix)), stem)
    name = re.sub(r"[^a-z0-9]+", "-", stem).strip("-")
    if name in ("", REDDIT, "cornell", "chitchat"):
        raise UserError(f"{path}: {name or 'such a name'} cannot be the name of a file of pairs; rename it, for example to film.jsonl")
    return name


# --- text ---------------------------------------------------------------------------------------------------------------------


def without_tags(body: str) -> str:
    """A text without formatting tags, in well-formed Unicode.

    >>> without_tags("Don\x92t  <i>you</i><br/>dare, <Joe>!")
    'Don’t  you dare, <Joe>!'
    """
    body = text.well_formed(body).translate(_WINDOWS)
    return (_TAG.sub("", _BREAK.sub(" ", body)) if "<" in body else body).strip()


def spoken(line: str) -> str:
    """What is spoken in a line of a film script: without formatting tags and stage directions.

    >>> spoken("(sitting down) I <u>know</u>. [Beat] [That is a lie.]"), spoken("[Within]")
    ('I know.  That is a lie.', '')
    """

    def replacement(direction: re.Match[str]) -> str:
        inside = (direction[1] or "").strip()
        return inside if len(inside) > 1 and inside[-1] in ".!?" else ""

    return _DIRECTION.sub(replacement, without_tags(line)).strip()


# --- the Cornell Movie-Dialogs Corpus -------------------------------------------------------------------------------------------


@contextmanager
def cornell_files(path: Path) -> Iterator[tuple[list[Path], tuple[Iterator[bytes], ...]]]:
    """Open the corpus. Yields its input files (of a zip, the zip) and the blocks of movie_lines.txt and movie_conversations.txt.

    Raises:
        UserError: one of the two files is missing or there are several, or the zip is damaged.
    """
    if path.is_dir():
        inputs = [only_one(path, name, sorted([*path.glob(name), *path.glob(f"*/{name}")])) for name in (LINES, CONVERSATIONS)]
        yield inputs, tuple(dumps.blocks(each, scratch()) for each in inputs)
        return
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, UnicodeDecodeError):  # a version, or names, that zipfile does not read
        raise UserError(
            f"{path}: neither a folder nor a valid zip file; --in must be the corpus with {LINES} and {CONVERSATIONS}"
        ) from None
    with archive:
        everything = archive.namelist()
        members = [
            only_one(path, name, [each for each in everything if PurePosixPath(each).name == name]) for name in (LINES, CONVERSATIONS)
        ]
        yield [path], tuple(zip_blocks(path, archive, each) for each in members)


def only_one(path: Path, name: str, elements: Sequence[Element]) -> Element:
    """The only element. Raises UserError if there is none, or several."""
    if len(elements) == 1:
        return elements[0]
    if elements:
        raise UserError(f"{path}: has {len(elements)} files {name}; keep one")
    raise UserError(f"{path}: has no {name}; --in must be the corpus with {LINES} and {CONVERSATIONS}")


def zip_blocks(path: Path, archive: zipfile.ZipFile, member: str) -> Iterator[bytes]:
    """Decompress a file of a zip as a stream. Raises UserError if it is damaged or encrypted."""
    try:
        with archive.open(member) as file:
            while block := file.read(1 << 20):
                yield block
    # RuntimeError: encrypted; NotImplementedError: a compression method that zipfile does not know; ValueError: a name that is not UTF-8
    except (zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, RuntimeError, OSError, ValueError) as error:
        raise UserError(f"{path}: {member} cannot be read ({cli.first_line(error)}); download it again") from None


def cornell(lines: Iterable[bytes], conversations: Iterable[bytes], counts: Counts) -> Iterator[Pair]:
    """The pairs of the Cornell corpus. lines, conversations: blocks of its two files."""
    turns: dict[str, Turn] = {}
    flaws = counts.of(LINES)
    for name, _, _, _, line in fields_of(lines, 5, flaws):
        if name in turns:
            flaws["duplicate_id"] += 1
        else:
            turns[name] = Turn(name, spoken(line))
    used: set[str] = set()
    of_conversations = counts.of(CONVERSATIONS)
    for *_, listed in fields_of(conversations, 4, of_conversations):
        names = re.findall(r"'([^']*)'", listed) if _LINE_IDS.fullmatch(listed) else None
        if names is None:
            of_conversations["unreadable"] += 1
        elif len(names) < 2:
            of_conversations["single_line"] += 1
        elif len({*names}) < len(names) or not used.isdisjoint(names):
            of_conversations["repeated_line"] += 1
        else:
            used.update(names)
            yield from consecutive("cornell", names[0], "", [turns.get(name) for name in names], counts.dropped)
    flaws.update({"in_no_conversation": alone} if (alone := len(turns.keys() - used)) else {})


def fields_of(blocks: Iterable[bytes], number: int, counts: Counter[str]) -> Iterator[list[str]]:
    """The lines with this number of fields, split. The last field may be empty."""
    for line in lines_of(blocks, counts):
        body = decoded(line, counts)
        if not body.strip():
            counts["blank"] += 1
        elif "\0" in body:
            counts["nul"] += 1
        else:
            fields = (body + " " if body.endswith(SEPARATOR.rstrip()) else body).split(SEPARATOR)
            if len(fields) == number:
                yield fields
            else:
                counts["wrong_fields"] += 1


def decoded(line: bytes, counts: Counter[str]) -> str:
    """Decode a line of ISO-8859-1, or of UTF-8, which no text in ISO-8859-1 happens to be.

    >>> decoded("naïve".encode("latin-1"), Counter()), decoded("naïve".encode(), Counter())
    ('naïve', 'naïve')
    """
    try:
        body = line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")
    if not line.isascii():
        counts["as_utf_8"] += 1
    return body


def consecutive(corpus: str, conversation: str, title: str, turns: Sequence[Turn | None], dropped: Counter[str]) -> Iterator[Pair]:
    """The pairs of consecutive turns of a conversation. None: a turn that does not exist."""
    thread = fullname("t3", corpus, conversation)
    for depth, (one, two) in enumerate(pairwise(turns)):
        if one is None or two is None:
            dropped["missing_line"] += 1
        elif not (one.body and two.body):
            dropped["no_text"] += 1
        else:
            ids = [fullname("t1", corpus, turn.name) for turn in (one, two)]
            yield Pair(
                CORPUS + corpus, thread, title, None, ids[0], one.body, None, one.utc, ids[1], two.body, None, two.utc, depth
            )  # fmt: skip


# --- chitchat-dataset ---------------------------------------------------------------------------------------------------------


@contextmanager
def chitchat_file() -> Iterator[Path]:
    """The data file of the package. Raises UserError if the package is not installed."""
    try:
        file = resources.files("chitchat_dataset") / "dataset.json"
    except ModuleNotFoundError:
        raise UserError(f"--source chitchat: the package {CHITCHAT} is not installed; run `pip install {CHITCHAT}`") from None
    with resources.as_file(file) as path:
        yield path


def chitchat(path: Path, counts: Counts) -> Iterator[Pair]:
    """The pairs of the chats. The submission is the prompt that both people saw; lines are conversations here."""
    flaws = counts.of(path.name)
    try:
        conversations = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({cli.first_line(error)}); install {CHITCHAT} again") from None
    if not isinstance(conversations, dict):
        raise UserError(f"{path}: not the data of the package; install {CHITCHAT} again")
    for key, conversation in conversations.items():
        name = text.well_formed(key)
        flaws["read"] += 1
        try:
            turns = [turn_of(f"{name} {number}", messages) for number, messages in enumerate(conversation["messages"])]
            prompt = without_tags(conversation.get("prompt") or "")
        except (KeyError, TypeError, AttributeError):
            flaws["wrong_type"] += 1
            continue
        if len(turns) < 2:
            flaws["single_line"] += 1
        yield from consecutive("chitchat", name, prompt, turns, counts.dropped)


def turn_of(name: str, messages: Sequence[dict[str, str]]) -> Turn:
    """One person's consecutive messages, as one text with the time of the first one."""
    body = " ".join(filter(None, (without_tags(message["text"]) for message in messages)))
    return Turn(name, body, utc_of(messages[0].get("timestamp")) if messages else None)


def utc_of(written: str | None) -> int | None:
    """Epoch seconds of a time in ISO 8601, UTC if it has no zone. None if it is not one.

    >>> utc_of("1970-01-02T00:00:07Z"), utc_of("1970-01-02T00:00:07"), utc_of("yesterday")
    (86407, 86407, None)
    """
    try:
        time = datetime.fromisoformat(written or "")
    except ValueError:
        return None
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())


# --- files of pairs -----------------------------------------------------------------------------------------------------------


def pairs(name: str, path: Path, counts: Counts) -> Iterator[Pair]:
    """The pairs of a file. Raises UserError if it is neither JSON lines nor CSV with the columns comment and reply."""
    flaws = counts.of(path.name)
    threads = conversations(name, path)
    seen: set[str] = set()
    for comment, reply in (tuple(map(without_tags, each)) for each in texts_of(path, flaws)):
        if not (comment and reply):
            counts.dropped["no_text"] += 1
            continue
        comment_id, reply_id = fullname("t1", name, comment), fullname("t1", name, comment, reply)
        if reply_id in seen:
            counts.dropped["duplicate"] += 1
            continue
        seen.add(reply_id)
        yield Pair(CORPUS + name, threads[comment_id], "", None, comment_id, comment, None, None, reply_id, reply, None, None, None)


def conversations(name: str, path: Path) -> dict[str, str]:
    """comment_id -> thread_id. A comment continues the conversation of a pair whose reply it is: of the pair before it, and, as the pairs
    may be shuffled, of any pair if it is a long text.
    """
    parents: dict[str, str] = {}  # a forest of comment_ids: each tree is a conversation

    def root(node: str) -> str:
        while (parent := parents.setdefault(node, node)) != node:
            parents[node] = node = parents[parent]
        return node

    last_id = last_reply = ""
    for comment, reply in (tuple(map(without_tags, each)) for each in texts_of(path, Counter())):
        if not (comment and reply):
            continue
        comment_id = fullname("t1", name, comment)
        continued = [last_id] if comment == last_reply else []
        followed = [fullname("t1", name, reply)] if len(reply) >= LONG_TEXT else []
        roots = [root(node) for node in (comment_id, *continued, *followed)]
        parents |= dict.fromkeys(roots, min(roots))
        last_id, last_reply = comment_id, reply
    return {node: f"t3_{root(node).removeprefix('t1_')}" for node in [*parents]}
