"""Monthly dump files (`RC_YYYY-MM` comments, `RS_YYYY-MM` submissions) as DuckDB tables, whatever their size.

A dump is one JSON object a line, plain or compressed (.zst with windows up to 2 GiB, .bz2, .gz, .xz), or Parquet with the same names. It
is first staged under `OUT/.staged/`, which may be deleted at any time: decompressed as a stream and kept as the few columns that the
query needs, in Parquet. Threads are shared out to buckets by hash, and the query runs on one bucket at a time (a reply and its comment
have the same thread), so memory doesn't grow with the dump.

An author's name is staged as a hash, which suffices to tell that two are the same; a name that bots give themselves as `_bot`.
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
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import duckdb
import pyarrow as pa
import sqlglot
import zstandard
from sqlglot import exp

from bot import text
from bot.cli import UserError
from bot.corpus.warehouse import MonthCounts, Wanted, add_months, ahead, month_start, parameters, query, window, write_month
from bot.files import atomic_folder

LONGEST_WINDOW = 2**31  # bytes; the public dumps are compressed with `--long=31`
LONGEST_HEADER = 18  # bytes, of a zstd frame (RFC 8878)
LARGE_WINDOW = 2**27  # bytes; a larger one is kept in a file
MEMORY_LIMIT = "1200MB"  # of DuckDB's own buffers; what doesn't fit goes to the disk
CHUNK_BYTES = 64 << 20  # decompressed, staged at once
LONGEST_LINE = 16 << 20  # bytes; DuckDB's maximum_object_size. Reddit's longest are under 1 MB
BUCKET_BYTES = 48 << 20  # of compressed dumps; about half a million comments
MOST_BUCKETS = 64
BATCH_ROWS = 2_000  # a submission of 40,000 characters stands in each row of its replies
SUFFIXES = (".zst", ".bz2", ".gz", ".xz", ".parquet", ".ndjson", ".jsonl", ".json", "")
NUMBERS = ("score", "created_utc")
OPENERS = {".bz2": bz2.open, ".gz": gzip.open, ".xz": lzma.open}


@dataclass(frozen=True, slots=True)
class Kind:
    """Comments or submissions. keys: what is read of a line; needed: without these a line is of no use; thread: its thread's fullname."""

    prefix: str
    keys: tuple[str, ...]
    needed: tuple[str, ...]
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
        UserError: there are two, such as .zst and .bz2.
    """
    found = [path for suffix in SUFFIXES if (path := dumps / f"{kind.prefix}_{month}{suffix}").is_file()]
    if len(found) > 1:
        raise UserError(f"{dumps}: {' and '.join(path.name for path in found)} are the same month; keep one")
    return found[0] if found else None


def months(dumps: Path) -> list[str]:
    """Months for which there is a dump, in order."""
    names = (path.name.removesuffix(path.suffix if path.suffix in SUFFIXES else "") for path in dumps.iterdir())
    return sorted({name[3:] for name in names if re.fullmatch(r"R[CS]_\d{4}-\d\d", name)})


def version(dump: Path) -> list[int]:
    """What tells a dump from another of its name: bytes, and when it was written (ns)."""
    return [dump.stat().st_size, dump.stat().st_mtime_ns]


def files(dumps: Path, month: str, lookback_months: int) -> list[Path]:
    """The dumps that the month's pairs are made from."""
    found = (find(dumps, kind, each) for each in window(month, lookback_months) for kind in (COMMENTS, SUBMISSIONS))
    return [path for path in found if path is not None]


def extract_month(dumps: Path, month: str, wanted: Wanted, staging: Path, buckets: int, out: IO[bytes]) -> MonthCounts:
    """Write the month's reply pairs to `out` and count what isn't one. Submission files may be missing; then those columns are empty.

    Raises:
        UserError: the month's comments are missing, a dump is damaged, or the disk is full.
    """
    shutil.rmtree(staging / "spill", ignore_errors=True)  # of a process that was killed
    if find(dumps, COMMENTS, month) is None:
        raise UserError(f"{dumps}: no RC_{month}; check --dumps, --from and --to")
    staged = [
        (kind, stage(path, staging, kind, buckets), each)
        for each in window(month, wanted.lookback_months)
        for kind in (COMMENTS, SUBMISSIONS)
        if (path := find(dumps, kind, each)) is not None
    ]
    sql = translated()
    values = parameters(month, wanted)

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
        counts = write_month(rows(), month, out)
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{month}: can't be made ({reason}); free some space, or delete {staging}, and try again") from None
    for kind, folder, each in staged:
        if each == month:
            counts.lines[kind.prefix] = json.loads((folder / "staged.json").read_text())["lines"]
    return counts


