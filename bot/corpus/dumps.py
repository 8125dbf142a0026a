"""Dump files as DuckDB tables, with bounded memory.

A monthly dump is named `RC_YYYY-MM` (comments), `RS_YYYY-MM` or `RS_v2_YYYY-MM` (submissions). An archive of one subreddit has all months:
`NAME_comments` and `NAME_submissions`, or `r_NAME_comments` and `r_NAME_posts`; NAME is `u_USER` for the profile of a user.

A dump has one JSON object per line, plain or compressed (.zst with windows up to 2 GiB, .bz2, .gz, .xz), or it is a Parquet file with the
same column names. It is first staged under `OUT/.staged/`, which may be deleted at any time: decompressed as a stream and stored as
Parquet with only the columns that the query needs. Rows are distributed to buckets by a hash of the thread, and the query runs on one
bucket at a time (a reply and its comment are in the same thread), so memory does not grow with the size of the dump.

Author names are staged as hashes, which are sufficient to compare two authors. Names of bots are staged as `_bot`.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
import mmap
import re
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import duckdb
import pyarrow as pa
import sqlglot
import zstandard
from sqlglot import exp

from bot import text
from bot.cli import UserError
from bot.corpus.warehouse import MonthCounts, Selection, add_months, month_start, parameters, prefetch, query, window, write_month
from bot.files import atomic_folder

MAX_WINDOW = 2**31  # bytes; the public dumps are compressed with `--long=31`
MAX_HEADER = 18  # bytes, of a zstd frame (RFC 8878)
LARGE_WINDOW = 2**27  # bytes; a larger window is stored in a file
MEMORY_LIMIT = "1200MB"  # of DuckDB's own buffers; the rest is spilled to disk
REVISION = 4  # of the staged files
TIMES = range(1_104_537_600, 4_102_444_800)  # of comments, in epoch seconds: from 2005 to 2099; other numbers are in another unit
CHUNK_BYTES = 64 << 20  # decompressed bytes staged at a time
MAX_LINE = 16 << 20  # bytes; DuckDB's maximum_object_size. Reddit's longest lines are below 1 MB
BUCKET_BYTES = 48 << 20  # of compressed dumps; about half a million comments
MAX_BUCKETS = 64
BATCH_ROWS = 2_000  # small, because each row repeats the submission, which may have 40,000 characters
SUFFIXES = (".zst", ".bz2", ".gz", ".xz", ".parquet", ".ndjson", ".jsonl", ".json", "")
NUMBERS = ("score", "created_utc")
TEXTS = ("body", "title", "selftext")
_MONTHLY = re.compile(r"(R[CS])_(?:v2_)?(\d{4}-\d\d)")
_ARCHIVE = re.compile(r"(?i)(?:r_)?([\w-]+)_(comments|submissions|posts)")
# Half of a surrogate pair: DuckDB refuses its line. The first pattern is a quick test that may also match behind an escaped backslash.
_MAYBE_LONE = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|[c-fC-F][0-9a-fA-F]{2}(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))"
)
_PAIR_OR_LONE = re.compile(rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})")
_NO_PARENT = re.compile(rb'"parent_id"\s*:\s*null')
OPENERS = {".bz2": bz2.open, ".gz": gzip.open, ".xz": lzma.open}


@dataclass(frozen=True, slots=True)
class Kind:
    """Comments or submissions. keys: keys that are read; required: keys that a usable line must have; thread: SQL for the thread's id."""

    prefix: str
    keys: tuple[str, ...]
    required: tuple[str, ...]
    thread: str


COMMENTS = Kind(
    "RC",
    ("id", "parent_id", "link_id", "subreddit", "author", "body", "score", "created_utc"),
    ("id", "parent_id", "link_id", "subreddit", "body", "created_utc"),
    "link_id",
)
SUBMISSIONS = Kind("RS", ("id", "title", "selftext", "author", "score", "created_utc"), ("id", "title"), "'t3_' || id")


def find(dumps: Path, kind: Kind, month: str) -> Path | None:
    """The dump of a month, or None.

    Raises:
        UserError: there are two dumps, for example .zst and .bz2.
    """
    names = (f"{kind.prefix}_{version}{month}{suffix}" for version in ("", "v2_") for suffix in SUFFIXES)
    matches = [path for name in names if (path := dumps / name).is_file()]
    if len(matches) > 1:
        raise UserError(f"{dumps}: {' and '.join(path.name for path in matches)} are the same month; keep one")
    return matches[0] if matches else None


