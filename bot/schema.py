"""The row types of every file that stages exchange, and the only code that reads and writes them.

Files are UTF-8 CSV as RFC 4180 has it (header row, `\\r\\n`, quotes doubled), so text with quotes, commas and newlines comes back
byte for byte. Nothing is guessed: `NA`, `null`, `007` and `1e5` in a text column stay text, and an empty number is None.

Each file that the pipeline writes has a manifest beside it (`FILE.manifest.json`): row count, sha256, and what it was made from. A data
file is whole at every moment, and a manifest, where there is one, always speaks of the file beside it (files.write_with_manifest).
The path `-` is standard input to the readers and standard output, without a manifest, to the writers.
"""

from __future__ import annotations

import csv
import io
import math
import random
import re
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self, TypeVar

from bot import cli, files

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the default refuses bodies over 131,072 characters


# --- names in columns -------------------------------------------------------------------------------------------------


class Phrased(StrEnum):
    """Names that stand in a column (a verdict, a reason, an outcome), each with the phrase that explains it to people.

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
    """The phrase of each name; where two have the same name, that of the last one."""
    return {str(each): each.phrase for members in names for each in members}


class Verdict(Phrased):
    """What became of a candidate."""

    CHOSEN = "chosen", "the reply to post: the best rank score of all that may be posted in its submission"
    KEPT = "kept", "could have been posted, but another candidate is better"
    REFUSED = "refused", "may not be posted"


class NotChosen(Phrased):
    """Why a candidate isn't chosen, besides the faults that `conduct.may_say` finds in its text."""

    EMPTY = "empty", "the generator gave no text"
    LOW_REALISM = "low_realism", "realism score under the threshold"
    NOT_BEST = "not_best", "another candidate for the same comment has a better rank score"
    OTHER_COMMENT = "other_comment_in_submission", "the best for its comment, but another comment of the submission is answered"


# --- rows -------------------------------------------------------------------------------------------------------------
# ids are Reddit fullnames (t1_…, t3_…), *_utc epoch seconds, *_score probabilities in [0, 1], karma Reddit's own number.


@dataclass(slots=True)
class Pair:
    """data/raw_data/YYYY-MM.parquet: one reply and what it answers."""

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
    """data/prepared/upvote_pairs_{train,val,test}.csv: two replies to one comment; hours_gap = chosen's time - rejected's, in hours."""

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
    """data/prepared/relevance_{train,val,test}.csv: label 1 belongs, 0 taken from elsewhere."""

    thread_id: str
    comment_id: str
    reply_id: str
    subreddit: str
    comment: str
    reply: str
    label: int


@dataclass(slots=True)
class RankedPair:
    """data/prepared/ranked_pairs.csv: two replies to one comment of which Reddit listed `chosen` rank_gap places above `rejected`."""

    subreddit: str
    comment: str
    chosen: str
    rejected: str
    rank_gap: int


@dataclass(slots=True)
class RealismRow:
    """data/prepared/realism_{train,val,test}.csv: label 1 human, 0 generated; generator is empty for a person."""

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
    """data/harvest.csv: a reply of ours, looked at about 1, 24 or 168 hours after it was posted. replies: how many stand under it."""

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
class LossRow:
    """MODEL/losses.csv: the loss (nats) of a training step, counted from 1 (0: the base); None where it wasn't measured then."""

    step: int
    train_loss: float | None
    val_loss: float | None


@dataclass(slots=True)
class Comment:
    """RUN/comments.csv: a comment taken up. depth 0 = directly under the submission."""

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


@dataclass(slots=True)
class Context:
    """RUN/context.csv: another comment of a thread that was taken up."""

    thread_id: str
    comment_id: str
    parent_id: str
    comment: str
    author: str = ""


@dataclass(slots=True)
class Skipped:
    """RUN/skipped.csv: a comment not taken up; reason is one of fetch's or generate's names."""

    comment_id: str
    thread_id: str
    subreddit: str
    reason: str


@dataclass(slots=True)
class Candidate:
    """RUN/candidates.csv. comment: what it answers. log_likelihood: mean per token, natural log, None where a back end can't tell."""

    comment_id: str
    candidate_id: str
    seed: int
    comment: str
    reply: str
    generator: str
    log_likelihood: float | None


@dataclass(slots=True)
class Scores:
    """RUN/scores.csv: what the rankers say of a candidate. A score without a ranker is None."""

    comment_id: str
    candidate_id: str
    realism_score: float | None
    upvote_score: float | None
    relevance_score: float | None
    rank_score: float | None


@dataclass(slots=True)
class Scored:
    """RUN/scored.csv, every candidate, and RUN/chosen.csv. A score without a ranker is None. verdict: a `Verdict`."""

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


@dataclass(slots=True)
class Submitted:
    """RUN/submitted.csv: one attempt to post `reply`; outcome: a name from Reason, Unfit, Refusal, Outcome or Settled."""

    comment_id: str
    thread_id: str
    candidate_id: str
    outcome: str
    reply_id: str
    event_utc: int
    reply: str = ""


Row = TypeVar("Row")