def translated() -> str:
    """The query in DuckDB's dialect, over tables `comments` and `submissions`."""
    tree = sqlglot.parse_one(query("comments", "submissions"), read="bigquery")
    for cte in tree.find_all(exp.CTE):
        # Wide tables are cheaper scanned again than kept in memory; narrow ones are kept.
        cte.set("materialized", cte.alias in ("doubled", "answered"))
    return tree.sql("duckdb")


def buckets_for(dumps: Path, months: list[str], lookback_months: int) -> int:
    """How many buckets the largest of the months needs, a power of two."""
    largest = max(sum(size_when_packed(path) for path in files(dumps, month, lookback_months)) for month in months)
    buckets = 1
    while buckets * BUCKET_BYTES < largest and buckets < MOST_BUCKETS:
        buckets *= 2
    return buckets


def size_when_packed(dump: Path) -> int:
    return dump.stat().st_size // (1 if dump.suffix in (".zst", ".parquet", *OPENERS) else 8)


def stage(dump: Path, staging: Path, kind: Kind, buckets: int, lasting: bool = False) -> Path:
    """Keep what the query needs of one dump as `bucket=B/*.parquet` in a folder, and return that; nothing is done if it is there already.

    Each line is a row; `flaw` says why it can't be used: unreadable (not a JSON object), missing_key, wrong_type (its time is no
    number), or '' if it can. `staged.json` counts them, and under other_month the usable lines whose time lies outside the dump's month.
    `lasting`: authors' hashes must be the same in years to come. DuckDB's own hash is quicker to make, but may change with its version.

    Raises:
        UserError: the dump is cut off, of another format, or none of its lines is usable.
    """
    folder = staging / dump.name
    status = dump.stat()
    # The time of the last change tells a dump that was put back with its old modification time.
    made_from = {
        "bytes": status.st_size, "mtime": status.st_mtime_ns, "ctime": status.st_ctime_ns, "buckets": buckets, "bot_name": text.BOT_NAME,
        "author": "md5" if lasting else f"hash of DuckDB {duckdb.__version__}",
    }  # fmt: skip
    with suppress(OSError, ValueError, KeyError):  # not there, or not whole after a power cut
        if json.loads((folder / "staged.json").read_text())["made_from"] == made_from:
            return folder
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with atomic_folder(folder, durable=False) as temporary, connect(staging) as db:
            for number, source in enumerate(sources(dump, temporary, db, kind)):
                _keep(db, source, kind, buckets, temporary, number, lasting)
            lines: Counter[str] = Counter(read=0)
            if parts := [*temporary.glob("bucket=*/*.parquet")]:
                lines.update(dict(db.execute(f"SELECT flaw, count(*) FROM {_parquet(parts)} GROUP BY flaw").fetchall()))
                lines["read"], usable = lines.total(), lines.pop("", 0)
                if not usable:
                    raise UserError(f"{dump}: none of its {lines['read']:,} lines is usable ({counted(lines)}); is it a dump of Reddit?")
                month = dump.name[3:10]
                inside = f"created_utc >= {month_start(month)} AND created_utc < {month_start(add_months(month, 1))}"
                ((lines["other_month"],),) = db.execute(
                    f"SELECT count(*) FROM {_parquet(parts)} WHERE flaw = '' AND created_utc IS NOT NULL AND NOT ({inside})"
                ).fetchall()
            for chunk in temporary.glob("chunk*.ndjson"):
                chunk.unlink()
            (temporary / "staged.json").write_text(
                json.dumps({"made_from": made_from, "lines": {name: count for name, count in lines.items() if count or name == "read"}})
            )
    except duckdb.Error as error:
        said = str(error).splitlines()[0]
        if "maximum_object_size" in str(error):
            raise _line_too_long(dump) from None
        if dump.suffix == ".parquet" and not isinstance(error, duckdb.OutOfMemoryException) and "space" not in said:
            raise UserError(f"{dump}: not a whole Parquet file ({said}); download it again") from None
        raise UserError(f"{dump}: can't be staged in {staging} ({said}); is the disk full?") from None
    return folder


def counted(numbers: Mapping[str, int]) -> str:
    """Counts in words, the largest first; `read` isn't one of them.

    >>> counted({"read": 9, "missing_key": 1, "unreadable": 1200})
    'unreadable 1,200, missing_key 1'
    """
    return ", ".join(f"{name} {count:,}" for name, count in Counter(numbers).most_common() if name != "read")