def months(dumps: Path) -> list[str]:
    """The months that have a monthly dump, in order."""
    return sorted({month for path in dumps.iterdir() if (month := month_of(path))})


def month_of(dump: Path) -> str | None:
    """The month in the name of a monthly dump, or None."""
    match = _MONTHLY.fullmatch(_stem(dump))
    return match[2] if match else None


def _stem(dump: Path) -> str:
    return dump.name.removesuffix(dump.suffix if dump.suffix in SUFFIXES else "")


def archives(dumps: Path) -> dict[Kind, dict[str, Path]]:
    """The archives of single subreddits by kind and by name in lower case.

    Raises:
        UserError: there are two of one subreddit and kind.
    """
    result: dict[Kind, dict[str, Path]] = {COMMENTS: {}, SUBMISSIONS: {}}
    for path in sorted(dumps.iterdir()):
        if (match := _ARCHIVE.fullmatch(_stem(path))) and path.is_file():
            known = result[COMMENTS if match[2].lower() == "comments" else SUBMISSIONS]
            other = known.setdefault(match[1].lower(), path)
            if other is not path:
                raise UserError(f"{dumps}: {other.name} and {path.name} are the same archive; keep one")
    return result


def archive_months(dumps: Path, staging: Path, buckets: int, bots: Collection[str], stable_hash: bool = False) -> dict[Kind, set[str]]:
    """Stage the archives, and return the months of their rows by kind."""
    return {
        kind: {
            month
            for path in paths.values()
            for month in json.loads((stage(path, staging, kind, buckets, bots, stable_hash) / "staged.json").read_text())["months"]
        }
        for kind, paths in archives(dumps).items()
    }


def version(dump: Path) -> list[int]:
    """The version of a dump: its size in bytes and its modification time in nanoseconds."""
    return [dump.stat().st_size, dump.stat().st_mtime_ns]


def files(dumps: Path, month: str, lookback_months: int) -> list[Path]:
    """The dumps needed for the pairs of a month."""
    matches = (find(dumps, kind, each) for each in window(month, lookback_months) for kind in (COMMENTS, SUBMISSIONS))
    return [path for path in matches if path is not None] + [path for paths in archives(dumps).values() for path in paths.values()]


def extract_month(dumps: Path, month: str, selection: Selection, staging: Path, buckets: int, out: IO[bytes]) -> MonthCounts:
    """Write the reply pairs of a month to `out` and count the other rows. If submission files are missing, their columns are empty.

    Raises:
        UserError: the comments of the month are missing, a dump is damaged, or the disk is full.
    """
    shutil.rmtree(staging / "spill", ignore_errors=True)  # left by a killed process
    if find(dumps, COMMENTS, month) is None and not archives(dumps)[COMMENTS]:
        raise UserError(f"{dumps}: no RC_{month}; check --dumps, --from and --to")
    used: list[tuple[Kind, Path, str | None]] = [
        (kind, path, each)
        for each in window(month, selection.lookback_months)
        for kind in (COMMENTS, SUBMISSIONS)
        if (path := find(dumps, kind, each)) is not None
    ]
    used += [(kind, path, None) for kind, paths in archives(dumps).items() for path in paths.values()]
    staged = [(kind, stage(path, staging, kind, buckets, selection.bots), each) for kind, path, each in used]
    sql = duckdb_query()
    values = parameters(month, selection)

    parts_of = {
        (kind, bucket): [part for each, folder, _ in staged if each is kind for part in folder.glob(f"bucket={bucket}/*.parquet")]
        for kind in (COMMENTS, SUBMISSIONS)
        for bucket in range(buckets)
    }

    def rows() -> Iterator[pa.RecordBatch]:
        for bucket in range(buckets):
            with connect(staging) as db:
                for kind, name in ((COMMENTS, "comments"), (SUBMISSIONS, "submissions")):
                    parts = parts_of[kind, bucket]
                    rows = f"SELECT {', '.join(kind.keys)} FROM {_parquet(parts)} WHERE flaw = ''" if parts else _no_rows(kind)
                    db.execute(f"CREATE VIEW {name} AS {rows}")
                yield from db.sql(sql, params=values).to_arrow_reader(BATCH_ROWS)

    try:
        counts = write_month(rows(), out, selection.subreddits)
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{month}: cannot be extracted ({reason}); free some space, or delete {staging}, and try again") from None
    for kind, folder, each in staged:
        if each == month:
            counts.lines[kind.prefix] = staged_lines(folder)
    return counts


