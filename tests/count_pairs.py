"""An independent reference for extract: count reply pairs in monthly zstd dumps in plain Python, without the project's code.

    python -m tests.count_pairs DUMPS 2005-12 2023-04 [EXTRACTS]

Prints the pairs and cross-month pairs of each month, including replies to submissions. With EXTRACTS (a folder that `extract --parents
both` wrote) it also compares the ids and texts of each month and exits with status 1 if they differ. Slow; keeps everything in memory.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import zstandard

GONE = {"", "[deleted]", "[removed]", "[ removed by reddit ]", "[deleted by user]"}
BOT = re.compile(r"(?i:^automoderator$|^bot$|[_-]bot[_-]?\d*$)|[a-z0-9]Bot\d*$")


def month_of(utc: int) -> str:
    return f"{datetime.fromtimestamp(utc, UTC):%Y-%m}"


def earlier(month: str, back: int) -> str:
    count = int(month[:4]) * 12 + int(month[5:]) - 1 - back
    return f"{count // 12:04d}-{count % 12 + 1:02d}"


def lines_of(dumps: Path, prefix: str) -> Iterator[dict[str, Any]]:
    for path in sorted(dumps.glob(f"{prefix}_????-??.zst")):
        with path.open("rb") as packed:
            stream = zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(packed, read_across_frames=True)
            for line in io.TextIOWrapper(stream, encoding="utf-8"):
                yield json.loads(line)


def gone(body: str) -> bool:
    return body.strip().lower() in GONE


def pairs(dumps: Path, first: str, last: str, lookback: int = 6) -> dict[str, dict[str, tuple[str, str, str, int | None]]]:
    """{month: {reply_id: (comment_id, comment, reply, depth)}}. Keys "cross YYYY-MM": pairs whose comment is from an earlier month."""
    comments: dict[str, dict[str, Any]] = {}
    for row in lines_of(dumps, "RC"):
        kept = {key: row[key] for key in ("parent_id", "link_id", "author", "body")} | {"utc": int(row["created_utc"])}
        comments.setdefault("t1_" + row["id"], kept)
    submissions = {"t3_" + row["id"]: row for row in lines_of(dumps, "RS")}
    result: dict[str, dict[str, tuple[str, str, str, int | None]]] = {}
    for name, reply in comments.items():
        month = month_of(reply["utc"])
        if not first <= month <= last:
            continue
        oldest, parent_id = earlier(month, lookback), reply["parent_id"]
        author, submission = reply["author"], submissions.get(reply["link_id"])
        if gone(reply["body"]) or BOT.search(author) or parent_id == name:
            continue
        if parent_id in comments:
            parent = comments[parent_id]
            if not oldest <= month_of(parent["utc"]) <= month or parent["link_id"] != reply["link_id"]:
                continue
            body, other, utc = parent["body"], parent["author"], parent["utc"]
        elif parent_id in submissions:
            row = submissions[parent_id]
            if parent_id != reply["link_id"]:
                continue
            other, utc = row["author"], int(row["created_utc"])
            if not oldest <= month_of(utc) <= month:
                continue
            body = "" if gone(row["title"]) else row["title"] if gone(row["selftext"]) else row["title"] + "\n\n" + row["selftext"]
        else:
            continue
        if submission is not None and not oldest <= month_of(int(submission["created_utc"])) <= month:
            submission = None
        if gone(body) or BOT.search(other):
            continue
        if author != "[deleted]" and (author == other or (submission is not None and author == submission["author"])):
            continue
        depth: int | None = -1
        at = parent_id
        while depth is not None and at != reply["link_id"]:
            above = comments.get(at)
            known = above is not None and oldest <= month_of(above["utc"]) <= month and above["link_id"] == reply["link_id"]
            depth = depth + 1 if above is not None and known and depth < 400 else None
            at = above["parent_id"] if above is not None else ""
        result.setdefault(month, {})[name] = (parent_id, body, reply["body"], depth)
        if month_of(utc) < month:
            result.setdefault(f"cross {month}", {})[name] = result[month][name]
    return result


def main(dumps: Path, first: str, last: str, extracts: Path | None) -> int:
    result = pairs(dumps, first, last)
    months = sorted(month for month in result if not month.startswith("cross"))
    different = 0
    for month in months:
        comparison = ""
        if extracts is not None:
            import duckdb

            rows = duckdb.sql(
                f"SELECT reply_id, comment_id, comment, reply, depth FROM read_parquet('{extracts}/{month}.parquet')"
            ).fetchall()
            same = len(rows) == len(result[month]) and {row[0]: row[1:] for row in rows} == result[month]
            different += not same
            comparison = "same rows" if same else f"DIFFERENT, the extract has {len(rows):,}"
        print(month, f"{len(result[month]):,} pairs, {len(result.get(f'cross {month}', {})):,} to an earlier month", comparison)
    total, cross = (sum(len(rows) for name, rows in result.items() if name.startswith("cross") is crossed) for crossed in (False, True))
    print(f"{total:,} pairs, {cross:,} to an earlier month; {different} months differ")
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]) if len(sys.argv) > 4 else None))