def _line_too_long(dump: Path) -> UserError:
    return UserError(
        f"{dump}: a line of it is longer than {LONGEST_LINE >> 20} MiB, so it is no dump of Reddit, or damaged; download it again"
    )


def as_one_file(dump: Path, staging: Path, kind: Kind) -> Path:
    """The usable lines of a dump, staged, as one Parquet file with `kind.keys`; to be deleted by the caller."""
    folder = stage(dump, staging, kind, 1, lasting=True)
    one = staging / f"{dump.name}.one.parquet"
    with connect(staging) as db:
        parts = [*folder.glob("bucket=*/*.parquet")]
        rows = f"SELECT {', '.join(kind.keys)} FROM {_parquet(parts)} WHERE flaw = ''" if parts else _no_rows(kind)
        db.execute(f"COPY ({rows}) TO {quoted(one)} (FORMAT parquet, COMPRESSION zstd)")
    return one


def sources(dump: Path, scratch: Path, db: duckdb.DuckDBPyConnection, kind: Kind) -> Iterator[str]:
    """The dump piece by piece, each a relation of DuckDB with `kind.keys` as text. While one piece is used the next is decompressed."""
    if dump.suffix == ".parquet":
        found = {name: type_ for name, type_, *_ in db.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(dump)]).fetchall()}
        if missing := [key for key in kind.needed if key not in found]:
            raise UserError(f"{dump}: expected columns {', '.join(kind.needed)}, found {', '.join(found)} ({', '.join(missing)} missing)")
        typed = [f"{_as_text(key, found.get(key))} AS {key}" for key in kind.keys]
        yield f"(SELECT {', '.join(typed)} FROM read_parquet({quoted(dump)}))"
        return
    columns = ", ".join(f"{key}: 'VARCHAR'" for key in kind.keys)  # old dumps write numbers as strings, and some as floats
    for piece in ahead(chunks(dump, scratch)):
        yield f"read_json({quoted(piece)}, format='newline_delimited', columns={{{columns}}}, ignore_errors=true)"


def chunks(dump: Path, scratch: Path) -> Iterator[Path]:
    """Whole lines of the dump, about CHUNK_BYTES at a time, in two files by turns: one is read while the other is filled.

    They are written over in place, since new pages cost as much time as decompression does.
    """
    path, other_path = scratch / "chunk0.ndjson", scratch / "chunk1.ndjson"
    with path.open("wb", buffering=0) as file, other_path.open("wb", buffering=0) as other:
        size, at_start = 0, True
        for block in blocks(dump, scratch):
            if at_start and block:
                block, at_start = block.removeprefix(codecs.BOM_UTF8), False
            rest = memoryview(block)
            if size + len(block) >= CHUNK_BYTES and (end := block.rfind(b"\n") + 1):
                _write(file, rest[:end])
                file.truncate()
                yield path
                path, other_path, file, other = other_path, path, other, file
                file.seek(0)
                size, rest = 0, rest[end:]
            _write(file, rest)
            size += len(rest)
            if size > CHUNK_BYTES + LONGEST_LINE:
                raise _line_too_long(dump)
        if size:
            file.truncate()
            yield path