def staged_lines(folder: Path) -> dict[str, int]:
    """The counts of a staged dump's lines: "read", and the unusable ones by flaw."""
    lines: dict[str, int] = json.loads((folder / "staged.json").read_text())["lines"]
    return lines


@cache
def duckdb_query() -> str:
    """The query in DuckDB's dialect, with the tables `comments` and `submissions`."""
    tree = sqlglot.parse_one(query("comments", "submissions"), read="bigquery")
    for cte in tree.find_all(exp.CTE):
        # Only narrow tables are materialized. Scanning the wide ones again is cheaper than keeping them in memory.
        cte.set("materialized", cte.alias in ("doubled", "answered"))
    return tree.sql("duckdb")


def buckets_for(dumps: Path, months: list[str], lookback_months: int) -> int:
    """The number of buckets, a power of two, that the largest month needs."""
    whole = sum(compressed_size(path) for paths in archives(dumps).values() for path in paths.values())
    largest = max((sum(compressed_size(path) for path in files(dumps, month, lookback_months)) for month in months), default=whole)
    buckets = 1
    while buckets * BUCKET_BYTES < largest and buckets < MAX_BUCKETS:
        buckets *= 2
    return buckets


def compressed_size(dump: Path) -> int:
    """The size of a dump in bytes; for an uncompressed one, an estimate of its compressed size."""
    return dump.stat().st_size // (1 if dump.suffix in (".zst", ".parquet", *OPENERS) else 8)


def stage(dump: Path, staging: Path, kind: Kind, buckets: int, bots: Collection[str] = (), stable_hash: bool = False) -> Path:
    """Stage the columns of a dump that the query needs as `bucket=B/*.parquet`, unless already done, and return the folder.

    Each line becomes a row. The column `flaw` tells why it is unusable: unreadable (not a JSON object), missing_key, wrong_type (a value is
    not of its key's kind), or '' if it is usable. `staged.json` has the counts of lines: by flaw, as other_month the usable lines outside a
    monthly dump's month, and as months the usable ones of each month.
    bots: more names of bots, in lower case. stable_hash: hash authors by MD5, which never changes. DuckDB's own hash is faster but may
    change with its version.

    Raises:
        UserError: the dump is truncated, has another format, or contains no usable line.
    """
    folder = staging / dump.name
    status = dump.stat()
    # ctime detects a dump that was replaced and has its old modification time.
    made_from = {
        "bytes": status.st_size, "mtime": status.st_mtime_ns, "ctime": status.st_ctime_ns, "buckets": buckets, "revision": REVISION,
        "bot_name": [text.NOT_A_BOT, text.BOT_NAME, *sorted(bots)],
        "author": "md5" if stable_hash else f"hash of DuckDB {duckdb.__version__}",
    }  # fmt: skip
    with suppress(OSError, ValueError, KeyError):  # missing, or damaged by a power failure
        if json.loads((folder / "staged.json").read_text())["made_from"] == made_from:
            return folder
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with atomic_folder(folder, durable=False) as temporary, connect(staging) as db:
            for number, source in enumerate(sources(dump, temporary, db, kind)):
                _write_buckets(db, source, kind, buckets, bots, temporary, number, stable_hash)
            lines: Counter[str] = Counter(read=0)
            by_month: dict[str, int] = {}
            if parts := [*temporary.glob("bucket=*/*.parquet")]:
                lines.update(dict(db.execute(f"SELECT flaw, count(*) FROM {_parquet(parts)} GROUP BY flaw").fetchall()))
                lines["read"], usable = lines.total(), lines.pop("", 0)
                if not usable:
                    raise UserError(f"{dump}: none of its {lines['read']:,} lines is usable ({format_counts(lines)}); is it a Reddit dump?")
                of_row = "strftime(make_timestamp(created_utc * 1000000), '%Y-%m')"
                counted = f"SELECT {of_row}, count(*) FROM {_parquet(parts)} WHERE flaw = '' AND created_utc IS NOT NULL GROUP BY ALL"
                by_month = dict(sorted(db.execute(counted).fetchall()))
                if month := month_of(dump):
                    lines["other_month"] = sum(count for each, count in by_month.items() if each != month)
            for chunk in temporary.glob("chunk*.ndjson"):
                chunk.unlink()
            (temporary / "staged.json").write_text(
                json.dumps(
                    {
                        "made_from": made_from,
                        "lines": {name: count for name, count in lines.items() if count or name == "read"},
                        "months": by_month,
                    }
                )
            )
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        if "maximum_object_size" in str(error):
            raise _line_too_long(dump) from None
        if dump.suffix == ".parquet" and not isinstance(error, duckdb.OutOfMemoryException) and "space" not in reason:
            raise UserError(f"{dump}: not a valid Parquet file ({reason}); download it again") from None
        raise UserError(f"{dump}: cannot be staged in {staging} ({reason}); is the disk full?") from None
    return folder


