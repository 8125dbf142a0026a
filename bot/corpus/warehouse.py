"""The only code that knows where years of Reddit lie: in dump files, read through DuckDB, or in BigQuery. Both run the same query.

What the two share: months, the query with its parameters, and how the rows that it answers become a month's Parquet file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any, TypeVar, get_type_hints

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bot import schema, text
from bot.cli import ROOT

ROW_GROUP_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a pair may be: the query's parameters beside the month."""

    subreddits: tuple[str, ...] = ()  # none means all
    lookback_months: int = 6
    with_comments: bool = True
    with_submissions: bool = False
    drop_deleted_authors: bool = False


@dataclass(slots=True)
class MonthCounts:
    """What came of a month. cross_month: pairs whose comment was written in an earlier month than the reply."""

    pairs: int = 0
    cross_month: int = 0
    dropped: Counter[str] = field(default_factory=Counter)  # replies that give no pair, by the query's rule
    lines: dict[str, dict[str, int]] = field(default_factory=dict)  # of the month's own dumps, RC and RS: "read", and flawed by reason


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


def window(month: str, lookback_months: int) -> list[str]:
    """The month and those before it in which its comments may stand, oldest first.

    >>> window("2017-02", 2)
    ['2016-12', '2017-01', '2017-02']
    """
    return [add_months(month, -back) for back in range(lookback_months, -1, -1)]


def query(comments: str, submissions: str) -> str:
    """queries/reply_pairs.sql with its two tables put in; each may be a subquery in parentheses."""
    lines = (ROOT / "queries" / "reply_pairs.sql").read_text(encoding="utf-8").splitlines()
    body = "\n".join(line for line in lines if not line.startswith("--"))  # the header names parameters, and some readers count those
    return body.format(comments=comments, submissions=submissions)


def parameters(month: str, wanted: Wanted) -> dict[str, Any]:
    """The query's parameters, by name."""
    return {
        "lookback_start": month_start(add_months(month, -wanted.lookback_months)),
        "month_start": month_start(month),
        "month_end": month_start(add_months(month, 1)),
        "subreddits": sorted(name.lower() for name in wanted.subreddits),
        "with_comments": wanted.with_comments,
        "with_submissions": wanted.with_submissions,
        "drop_deleted_authors": wanted.drop_deleted_authors,
        "gone": text.DELETED_BODY,
        "bot_name": text.BOT_NAME,
    }


Item = TypeVar("Item")


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items; while one is used, a thread makes the next.

    >>> list(ahead(iter([1, 2])))
    [1, 2]
    """
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(next, items, None)
        while (item := upcoming.result()) is not None:
            upcoming = pool.submit(next, items, None)
            yield item


def write_month(batches: Iterator[pa.RecordBatch], month: str, out: IO[bytes]) -> MonthCounts:
    """Write the pairs among the query's rows to `out`, as Parquet (schema.Pair, in no order); count the others by rule.

    While the query makes the rows of the next row group, a thread writes this one.
    """
    types = {name: pa.string() if kind is str else pa.int64() for name, kind in get_type_hints(schema.Pair).items()}
    columns = pa.schema([(name, types[name]) for name in schema.columns_of(schema.Pair)])
    repeated = ["subreddit", "thread_id", "submission", "comment_id"]  # a dictionary of the other texts costs time and saves nothing
    counts = MonthCounts()
    with pq.ParquetWriter(out, columns, compression="zstd", use_dictionary=repeated) as writer, ThreadPoolExecutor(1) as pool:

        def write(rows: pa.Table) -> None:
            for each in pc.value_counts(rows["rule"]).to_pylist():
                counts.dropped[each["values"]] += each["counts"]
            pairs = rows.filter(pc.equal(rows["rule"], "")).select(columns.names).cast(columns)
            counts.cross_month += pc.sum(pc.less(pairs["comment_utc"], month_start(month))).as_py() or 0
            writer.write_table(pairs)

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
    """The same rows, about ROW_GROUP_BYTES at a time: thousands of small row groups cost memory and time."""
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