def blocks(dump: Path, scratch: Path) -> Iterator[bytes]:
    """What the dump holds, decompressed as a stream.

    Raises:
        UserError: the file is cut off, empty or not of the format that its name says.
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
                raise EOFError("it is empty")
    except (zstandard.ZstdError, EOFError, lzma.LZMAError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{dump}: not a whole {dump.suffix[1:] or 'dump'} file ({error}); download it again") from None
    except PermissionError:
        raise UserError(f"{dump}: may not be read; change its permissions") from None
    except OSError as error:
        if dump.suffix == ".bz2" and error.errno is None:  # what bz2 raises for garbled bytes
            raise UserError(f"{dump}: not a whole bz2 file ({error}); download it again") from None
        raise


def _zstd_blocks(packed: IO[bytes], scratch: Path) -> Iterator[bytes]:
    """Frame after frame. (zstandard's own readers take a cut file for a whole one.)"""
    head = packed.read(LONGEST_HEADER)
    packed.seek(0)
    if head and zstandard.get_frame_parameters(head).window_size > LARGE_WINDOW:
        yield from _zstd_blocks_window_on_disk(packed, scratch)
        return
    decompressor = zstandard.ZstdDecompressor(max_window_size=LONGEST_WINDOW)
    frame, whole = None, True
    while piece := packed.read(zstandard.DECOMPRESSION_RECOMMENDED_INPUT_SIZE):
        while piece:
            frame = frame or decompressor.decompressobj()
            yield frame.decompress(piece)
            whole, piece = frame.eof, frame.unused_data
            if whole:
                frame = None
    if not whole:
        raise EOFError("it ends early")


def _zstd_blocks_window_on_disk(packed: IO[bytes], scratch: Path) -> Iterator[bytes]:
    """The same, with all that zstd needs in a mapped file, so that a window of 2 GiB is page cache, which the system takes back when
    memory runs short, and no memory of this process. zstandard's interface has no place for that; what it is built on has.
    """
    from zstandard._cffi import ffi, lib  # type: ignore[import-not-found]

    size = lib.ZSTD_estimateDStreamSize(LONGEST_WINDOW)
    with tempfile.TemporaryFile(dir=scratch) as file:
        file.truncate(size)
        with mmap.mmap(file.fileno(), size) as workspace, ffi.from_buffer(workspace) as pinned:
            stream = lib.ZSTD_initStaticDStream(pinned, size)
            lib.ZSTD_DCtx_setParameter(stream, lib.ZSTD_d_windowLogMax, LONGEST_WINDOW.bit_length() - 1)
            source, target = ffi.new("ZSTD_inBuffer *"), ffi.new("ZSTD_outBuffer *")
            room = ffi.new("char[]", zstandard.DECOMPRESSION_RECOMMENDED_OUTPUT_SIZE)
            left, since = 0, 0  # bytes of input that end the frame, as zstd guesses (0: it is whole); bytes since the window was let go
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
                    workspace.madvise(mmap.MADV_DONTNEED)  # of a shared mapping nothing is lost
                    since = 0
            if left:
                raise EOFError("it ends early")


def connect(scratch: Path) -> duckdb.DuckDBPyConnection:
    """DuckDB in memory, bounded: what doesn't fit is put into `scratch`, which DuckDB empties itself."""
    settings: dict[str, Any] = {"memory_limit": MEMORY_LIMIT, "temp_directory": str(scratch / "spill"), "preserve_insertion_order": False}
    return duckdb.connect(config=settings)


def quoted(value: object) -> str:
    """A string literal of SQL, for what DuckDB takes no parameter for (file names, patterns).

    >>> quoted("it's")
    "'it''s'"
    """
    return "'" + str(value).replace("'", "''") + "'"


def _keep(db: duckdb.DuckDBPyConnection, source: str, kind: Kind, buckets: int, folder: Path, number: int, lasting: bool) -> None:
    """Write one piece of a dump to its buckets."""
    digest = "md5_number_lower" if lasting else "hash"
    pseudonym = f"""CASE WHEN author IS NULL OR author = '[deleted]' THEN '[deleted]'
        WHEN regexp_matches(author, {quoted(text.BOT_NAME)}) THEN '_bot' ELSE 'u' || {digest}(author) END AS author"""
    whole = "TRY_CAST(TRY_CAST({0} AS DOUBLE) AS BIGINT)".format  # some dumps write 1514764800.0
    flaw = f"""CASE WHEN {" AND ".join(f"{key} IS NULL" for key in kind.keys)} THEN 'unreadable'
        WHEN {" OR ".join(f"{key} IS NULL" for key in kind.needed)} THEN 'missing_key'
        WHEN created_utc IS NOT NULL AND {whole("created_utc")} IS NULL THEN 'wrong_type' ELSE '' END AS flaw"""
    db.execute(
        f"COPY (SELECT * REPLACE ({pseudonym}, {whole('score')} AS score, {whole('created_utc')} AS created_utc), {flaw},"
        f" coalesce(hash({kind.thread}) % {buckets}, 0) AS bucket FROM {source})"
        f" TO {quoted(folder)} (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (bucket), FILENAME_PATTERN 'piece{number}_{{i}}',"
        f" OVERWRITE_OR_IGNORE)"
    )


def _no_rows(kind: Kind) -> str:
    return "SELECT " + ", ".join(f"NULL::{'BIGINT' if key in NUMBERS else 'VARCHAR'} AS {key}" for key in kind.keys) + " LIMIT 0"


def _parquet(parts: list[Path]) -> str:
    return f"read_parquet([{', '.join(map(quoted, parts))}], hive_partitioning=false)"


def _as_text(key: str, type_: str | None) -> str:
    """A column of a Parquet dump as the text that a JSON dump would have."""
    if type_ is None:
        return "NULL"
    return f"epoch({key})::BIGINT::VARCHAR" if type_.startswith("TIMESTAMP") else f"{key}::VARCHAR"


def _write(file: IO[bytes], view: memoryview) -> None:
    while view:
        view = view[file.write(view) :]