def format_counts(numbers: Mapping[str, int]) -> str:
    """Format counts by name, the largest first, without `read`.

    >>> format_counts({"read": 9, "missing_key": 1, "unreadable": 1200})
    'unreadable 1,200, missing_key 1'
    """
    return ", ".join(f"{name} {count:,}" for name, count in Counter(numbers).most_common() if name != "read")


def _line_too_long(dump: Path) -> UserError:
    return UserError(f"{dump}: contains a line longer than {MAX_LINE >> 20} MiB, so it is damaged or not a Reddit dump; download it again")


def stage_as_one_file(dumps: Sequence[Path], staging: Path, kind: Kind, month: str, bots: Collection[str] = ()) -> Path:
    """Write the usable lines of a month's dumps to one Parquet file with the columns `kind.keys`. The caller must delete it.

    Of an archive, only the lines of the month are written.
    """
    one = staging / f"{kind.prefix}_{month}.one.parquet"
    inside = f"created_utc >= {month_start(month)} AND created_utc < {month_start(add_months(month, 1))}"
    selects = []
    for dump in dumps:
        if parts := [*stage(dump, staging, kind, 1, bots, stable_hash=True).glob("bucket=*/*.parquet")]:
            only = "TRUE" if month_of(dump) else inside
            selects.append(f"SELECT {', '.join(kind.keys)} FROM {_parquet(parts)} WHERE flaw = '' AND {only}")
    with connect(staging) as db:
        rows = " UNION ALL ".join(selects) or _no_rows(kind)
        db.execute(f"COPY ({rows}) TO {sql_literal(one)} (FORMAT parquet, COMPRESSION zstd)")
    return one


def sources(dump: Path, scratch: Path, db: duckdb.DuckDBPyConnection, kind: Kind) -> Iterator[str]:
    """Yield the pieces of a dump, each a DuckDB relation with `kind.keys` as text, and `odd`: a text is of another type.

    The next piece is decompressed in the background.
    """
    if dump.suffix == ".parquet":
        types = {name: type_ for name, type_, *_ in db.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(dump)]).fetchall()}
        if missing := [key for key in kind.required if key not in types]:
            raise UserError(f"{dump}: expected columns {', '.join(kind.required)}, found {', '.join(types)} ({', '.join(missing)} missing)")
        typed = [f"{_as_text(key, types.get(key))} AS {key}" for key in kind.keys] + ["FALSE AS odd"]
        yield f"(SELECT {', '.join(typed)} FROM read_parquet({sql_literal(dump)}))"
        return
    # Old dumps write numbers as strings, and some as floats. A text is read as JSON, because VARCHAR would accept any other value. So is an
    # id, because the text "12345" is one and the number 12345 is one in base 10.
    columns = ", ".join(f"{key}: '{'JSON' if key in (*TEXTS, 'id') else 'VARCHAR'}'" for key in kind.keys)
    texts = [key for key in kind.keys if key in TEXTS]
    plain = ", ".join(f"CASE WHEN starts_with({key}, '\"') THEN {key} ->> '$' ELSE {key}::VARCHAR END AS {key}" for key in texts)
    odd = " OR ".join(f"NOT starts_with({key}, '\"')" for key in texts)
    for piece in prefetch(chunks(dump, scratch)):
        read = f"read_json({sql_literal(piece)}, format='newline_delimited', columns={{{columns}}}, ignore_errors=true)"
        name = f"CASE WHEN starts_with(id, '\"') THEN id ->> '$' ELSE {_marked_number('id::VARCHAR')} END AS id"
        yield f"(SELECT * REPLACE ({plain}, {name}), coalesce({odd}, FALSE) AS odd FROM {read})"