# Python also takes ` 7`, `1_000`, other scripts' digits and `nan` for numbers: a score of nan would pass every threshold.
_NUMBERS = {int: r"-?[0-9]+", float: r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"}


def columns_of(row_type: type) -> list[str]:
    """The CSV header of a row type, in order.

    >>> columns_of(FinetuneText)
    ['text']
    """
    return [field.name for field in fields(row_type)]


def required_columns(row_type: type) -> list[str]:
    """Those without a default: the others may be missing in a file of an older version."""
    return [field.name for field in fields(row_type) if field.default is MISSING]


def write_table(
    path: Path, columns: list[str], rows: Iterable[Mapping[str, Any]], made_from: Mapping[str, Any] | None = None, **extra: Any
) -> int:
    """Write rows (mappings that have all of `columns`) and the manifest; returns the number of rows. `-` is standard output.

    None is written as an empty cell, a bool as 0 or 1, a float so that it reads back equal.

    Raises:
        FileError: text that UTF-8 can't hold (a lone surrogate), naming row and column; `path` is a link, a folder or a device.
    """
    cells = ([_to_cell(row[column]) for column in columns] for row in rows)
    return write_cells(Path(path), columns, cells, {"made_from": dict(made_from or {}), **extra})


def write_cells(path: Path, header: list[str], rows: Iterable[list[str]], facts: Mapping[str, Any] | None) -> int:
    """The same for cells that are text already. facts: what the manifest says beside rows and checksum; None for no manifest."""
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
    """A Parquet file of these columns, and its manifest as for `write_cells`; returns the number of rows."""
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
def parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """A Parquet file to read. Raises FileError where it isn't one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except pa.ArrowException as error:
        raise files.FileError(f"{path}: not a whole Parquet file ({str(error).splitlines()[0]}); extract that month again") from None


def named(path: Path) -> str:
    """For a message."""
    return "standard input or output" if path == files.STANDARD else str(path)


def one_line(text: str) -> str:
    """A text of somebody else's for an error: no line breaks, at most 200 characters.

    >>> one_line("a\\n b")
    'a b'
    """
    return " ".join(text.split())[:200]


def read_cells(path: Path) -> Iterator[list[str]]:
    """The header, then the cells of each row as the text that stands in the file, one row at a time.

    Raises:
        FileError: no such file, not UTF-8, a doubled column, a row of another length, or an unclosed quote (a truncated file).
    """
    where, number = named(path), 0
    try:
        with files.open_input(path, encoding="utf-8-sig", newline="") as file:  # other people's spreadsheets write a byte order mark
            reader = csv.reader(file, strict=True)
            header = next(reader, None)
            if not header:
                raise files.FileError(f"{where}: empty file, expected a header row")
            doubled = {column for column in header if header.count(column) > 1}
            if doubled:
                raise files.FileError(f"{where}: column {one_line(', '.join(sorted(doubled)))} stands twice in the header; keep one")
            yield header
            for number, cells in enumerate(reader, start=1):
                if not cells and len(header) > 1:
                    continue  # a blank line, as editors leave at the end
                if len(cells) != len(header):
                    raise files.FileError(
                        f"{where}: row {number} has {len(cells)} cells, the header {len(header)}; the file is truncated or not CSV"
                    )
                yield cells
    except FileNotFoundError:
        raise files.FileError(f"{where}: no such file; run the stage that writes it first, or check the path") from None
    except IsADirectoryError:
        raise files.FileError(f"{where}: a folder, expected a CSV file") from None
    except UnicodeDecodeError as error:
        raise files.FileError(f"{where}: not UTF-8 near row {number + 1} ({error.reason}); save it as UTF-8") from None
    except csv.Error as error:
        raise files.FileError(f"{where}: row {number + 1}: {error}; the file is truncated or not CSV") from None


def read_table(path: Path, required: Iterable[str] = ()) -> tuple[list[str], list[dict[str, str]]]:
    """Header and rows, every cell the text that stands in the file.

    Raises:
        FileError: as `read_cells`, a required column is missing, or a manifest beside the file says another row count or checksum.
    """
    path = Path(path)
    cells = read_cells(path)
    header = next(cells)
    missing = [column for column in required if column not in header]
    if missing:
        raise files.FileError(
            f"{named(path)}: expected column{'s' * (len(missing) > 1)} {', '.join(missing)}, found {one_line(', '.join(header))};"
            " rename or add"
        )
    rows = [dict(zip(header, each, strict=True)) for each in cells]
    files.check_manifest(path, len(rows))
    return header, rows


def write_rows(path: Path, row_type: type[Row], rows: Iterable[Row], made_from: Mapping[str, Any] | None = None, **extra: Any) -> int:
    """Write rows of one type with their manifest; returns the number of rows."""
    columns = columns_of(row_type)
    return write_table(path, columns, ({c: getattr(row, c) for c in columns} for row in rows), made_from, **extra)


def read_rows(path: Path, row_type: type[Row]) -> list[Row]:
    """Rows of one type; columns that the type doesn't have are left out, and a file of an older version may lack those that have a default.

    Raises:
        FileError: as `read_table`, or a cell that isn't of its column's type.
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
                found, wanted = row[column][:40], _type_name(types[column])
                raise files.FileError(f"{path}: row {number}, column {column}: {found!r} is not {wanted}") from None
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


def _from_cell(cell: str, wanted: Any) -> Any:
    if wanted is str:
        return cell
    if wanted is bool:
        if cell not in ("0", "1"):
            raise ValueError(cell)
        return cell == "1"
    options = typing.get_args(wanted)
    if options:
        if cell == "":
            return None
        wanted = next(option for option in options if option is not type(None))
    if not re.fullmatch(_NUMBERS[wanted], cell):
        raise ValueError(cell)
    number = wanted(cell)
    if math.isinf(number):  # 1e999
        raise ValueError(cell)
    return number


def _type_name(wanted: Any) -> str:
    options = typing.get_args(wanted) or (wanted,)
    names = {int: "a whole number", float: "a number", bool: "0 or 1", str: "text", type(None): "empty"}
    return " or ".join(names[option] for option in options)


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def sample_rows(rows: list[Any], count: int, seed: int) -> list[Any]:
    """`count` rows by chance (all where there are fewer), in the order they had."""
    if len(rows) <= count:
        return list(rows)
    return [rows[index] for index in sorted(random.Random(seed).sample(range(len(rows)), count))]
