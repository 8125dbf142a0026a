"""The row types of all files that stages exchange, and the only code that reads and writes these files.

Files are UTF-8 CSV as defined in RFC 4180 (header row, `\\r\\n`, doubled quotes), so text with quotes, commas and newlines is read back
byte for byte. Types are never guessed: `NA`, `null`, `007` and `1e5` in a text column stay text, and an empty number is None.

Each file that the pipeline writes has a manifest next to it (`FILE.manifest.json`) with the row count, the sha256 and the inputs. Data
files are complete at all times, and a manifest always describes the file next to it (see files.write_with_manifest).
For the path `-`, readers use standard input and writers use standard output, without a manifest.
"""

from __future__ import annotations

import csv
import io
import math
import os
import random
import re
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self, TypeVar

from bot import cli, files

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the default limit is 131,072 characters


# --- names in columns -------------------------------------------------------------------------------------------------


class Phrased(StrEnum):
    """Names used in a column (a verdict, a reason, an outcome), each with a phrase that explains it to people.

    >>> class Size(Phrased):
    ...     SMALL = "small", "fits in a pocket"
    >>> Size("small").phrase, str(Size.SMALL), phrases(Size)
    ('fits in a pocket', 'small', {'small': 'fits in a pocket'})
    """

    _value_: str
    phrase: str

    def __new__(cls, name: str, phrase: str) -> Self:
        member = str.__new__(cls, name)
        member._value_ = name
        member.phrase = phrase
        return member


def phrases(*names: type[Phrased]) -> dict[str, str]:
    """The phrase of each name. If a name occurs twice, the last one wins."""
    return {str(each): each.phrase for members in names for each in members}


class Verdict(Phrased):
    """The result for a candidate."""

    CHOSEN = "chosen", "the reply to post: the highest rank score among all candidates that may be posted in its submission"
    KEPT = "kept", "could be posted, but another candidate is better"
    REFUSED = "refused", "must not be posted"


class NotChosen(Phrased):
    """Why a candidate is not chosen, apart from the problems that `conduct.may_say` detects in its text."""

    EMPTY = "empty", "the generator produced no text"
    LOW_REALISM = "low_realism", "realism score below the threshold"
    LOW_RANK = "low_rank", "rank score below the threshold; not replying is better"
    TOO_SHORT = "too_short", "fewer words than choose.minimum_words"
    ECHO = "repeats_comment", "repeats three consecutive words of the comment"
    NOT_BEST = "not_best", "another candidate for the same comment has a better rank score"
    SAME_REPLY = "same_reply_elsewhere", "another comment of this run gets the same reply"
    OTHER_COMMENT = "other_comment_in_submission", "the best candidate for its comment, but another comment in the submission is answered"


class Act(Phrased):
    """What a person did with the reply to a comment."""

    APPROVE = "approve", "approved"
    EDIT = "edit", "edited and approved"
    REJECT = "reject", "rejected"
    SKIP = "skip", "skipped"
    UNDO = "undo", "undone"


# --- rows -------------------------------------------------------------------------------------------------------------
# ids are Reddit fullnames (t1_…, t3_…), *_utc is in epoch seconds, *_score is a probability in [0, 1], karma is Reddit's number.


@dataclass(slots=True)
class Pair:
    """data/raw_data/YYYY-MM.parquet: one reply and its parent."""

    subreddit: str
    thread_id: str
    submission: str
    submission_karma: int | None
    comment_id: str
    comment: str
    comment_karma: int | None
    comment_utc: int | None
    reply_id: str
    reply: str
    reply_karma: int | None
    reply_utc: int | None
    depth: int | None


@dataclass(slots=True)
class FinetuneText:
    """data/prepared/gpt2_finetune.csv: `comment [SEP] reply`, as gpt-2-simple reads it."""

    text: str


@dataclass(slots=True)
class LmRow:
    """data/prepared/lm_{train,val,test}.csv."""

    thread_id: str
    comment_id: str
    reply_id: str
    subreddit: str
    comment: str
    reply: str


@dataclass(slots=True)
class UpvoteRow:
    """data/prepared/upvote_{train,val,test}.csv."""

    thread_id: str
    comment_id: str
    reply_id: str
    subreddit: str
    comment: str
    reply: str
    reply_karma: int
    reply_utc: int | None


@dataclass(slots=True)
class UpvotePair:
    """data/prepared/upvote_pairs_{train,val,test}.csv: two replies to one comment. hours_gap: time of chosen minus time of rejected."""

    thread_id: str
    comment_id: str
    chosen_id: str
    rejected_id: str
    subreddit: str
    comment: str
    chosen: str
    rejected: str
    karma_gap: int
    hours_gap: float