def chunks(dump: Path, scratch: Path) -> Iterator[Path]:
    """Write complete lines, about CHUNK_BYTES at a time, to two files alternately, so that one is read while the other is filled.

    The files are overwritten in place, because allocating new pages takes as much time as decompression.
    """
    path, other_path = scratch / "chunk0.ndjson", scratch / "chunk1.ndjson"
    with path.open("wb", buffering=0) as file, other_path.open("wb", buffering=0) as other:
        size, at_start = 0, True
        for block in whole_lines(dump, scratch):
            if at_start:
                block, at_start = block.removeprefix(codecs.BOM_UTF8), False
            if size and size + len(block) > CHUNK_BYTES:
                file.truncate()
                yield path
                path, other_path, file, other = other_path, path, other, file
                file.seek(0)
                size = 0
            block = repaired(block)
            _write(file, memoryview(block))
            size += len(block)
        if size:
            file.truncate()
            yield path


def whole_lines(dump: Path, scratch: Path) -> Iterator[bytes]:
    """`blocks` that end with a line, except for the last one. Raises UserError for a line longer than MAX_LINE."""
    rest = b""
    for block in blocks(dump, scratch):
        end = block.rfind(b"\n") + 1
        if end:
            yield rest + block[:end]
            rest = b""
        rest += block[end:]
        if len(rest) > MAX_LINE:
            raise _line_too_long(dump)
    if rest:
        yield rest


def repaired(lines: bytes) -> bytes:
    r"""JSON lines with U+FFFD for half of a surrogate pair, and with `t3_` for a parent that is null, which is the submission.

    >>> repaired(rb'{"body": "\ud83d \\ud83d \ud83d\ude00", "parent_id": null}')
    b'{"body": "\\ufffd \\\\ud83d \\ud83d\\ude00", "parent_id": "t3_"}'
    """
    if _MAYBE_LONE.search(lines):
        lines = _PAIR_OR_LONE.sub(lambda match: rb"\ufffd" if match[1] else match[0], lines)
    return _NO_PARENT.sub(b'"parent_id": "t3_"', lines)


