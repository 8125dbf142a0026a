"""Monthly dump files (`RC_YYYY-MM.zst` comments, `RS_YYYY-MM.zst` submissions, one JSON object a line) as DuckDB tables.

Each month is first staged: decompressed as a stream (zstd windows up to 2 GiB, which DuckDB itself refuses) and kept as the few columns
that the query needs, in Parquet under `OUT/.staged/`, which may be deleted at any time.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import duckdb
import sqlglot
import zstandard

from bot import ROOT, UserError

LONGEST_WINDOW = 2**31  # bytes; the public dumps are compressed with `--long=31`

COMMENT_KEYS = {
    "id": "VARCHAR", "parent_id": "VARCHAR", "link_id": "VARCHAR", "subreddit": "VARCHAR", "author": "VARCHAR", "body": "VARCHAR",
    "score": "VARCHAR", "created_utc": "VARCHAR",
}  # fmt: skip
SUBMISSION_KEYS = {
    "id": "VARCHAR", "title": "VARCHAR", "selftext": "VARCHAR", "author": "VARCHAR", "score": "VARCHAR", "created_utc": "VARCHAR",
}  # fmt: skip
COMMENT_NEEDS, SUBMISSION_NEEDS = ("id", "parent_id", "link_id", "body", "created_utc"), ("id", "title")
# Old dumps write numbers as strings and some as floats, so they are read as text and cast; a line without its keys is left out.
COMMENT_COLUMNS = """
    't1_' || id AS id, parent_id, link_id, subreddit, coalesce(author, '[deleted]') AS author, body,
    TRY_CAST(TRY_CAST(score AS DOUBLE) AS BIGINT) AS score, TRY_CAST(TRY_CAST(created_utc AS DOUBLE) AS BIGINT) AS created_utc"""
SUBMISSION_COLUMNS = """
    't3_' || id AS id, title, coalesce(selftext, '') AS selftext, coalesce(author, '[deleted]') AS author,
    TRY_CAST(TRY_CAST(score AS DOUBLE) AS BIGINT) AS score, TRY_CAST(TRY_CAST(created_utc AS DOUBLE) AS BIGINT) AS created_utc"""


def month_start(month: str) -> int:
    """UTC epoch seconds of the first instant of `YYYY-MM`.

    >>> month_start("1970-02")
    2678400
    """
    return int(datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC).timestamp())


def add_months(month: str, count: int) -> str:
    """
    >>> add_months("2017-11", 3), add_months("2017-01", -1)
    ('2018-02', '2016-12')
    """
    year, index = divmod(int(month[:4]) * 12 + int(month[5:7]) - 1 + count, 12)
    return f"{year:04d}-{index + 1:02d}"


def stage(dump: Path, staged: Path, keys: dict[str, str], columns: str, needed: tuple[str, ...]) -> None:
    """Decompress one dump and keep `columns` of it as Parquet; does nothing if that is done already.

    Raises:
        UserError: the dump is cut off or not zstd.
    """
    # A dump put back with its old modification time is told by the time of its last change.
    if staged.exists() and staged.stat().st_mtime >= max(dump.stat().st_mtime, dump.stat().st_ctime):
        return
    staged.parent.mkdir(parents=True, exist_ok=True)
    # Fixed names, so that what a killed process leaves behind (many gigabytes) is overwritten by the next one.
    plain, temporary = staged.with_suffix(".ndjson"), staged.with_suffix(".tmp")
    try:
        with plain.open("wb") as file:
            decompress(dump, file)
        with duckdb.connect() as db:
            reader = f"read_json(?, format='newline_delimited', columns={keys}, ignore_errors=true, maximum_object_size=33554432)"
            present = " AND ".join(f"{name} IS NOT NULL" for name in needed)
            once = "row_number() OVER (PARTITION BY id ORDER BY created_utc) = 1"
            db.execute(
                f"COPY (SELECT {columns} FROM {reader} WHERE {present} QUALIFY {once})"
                f" TO '{_quoted(temporary)}' (FORMAT parquet, COMPRESSION zstd)",
                [str(plain)],
            )
        temporary.replace(staged)
    except duckdb.Error as error:
        raise UserError(f"{dump}: can't be staged in {staged.parent} ({str(error).splitlines()[0]}); is the disk full?") from None
    finally:
        plain.unlink(missing_ok=True)
        temporary.unlink(missing_ok=True)


def decompress(dump: Path, plain: IO[bytes]) -> None:
    """Write out what a zstd file holds, frame after frame. (zstandard's own copy_stream takes a cut file for a whole one.)

    Raises:
        UserError: the file is cut off, empty or not zstd.
    """
    decompressor = zstandard.ZstdDecompressor(max_window_size=LONGEST_WINDOW)
    frame, whole = None, False
    try:
        with dump.open("rb") as packed:
            while chunk := packed.read(zstandard.DECOMPRESSION_RECOMMENDED_INPUT_SIZE):
                while chunk:
                    frame = frame or decompressor.decompressobj()
                    plain.write(frame.decompress(chunk))
                    whole, chunk = frame.eof, frame.unused_data
                    if whole:
                        frame = None
    except zstandard.ZstdError as error:
        raise UserError(f"{dump}: not a whole zstd file ({error}); download it again") from None
    if not whole:
        raise UserError(f"{dump}: not a whole zstd file (it ends early); download it again")


def extract_month(
    dumps: Path, month: str, lookback_months: int, subreddits: list[str], with_submissions: bool, drop_deleted_authors: bool,
    staging: Path, out: Path,
) -> int:  # fmt: skip
    """Write the month's reply pairs to `out` (Parquet, columns of schema.Pair) and return their number.

    Submission files may be missing; then the submission columns are empty. Raises UserError where the month's comments are missing.
    """
    if not (dumps / f"RC_{month}.zst").exists():
        raise UserError(f"{dumps}: no RC_{month}.zst; check --dumps, --from and --to")
    window = [add_months(month, -back) for back in range(lookback_months, -1, -1)]
    comments, submissions = [], []
    for each in window:
        if (dump := dumps / f"RC_{each}.zst").exists():
            stage(dump, staging / f"RC_{each}.parquet", COMMENT_KEYS, COMMENT_COLUMNS, COMMENT_NEEDS)
            comments.append(staging / f"RC_{each}.parquet")
        if (dump := dumps / f"RS_{each}.zst").exists():
            stage(dump, staging / f"RS_{each}.parquet", SUBMISSION_KEYS, SUBMISSION_COLUMNS, SUBMISSION_NEEDS)
            submissions.append(staging / f"RS_{each}.parquet")
    query = (ROOT / "queries" / "reply_pairs.sql").read_text(encoding="utf-8").format(comments="comments", submissions="submissions")
    translated = sqlglot.transpile(query, read="bigquery", write="duckdb")[0]
    parameters = {
        "lookback_start": month_start(window[0]),
        "month_start": month_start(month),
        "month_end": month_start(add_months(month, 1)),
        "subreddits": [name.lower() for name in subreddits],
        "with_submissions": with_submissions,
        "drop_deleted_authors": drop_deleted_authors,
    }
    temporary = out.with_name(f".{out.name}.tmp")
    try:
        with duckdb.connect() as db:
            db.execute(f"CREATE VIEW comments AS SELECT * FROM {_parquet(comments)}")
            if submissions:
                db.execute(f"CREATE VIEW submissions AS SELECT * FROM {_parquet(submissions)}")
            else:
                db.execute("CREATE TABLE submissions (id TEXT, title TEXT, selftext TEXT, author TEXT, score BIGINT, created_utc BIGINT)")
            copy = f"COPY ({translated}) TO '{_quoted(temporary)}' (FORMAT parquet, COMPRESSION zstd)"
            ((count,),) = db.execute(copy, parameters).fetchall()
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(out)
    except duckdb.IOException as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{out}: can't be written ({reason}); free some space, or delete {staging} and try again") from None
    finally:
        temporary.unlink(missing_ok=True)
    return int(count)


def _parquet(files: list[Path]) -> str:
    return "read_parquet([" + ", ".join(f"'{_quoted(file)}'" for file in files) + "])"


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