@dataclass(slots=True)
class LabelledRow:
    """data/prepared/relevance_{train,val,test}.csv: label 1 for the comment's own reply, 0 for a reply from another thread."""

    thread_id: str
    comment_id: str
    reply_id: str
    subreddit: str
    comment: str
    reply: str
    label: int


@dataclass(slots=True)
class RankedPair:
    """data/prepared/ranked_pairs.csv: two replies to one comment. Reddit listed `chosen` rank_gap places above `rejected`."""

    subreddit: str
    comment: str
    chosen: str
    rejected: str
    rank_gap: int


@dataclass(slots=True)
class RealismRow:
    """data/prepared/realism_{train,val,test}.csv: label 1 human, 0 generated. generator is empty for a human reply."""

    thread_id: str
    comment_id: str
    reply_id: str
    subreddit: str
    comment: str
    reply: str
    label: int
    generator: str


@dataclass(slots=True)
class Harvested:
    """data/harvest.csv: one of the bot's replies, checked about 1, 24 or 168 hours after posting. replies: number of direct replies."""

    reply_id: str
    comment_id: str
    thread_id: str
    subreddit: str
    comment: str
    reply: str
    age_hours: float
    karma: int
    replies: int
    removed: bool


@dataclass(slots=True)
class ConductLine:
    """data/conduct/{comment,reply}_lines.csv: an invented line. category: name of a reason if `refuse`, otherwise a harmless kind."""

    category: str
    refuse: bool
    text: str


@dataclass(slots=True)
class Graded:
    """A graded candidate, for `train choice` and `train weights`. grade: 0 nonsense or off-topic, 1 weak, 2 acceptable, 3 good."""

    comment_id: str
    comment: str
    reply: str
    log_likelihood: float | None
    grade: int


@dataclass(slots=True)
class LossRow:
    """MODEL/losses.csv: the loss (nats) at a training step. Steps count from 1; 0 is the base model. None: not measured at this step."""

    step: int
    train_loss: float | None
    val_loss: float | None


@dataclass(slots=True)
class Comment:
    """RUN/comments.csv: a comment to answer. depth 0: directly under the submission. submitter: the author of the submission."""

    comment_id: str
    thread_id: str
    subreddit: str
    title: str
    comment: str
    comment_karma: int
    comment_utc: int
    depth: int
    author: str
    over_18: bool
    permalink: str
    submitter: str = ""
    parent_id: str = ""


@dataclass(slots=True)
class Context:
    """RUN/context.csv: another comment in the thread of a comment to answer."""

    thread_id: str
    comment_id: str
    parent_id: str
    comment: str
    author: str = ""


@dataclass(slots=True)
class Skipped:
    """RUN/skipped.csv: a comment that is not answered. reason: a name from fetch or generate."""

    comment_id: str
    thread_id: str
    subreddit: str
    reason: str


@dataclass(slots=True)
class Candidate:
    """RUN/candidates.csv. comment: the comment that it answers. log_likelihood: mean per token, in nats; None if not available."""

    comment_id: str
    candidate_id: str
    seed: int
    comment: str
    reply: str
    generator: str
    log_likelihood: float | None


@dataclass(slots=True)
class Scores:
    """RUN/scores.csv: the rankers' scores of a candidate. A score is None if its ranker is not configured."""

    comment_id: str
    candidate_id: str
    realism_score: float | None
    upvote_score: float | None
    relevance_score: float | None
    rank_score: float | None
    choice_score: float | None = None


@dataclass(slots=True)
class Scored:
    """RUN/scored.csv (every candidate) and RUN/chosen.csv. A score is None if its ranker is not configured. verdict: a `Verdict`."""

    comment_id: str
    thread_id: str
    subreddit: str
    comment: str
    candidate_id: str
    reply: str
    realism_score: float | None
    upvote_score: float | None
    relevance_score: float | None
    rank_score: float | None
    verdict: str
    reason: str
    choice_score: float | None = None


@dataclass(slots=True)
class Submitted:
    """RUN/submitted.csv: one attempt to post `reply`. outcome: a name from Reason, Unfit, Refusal, Outcome or Settled."""

    comment_id: str
    thread_id: str
    candidate_id: str
    outcome: str
    reply_id: str
    event_utc: int
    reply: str = ""