def blocks(dump: Path, scratch: Path) -> Iterator[bytes]:
    """Decompress a dump as a stream.

    Raises:
        UserError: the file is truncated, empty, or does not have the format of its extension.
    """
    try:
        with dump.open("rb") as packed:
            if dump.suffix == ".zst":
                yield from _zstd_blocks(packed, scratch)
            else:
                with OPENERS[dump.suffix](packed) if dump.suffix in OPENERS else packed as plain:  # type: ignore[operator]
                    while block := plain.read(1 << 20):
                        yield block
            if dump.stat().st_size == 0:
                raise EOFError("the file is empty")
    except (zstandard.ZstdError, EOFError, lzma.LZMAError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{dump}: not a valid {dump.suffix[1:] or 'dump'} file ({error}); download it again") from None
    except PermissionError:
        raise UserError(f"{dump}: permission denied; change its permissions") from None
    except OSError as error:
        if dump.suffix == ".bz2" and error.errno is None:  # raised by bz2 for invalid data
            raise UserError(f"{dump}: not a valid bz2 file ({error}); download it again") from None
        raise


def _zstd_blocks(packed: IO[bytes], scratch: Path) -> Iterator[bytes]:
    """Decompress frame by frame. (zstandard's own readers do not detect truncated files.)"""
    head = packed.read(MAX_HEADER)
    packed.seek(0)
    if head and zstandard.get_frame_parameters(head).window_size > LARGE_WINDOW:
        yield from _zstd_blocks_window_on_disk(packed, scratch)
        return
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    frame, whole = None, True
    while piece := packed.read(zstandard.DECOMPRESSION_RECOMMENDED_INPUT_SIZE):
        while piece:
            frame = frame or decompressor.decompressobj()
            yield frame.decompress(piece)
            whole, piece = frame.eof, frame.unused_data
            if whole:
                frame = None
    if not whole:
        raise EOFError("unexpected end of file")


def _zstd_blocks_window_on_disk(packed: IO[bytes], scratch: Path) -> Iterator[bytes]:
    """The same, with zstd's memory in a mapped file, so that a window of 2 GiB is page cache that the system can reclaim.

    zstandard's public interface does not support this; the library underneath does.
    """
    from zstandard._cffi import ffi, lib  # type: ignore[import-not-found]

    size = lib.ZSTD_estimateDStreamSize(MAX_WINDOW)
    with tempfile.TemporaryFile(dir=scratch) as file:
        file.truncate(size)
        with mmap.mmap(file.fileno(), size) as workspace, ffi.from_buffer(workspace) as pinned:
            stream = lib.ZSTD_initStaticDStream(pinned, size)
            lib.ZSTD_DCtx_setParameter(stream, lib.ZSTD_d_windowLogMax, MAX_WINDOW.bit_length() - 1)
            source, target = ffi.new("ZSTD_inBuffer *"), ffi.new("ZSTD_outBuffer *")
            room = ffi.new("char[]", zstandard.DECOMPRESSION_RECOMMENDED_OUTPUT_SIZE)
            left, since = 0, 0  # zstd's estimate of input bytes left in the frame (0: complete); bytes since the window was released
            while piece := packed.read(zstandard.DECOMPRESSION_RECOMMENDED_INPUT_SIZE):
                source.src, source.size, source.pos = ffi.from_buffer(piece), len(piece), 0
                target.dst, target.size, target.pos = room, len(room), len(room)
                while source.pos < source.size or target.pos == target.size:
                    target.pos = 0
                    left = lib.ZSTD_decompressStream(stream, target, source)
                    if lib.ZSTD_isError(left):
                        raise zstandard.ZstdError(ffi.string(lib.ZSTD_getErrorName(left)).decode())
                    yield ffi.buffer(room, target.pos)[:]
                    since += target.pos
                if since > CHUNK_BYTES:
                    workspace.madvise(mmap.MADV_DONTNEED)  # a shared mapping loses no data
                    since = 0
            if left:
                raise EOFError("unexpected end of file")


def connect(scratch: Path) -> duckdb.DuckDBPyConnection:
    """Open an in-memory DuckDB with a memory limit. It spills to `scratch` and deletes its files there."""
    settings: dict[str, Any] = {"memory_limit": MEMORY_LIMIT, "temp_directory": str(scratch / "spill"), "preserve_insertion_order": False}
    return duckdb.connect(config=settings)


def sql_literal(value: object) -> str:
    """An SQL string literal, for file names and patterns, where DuckDB does not accept parameters.

    >>> sql_literal("it's")
    "'it''s'"
    """
    return "'" + str(value).replace("'", "''") + "'"


def _marked_number(value: str) -> str:
    """SQL that marks a number, which isn't a text of digits, by a decimal point: 12345 becomes 12345.0."""
    return f"CASE WHEN regexp_full_match({value}, '[0-9]+') THEN {value} || '.0' ELSE {value} END"


def _plain_id(value: str, digits: str) -> str:
    """SQL for the id without prefix: as it is, or a number in base 10. NULL for anything else.

    digits: a pattern of texts that may be numbers or ids, and are taken for numbers. "1e5" is an id, 1.5e9 is a number.
    """
    number = f"TRY_CAST(TRY_CAST({value} AS DOUBLE) AS BIGINT)"
    return f"""CASE WHEN {value}[3:3] = '_' AND {value}[1:2] IN ('t1', 't3') THEN {value}[4:]
        WHEN regexp_full_match({value}, '{digits}|[0-9]+[.](0*|[0-9]*[eE][+]?[0-9]+)|[0-9]+[eE][+][0-9]+') THEN lower(to_base({number}, 36))
        WHEN regexp_full_match({value}, '[0-9A-Za-z_]+') AND {value} NOT IN ('true', 'false') THEN {value} END"""


def _fullname(value: str, prefix: str) -> str:
    """SQL for the fullname of an id: with its prefix, without it, or a number in base 10. NULL for anything else."""
    return f"CASE WHEN {value}[1:3] IN ('t1_', 't3_') THEN {value} ELSE '{prefix}' || {_plain_id(value, '[0-9]+')} END"


def _write_buckets(
    db: duckdb.DuckDBPyConnection,
    source: str,
    kind: Kind,
    buckets: int,
    bots: Collection[str],
    folder: Path,
    number: int,
    stable_hash: bool,
) -> None:
    """Write one piece of a dump to its buckets."""
    digest = "md5_number_lower" if stable_hash else "hash"
    names = ", ".join(map(sql_literal, sorted(bots))) or "''"
    shape = f"regexp_matches(regexp_replace(author, {sql_literal(text.NOT_A_BOT)}, '_', 'g'), {sql_literal(text.BOT_NAME)})"
    pseudonym = f"""CASE WHEN author IS NULL OR author = '[deleted]' THEN '[deleted]'
        WHEN lower(author) IN ({names}) OR {shape} THEN '_bot' ELSE 'u' || {digest}(author) END AS author"""
    whole = "TRY_CAST(TRY_CAST({0} AS DOUBLE) AS BIGINT)".format  # some dumps write 1514764800.0
    ids = [f"{_plain_id('id', '[0-9]{9,}')} AS id"]  # a text of digits: ids have at most 8 characters
    if kind is COMMENTS:
        link = _fullname("link_id", "t3_")
        submission = f"parent_id = 't3_' OR 't3_' || parent_id = link_id OR {_fullname('parent_id', 't3_')} = {link}"
        parent = f"CASE WHEN {submission} THEN {link} ELSE {_fullname('parent_id', 't1_')} END"
        ids += [f"{parent} AS parent_id", f"{link} AS link_id"]
        ids += ["CASE WHEN subreddit[1:1] NOT IN ('{', '[') THEN subreddit END AS subreddit"]
    mistyped = [
        "odd",
        f"created_utc IS NOT NULL AND NOT coalesce({whole('created_utc')} BETWEEN {TIMES.start} AND {TIMES.stop}, false)",
        *(f"({each.rpartition(' AS ')[0]}) IS NULL" for each in ids),
    ]
    flaw = f"""CASE WHEN {" AND ".join(f"{key} IS NULL" for key in kind.keys)} THEN 'unreadable'
        WHEN {" OR ".join(f"{key} IS NULL" for key in kind.required)} THEN 'missing_key'
        WHEN {" OR ".join(mistyped)} THEN 'wrong_type' ELSE '' END AS flaw"""
    replaced = ", ".join([pseudonym, f"{whole('score')} AS score", f"{whole('created_utc')} AS created_utc", *ids])
    rows = f"SELECT * EXCLUDE (odd) REPLACE ({replaced}), {flaw} FROM {source}"
    if buckets == 1:  # partitioning would take a fifth of the time of staging
        (folder / "bucket=0").mkdir(exist_ok=True)
        path = sql_literal(folder / "bucket=0" / f"piece{number}_0.parquet")
        db.execute(f"COPY ({rows}) TO {path} (FORMAT parquet, COMPRESSION zstd, WRITE_EMPTY_FILE false)")
        return
    db.execute(
        f"COPY (SELECT *, coalesce(hash({kind.thread}) % {buckets}, 0) AS bucket FROM ({rows}))"
        f" TO {sql_literal(folder)} (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (bucket), FILENAME_PATTERN 'piece{number}_{{i}}',"
        f" OVERWRITE_OR_IGNORE)"
    )


def _no_rows(kind: Kind) -> str:
    return "SELECT " + ", ".join(f"NULL::{'BIGINT' if key in NUMBERS else 'VARCHAR'} AS {key}" for key in kind.keys) + " LIMIT 0"


def _parquet(parts: list[Path]) -> str:
    return f"read_parquet([{', '.join(map(sql_literal, parts))}], hive_partitioning=false)"


def _as_text(key: str, type_: str | None) -> str:
    """SQL that converts a column of a Parquet dump to the text in a JSON dump."""
    if type_ is None:
        return "NULL"
    if key == "parent_id":
        return f"coalesce({key}::VARCHAR, 't3_')"  # see `repaired`
    if key == "id" and type_ != "VARCHAR":
        return _marked_number(f"{key}::VARCHAR")
    return f"epoch({key})::BIGINT::VARCHAR" if type_.startswith("TIMESTAMP") else f"{key}::VARCHAR"


def _write(file: IO[bytes], view: memoryview) -> None:
    while view:
        view = view[file.write(view) :]
