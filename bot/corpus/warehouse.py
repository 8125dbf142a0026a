"""Shared code of the two sources of Reddit data, dump files read by DuckDB and BigQuery, which run the same query.

Contains the arithmetic of months, the query with its parameters, and the writer of a month's Parquet file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bot import schema, text
from bot.cli import ROOT, UserError

ROW_GROUP_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Selection:
    """Which pairs to extract: the query parameters other than the month."""

    subreddits: tuple[str, ...] = ()  # none means all
    lookback_months: int = 6
    with_comments: bool = True
    with_submissions: bool = False
    drop_deleted_authors: bool = False
    bots: tuple[str, ...] = ()  # user names in lower case, beside those of the shape of text.BOT_NAME


@dataclass(slots=True)
class MonthCounts:
    """The counts of a month. cross_month: pairs whose comment was written in an earlier month than the reply. unjudged: pairs whose
    submission is missing, so that it isn't known whether the submitter wrote the reply. subreddits: the replies in each that was asked for.
    """

    pairs: int = 0
    cross_month: int = 0
    unjudged: int = 0
    subreddits: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)  # replies that give no pair, by rule of the query
    lines: dict[str, dict[str, int]] = field(default_factory=dict)  # of the month's own dumps, RC and RS: "read", and unusable by reason


def month_start(month: str) -> int:
    """The start of the month `YYYY-MM` in UTC epoch seconds.

    >>> month_start("1970-02")
    2678400
    """
    return int(datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC).timestamp())


def check_months(months: Sequence[str]) -> Sequence[str]:
    """The months. Raises UserError if one is not written as 2017-01."""
    for month in months:
        if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month):
            raise UserError(f"{month!r} is not a month; use YYYY-MM, for example 2017-01")
    return months


def add_months(month: str, count: int) -> str:
    """
    >>> add_months("2017-11", 3), add_months("2017-01", -1)
    ('2018-02', '2016-12')
    """
    year, index = divmod(int(month[:4]) * 12 + int(month[5:7]) - 1 + count, 12)
    return f"{year:04d}-{index + 1:02d}"


def window(month: str, lookback_months: int) -> list[str]:
    """The months that may contain the comments for a month's replies, oldest first.

    >>> window("2017-02", 2)
    ['2016-12', '2017-01', '2017-02']
    """
    return [add_months(month, -back) for back in range(lookback_months, -1, -1)]


def query(comments: str, submissions: str) -> str:
    """queries/reply_pairs.sql with the names of its two tables. A table may also be a subquery in parentheses."""
    lines = (ROOT / "queries" / "reply_pairs.sql").read_text(encoding="utf-8").splitlines()
    body = "\n".join(line for line in lines if not line.startswith("--"))  # some parsers would count the parameters in the header comment
    return body.format(comments=comments, submissions=submissions)


def parameters(month: str, selection: Selection) -> dict[str, Any]:
    """The query parameters by name."""
    return {
        "lookback_start": month_start(add_months(month, -selection.lookback_months)),
        "month_start": month_start(month),
        "month_end": month_start(add_months(month, 1)),
        "subreddits": sorted(name.lower() for name in selection.subreddits),
        "with_comments": selection.with_comments,
        "with_submissions": selection.with_submissions,
        "drop_deleted_authors": selection.drop_deleted_authors,
        "gone": text.DELETED_BODY,
        "not_a_bot": text.NOT_A_BOT,
        "bot_name": text.BOT_NAME,
        "bots": sorted(selection.bots),
    }


Item = TypeVar("Item")


def prefetch(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the same items, and compute the next one in a thread while the caller uses the current one.

    >>> list(prefetch(iter([1, 2])))
    [1, 2]
    """
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(next, items, None)
        while (item := upcoming.result()) is not None:
            upcoming = pool.submit(next, items, None)
            yield item


def write_month(batches: Iterator[pa.RecordBatch], out: IO[bytes], subreddits: Collection[str] = ()) -> MonthCounts:
    """Write the pairs in the query result to `out` as Parquet (schema.Pair, unordered) and count the other rows by rule.

    subreddits: those that were asked for, whose replies are counted. A thread writes one row group while the query computes the next one.
    """
    columns = schema.arrow_schema(schema.Pair)
    repeated = ["subreddit", "thread_id", "submission", "comment_id"]  # a dictionary for the other columns takes time and saves no space
    counts = MonthCounts()
    with pq.ParquetWriter(out, columns, compression="zstd", use_dictionary=repeated) as writer, ThreadPoolExecutor(1) as pool:

        def write(rows: pa.Table) -> None:  # without pc.equal and the like: pyarrow imports pandas to read a Python value
            for each in pc.value_counts(rows["rule"]).to_pylist():
                counts.dropped[each["values"]] += each["counts"]
            kept = rows.filter(pc.match_like(rows["rule"], ""))
            counts.unjudged += kept.num_rows - (pc.sum(kept["submitter_known"]).as_py() or 0)
            counts.cross_month += pc.sum(kept["cross_month"]).as_py() or 0
            if subreddits:
                for each in pc.value_counts(rows["subreddit"]).to_pylist():
                    counts.subreddits[str(each["values"]).lower()] += each["counts"]
            writer.write_table(kept.select(columns.names).cast(columns))

        writing: Future[None] | None = None
        for rows in row_groups(batches):
            if writing is not None:
                writing.result()
            writing = pool.submit(write, rows)
        if writing is not None:
            writing.result()
    counts.pairs = counts.dropped.pop("", 0)
    return counts


def row_groups(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Combine batches to tables of about ROW_GROUP_BYTES. Many small row groups would need more memory and time."""
    waiting: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        waiting.append(batch)
        size += batch.nbytes
        if size >= ROW_GROUP_BYTES:
            yield pa.Table.from_batches(waiting)
            waiting, size = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting)