@dataclass(slots=True)
class Approval:
    """RUN/approvals.csv: one act of a person about the reply to a comment, in the order of acting. act: an `Act`.

    candidate_id: the candidate that was shown; before: its text; after: the text to post, empty unless it was approved. reason: why it was
    rejected. comment_sha256: text.fingerprint of the comment that was shown.
    """

    comment_id: str
    thread_id: str
    candidate_id: str
    act: str
    who: str
    event_utc: int
    reason: str
    before: str
    after: str
    comment_sha256: str


@dataclass(slots=True)
class BlindPair:
    """Two candidates for one comment, in the order in which a reader sees them. pick: 1 or 2, the position of the candidate under test.

    by: `verdict`, or the score whose best candidate is the pick. source: the scored file.
    """

    pair_id: str
    source: str
    source_sha256: str
    by: str
    comment_id: str
    subreddit: str
    title: str
    comment: str
    first_id: str
    first: str
    second_id: str
    second: str
    pick: int


@dataclass(slots=True)
class Judgement(BlindPair):
    """judgements.csv: a reader's answer. better: 1, 2, or 0 (equal, or the reader cannot tell). *_acceptable: worth posting."""

    who: str
    judged_utc: int
    better: int
    first_acceptable: bool
    second_acceptable: bool


@dataclass(slots=True)
class SheetRow:
    """sheet.csv: a pair, without any hint which reply is the pick, and three empty cells for the answer. `purge` needs comment_id."""

    pair_id: str
    comment_id: str
    subreddit: str
    title: str
    comment: str
    first: str
    second: str
    better: str = ""
    first_acceptable: str = ""
    second_acceptable: str = ""


@dataclass(slots=True)
class SheetAnswer:
    """answered.csv: what a reader filled in. better: 1, 2 or 0; *_acceptable: 1 or 0, y or n. A row without answers is not judged yet."""

    pair_id: str
    better: str
    first_acceptable: str
    second_acceptable: str


Row = TypeVar("Row")

# Python's int and float also accept ` 7`, `1_000`, digits of other scripts and `nan`. A score of nan would pass every threshold.
_NUMBERS = {int: r"-?[0-9]+", float: r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"}


def columns_of(row_type: type) -> list[str]:
    """The CSV header of a row type, in order.

    >>> columns_of(FinetuneText)
    ['text']
    """
    return [field.name for field in fields(row_type)]


def arrow_schema(row_type: type) -> pa.Schema:
    """The columns of a row type in Parquet."""
    import pyarrow as pa

    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    types = ((name, {*(typing.get_args(kind) or [kind])} - {type(None)}) for name, kind in typing.get_type_hints(row_type).items())
    return pa.schema([(name, kinds[kind.pop()]) for name, kind in types])


def required_columns(row_type: type) -> list[str]:
    """The columns without a default. The others may be missing in files of older versions."""
    return [field.name for field in fields(row_type) if field.default is MISSING]


def write_table(
    path: Path, columns: list[str], rows: Iterable[Mapping[str, Any]], made_from: Mapping[str, Any] | None = None, **extra: Any
) -> int:
    """Write rows (mappings that contain all of `columns`) and the manifest. Returns the number of rows.

    None is written as an empty cell, a bool as 0 or 1, a float so that it is read back unchanged.

    Raises:
        FileError: a text is not valid Unicode (a lone surrogate), or `path` is a link, a folder or a device.
    """
    cells = ([_to_cell(row[column]) for column in columns] for row in rows)
    return write_cells(Path(path), columns, cells, {"made_from": dict(made_from or {}), **extra})


def write_cells(path: Path, header: list[str], rows: Iterable[list[str]], facts: Mapping[str, Any] | None) -> int:
    """Like `write_table`, for cells that are already text. facts: further fields of the manifest; None for no manifest."""
    count = 0

    def write(file: IO[bytes]) -> Mapping[str, Any] | None:
        nonlocal count
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(text)
        writer.writerow(header)
        for cells in rows:
            try:
                writer.writerow(cells)
            except UnicodeEncodeError:
                bad = next(column for column, cell in zip(header, cells, strict=True) if not _is_utf8(cell))
                raise files.FileError(f"{path}: row {count + 1}, column {bad}: text that is not valid Unicode (a lone surrogate)") from None
            count += 1
        text.flush()
        text.detach()
        return None if facts is None else {**facts, "rows": count}

    if path == files.STANDARD:
        write(cli.standard_output())
    else:
        files.write_with_manifest(path, write)
    return count


def write_batches(path: Path, columns: pa.Schema, batches: Iterable[pa.RecordBatch], facts: Mapping[str, Any] | None) -> int:
    """Write a Parquet file and its manifest, as in `write_cells`. Returns the number of rows."""
    import pyarrow.parquet as pq

    count = 0

    def write(file: IO[bytes]) -> Mapping[str, Any] | None:
        nonlocal count
        with pq.ParquetWriter(file, columns, compression="zstd") as writer:
            for batch in batches:
                if len(batch):
                    writer.write_batch(batch)
                count += len(batch)
        return None if facts is None else {**facts, "rows": count}

    files.write_with_manifest(path, write)
    return count


@contextmanager
def open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file for reading. Raises FileError if it is not one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except pa.ArrowException as error:
        raise files.FileError(f"{path}: not a valid Parquet file ({str(error).splitlines()[0]}); create it again") from None


def display_name(path: Path) -> str:
    """The path for messages."""
    return "standard input or output" if path == files.STANDARD else str(path)


def one_line(text: str) -> str:
    """Foreign text for an error message: on one line, at most 200 characters.

    >>> one_line("a\\n b")
    'a b'
    """
    return " ".join(text.split())[:200]


def read_cells(path: Path, required: Sequence[str] = ()) -> Iterator[list[str]]:
    """Yield the header, then the cells of each row as text. required: columns, for the message about an empty file.

    Raises:
        FileError: the file does not exist, is not UTF-8, has a duplicate column, a row of the wrong length, or an unclosed quote.
    """
    where, number = display_name(path), 0
    try:
        with files.open_input(path, encoding="utf-8-sig", newline="") as file:  # spreadsheet programs write a byte order mark
            reader = csv.reader(file, strict=True)
            header = next(reader, None)
            if not header:
                columns = f" with the columns {', '.join(required)}" if required else ""
                raise files.FileError(f"{where}: empty file, expected a header row{columns}")
            doubled = {column for column in header if header.count(column) > 1}
            if doubled:
                raise files.FileError(f"{where}: column {one_line(', '.join(sorted(doubled)))} occurs twice in the header; keep one")
            yield header
            for number, cells in enumerate(reader, start=1):
                if not cells and len(header) > 1:
                    continue  # a blank line, which some editors add at the end
                if len(cells) != len(header):
                    raise files.FileError(
                        f"{where}: row {number} has {len(cells)} cells, but the header has {len(header)}; the file is truncated or not CSV"
                    )
                yield cells
    except (FileNotFoundError, NotADirectoryError):
        raise files.FileError(f"{where}: no such file; run the stage that writes it first, or check the path") from None
    except IsADirectoryError:
        raise files.FileError(f"{where}: a folder, expected a CSV file") from None
    except UnicodeDecodeError as error:
        raise files.FileError(f"{where}: not UTF-8 near row {number + 1} ({error.reason}); save it as UTF-8") from None
    except csv.Error as error:
        raise files.FileError(f"{where}: row {number + 1}: {error}; the file is truncated or not CSV") from None


def read_table(path: Path, required: Sequence[str] = ()) -> tuple[list[str], list[dict[str, str]]]:
    """Read header and rows, with all cells as text.

    Raises:
        FileError: as in `read_cells`, or a required column is missing, or row count or checksum differ from the manifest.
    """
    path = Path(path)
    cells = read_cells(path, required)
    header = next(cells)
    missing = [column for column in required if column not in header]
    if missing:
        raise files.FileError(
            f"{display_name(path)}: expected column{'s' * (len(missing) > 1)} {', '.join(missing)}, found {one_line(', '.join(header))};"
            f" {remedy_for(header, missing)}"
        )
    rows = [dict(zip(header, each, strict=True)) for each in cells]
    files.check_manifest(path, len(rows))
    return header, rows


def plain_names(header: Sequence[str]) -> dict[str, str]:
    """The columns of a header by their names in our notation.

    >>> plain_names(["Comment", "flair "])
    {'comment': 'Comment', 'flair': 'flair '}
    """
    return {column.strip().lower().replace(" ", "_"): column for column in header}


def remedy_for(header: Sequence[str], missing: Sequence[str]) -> str:
    """What to do about missing columns.

    >>> remedy_for(["Comment", "reply "], ["comment", "reply"])
    'rename "Comment" to comment and "reply " to reply'
    >>> remedy_for(["comment;reply"], ["comment", "reply"])
    'its columns are separated by ";"; save it as CSV with commas (in a spreadsheet: "Save as", field delimiter ",")'
    """
    for separator, name in ((";", '";"'), ("\t", "tabs"), ("|", '"|"')):
        if len(header) == 1 and separator in header[0]:
            return f'its columns are separated by {name}; save it as CSV with commas (in a spreadsheet: "Save as", field delimiter ",")'
    plain = plain_names(header)
    if all(column in plain for column in missing):
        return "rename " + " and ".join(f'"{plain[column][:80]}" to {column}' for column in missing)
    return "rename or add it"


def numbers(path: Path, rows: Sequence[Mapping[str, str]], column: str) -> list[float | None]:
    """A column of a table as numbers, None for empty cells; all None if the table does not have it. Raises FileError for other text."""
    result: list[float | None] = []
    for number, row in enumerate(rows, 1):
        try:
            result.append(_from_cell(row.get(column, ""), float | None))
        except ValueError:
            raise files.FileError(
                f"{display_name(path)}, row {number}, {column}: expected a number or nothing, found {one_line(row[column])}; correct it"
            ) from None
    return result


def write_rows(path: Path, row_type: type[Row], rows: Iterable[Row], made_from: Mapping[str, Any] | None = None, **extra: Any) -> int:
    """Write rows of one type and the manifest. Returns the number of rows."""
    columns = columns_of(row_type)
    return write_table(path, columns, ({c: getattr(row, c) for c in columns} for row in rows), made_from, **extra)


def append_rows(path: Path, row_type: type[Row], rows: Iterable[Row]) -> None:
    """Append rows to a file without manifest and flush them to disk. Creates the file if needed. A failed write leaves it unchanged.

    Raises:
        FileError: the file has other columns, a text is not valid Unicode (a lone surrogate), or `path` is a link, a folder or a device.
    """
    columns = columns_of(row_type)
    if kind := files.special_kind(path):
        raise files.FileError(f"{path}: {kind}; give another file")
    if not path.exists():
        write_cells(path, columns, [], None)
    header = next(read_cells(path))
    if header != columns:
        raise files.FileError(f"{path}: expected the columns {', '.join(columns)}, found {one_line(', '.join(header))}; give another file")
    text = io.StringIO(newline="")
    csv.writer(text).writerows([_to_cell(getattr(row, column)) for column in columns] for row in rows)
    try:
        content = text.getvalue().encode()
    except UnicodeEncodeError:
        raise files.FileError(f"{path}: text that is not valid Unicode (a lone surrogate) cannot be written") from None
    with path.open("r+b", buffering=0) as file:
        end = file.seek(-1, os.SEEK_END) + 1
        if file.read(1) != b"\n":  # an editor removed it
            content = b"\r\n" + content
        try:
            while content:
                content = content[file.write(content) or 0 :]
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(end)
            raise


def read_rows(path: Path, row_type: type[Row]) -> list[Row]:
    """Read rows of one type. Columns that the type does not have are ignored. Columns with a default may be missing (older versions).

    Raises:
        FileError: as in `read_table`, or a cell does not have the type of its column.
    """
    types = typing.get_type_hints(row_type)
    header, rows = read_table(path, required_columns(row_type))
    columns = [column for column in columns_of(row_type) if column in header]
    typed = []
    for number, row in enumerate(rows, start=1):
        values = {}
        for column in columns:
            try:
                values[column] = _from_cell(row[column], types[column])
            except ValueError:
                cell, expected = row[column][:40], _type_name(types[column])
                raise files.FileError(f"{path}: row {number}, column {column}: {cell!r} is not {expected}") from None
        typed.append(row_type(**values))
    return typed


def _to_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, float):
        return repr(float(value))
    return str(value)


def _from_cell(cell: str, cell_type: Any) -> Any:
    if cell_type is str:
        return cell
    if cell_type is bool:
        if cell not in ("0", "1"):
            raise ValueError(cell)
        return cell == "1"
    options = typing.get_args(cell_type)
    if options:
        if cell == "":
            return None
        cell_type = next(option for option in options if option is not type(None))
    if not re.fullmatch(_NUMBERS[cell_type], cell):
        raise ValueError(cell)
    number = cell_type(cell)
    if math.isinf(number):  # 1e999
        raise ValueError(cell)
    return number


def _type_name(cell_type: Any) -> str:
    options = typing.get_args(cell_type) or (cell_type,)
    names = {int: "a whole number", float: "a number", bool: "0 or 1", str: "text", type(None): "empty"}
    return " or ".join(names[option] for option in options)


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def sample_rows(rows: list[Any], count: int, seed: int) -> list[Any]:
    """A random sample of `count` rows in their original order; all rows if there are fewer."""
    if len(rows) <= count:
        return list(rows)
    return [rows[index] for index in sorted(random.Random(seed).sample(range(len(rows)), count))]
