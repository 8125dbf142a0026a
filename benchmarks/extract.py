"""Extraction beside a plain Python reader: the same synthetic dump, one after the other, rows a second and peak memory of each.

Writes FOLDER/COMMENTS/RC_2018-01.zst (made from a seed, kept for the next run) and prints a table. Each side is a process of its own.
The last dump is extracted a second time, from FOLDER/COMMENTS-long/, compressed with a window of 2 GiB (`--long=31`) as the public ones.

    python benchmarks/extract.py --comments 1000000 --comments 5000000 --folder /tmp/bench

«own» memory is what the process holds itself (RssAnon in /proc, looked at twenty times a second); «resident» counts mapped files, too,
which the system may take back.

The plain reader is what the common scripts for these dumps do: zstandard, one json.loads a line, a dict of comments, one pass that
joins each reply to its parent and writes CSV. It keeps every comment in memory and knows neither submissions, months nor depth.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import duckdb
import typer
import zstandard
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
MONTH, MONTH_START = "2018-01", 1_514_764_800
OWN_MEMORY = re.compile(r"RssAnon:\s+(\d+) kB")
THREADS = 50  # comments a thread
KEYS = ("parent_id", "link_id", "subreddit", "author", "body", "score", "created_utc")
WORDS = 20_000  # of invented vocabulary

# One line in the shape of the dumps of those years, and as long: about 700 bytes beside the body. A comment's thread is its number
# modulo the number of threads, so that threads are interleaved as they are in a dump; its parent is an earlier one of its thread, or,
# two times in five, the submission. Bodies are cut from one long text of invented words; 5 % are deleted, 2 % are a bot's.
LINES = """
SELECT
  'https://www.reddit.com/r/sub_' || (thread % 300) AS permalink,
  CASE WHEN h % 100 < 5 THEN '[deleted]' WHEN h % 100 < 7 THEN 'helper_bot' ELSE 'reader_' || (h % 200000) END AS author,
  'class-' || (h % 50) AS author_flair_css_class, NULL AS author_flair_text, false AS can_gild, 0 AS controversiality,
  CASE WHEN h % 100 < 5 THEN '[deleted]'
    ELSE substr(text, 1 + (h // 7 % 900000)::INT, 12 + (pow(h // 11 % 1000, 2) / 1500)::INT) END AS body,
  {start} + n * 2678399 // {count} AS created_utc, NULL AS distinguished, false AS edited, 0 AS gilded,
  to_base(1000000000 + n, 36) AS id, false AS is_submitter, 't3_' || to_base(5000000 + thread, 36) AS link_id,
  CASE WHEN place = 0 OR h // 13 % 5 < 2 THEN 't3_' || to_base(5000000 + thread, 36)
    ELSE 't1_' || to_base(1000000000 + thread + (h // 17 % place) * {threads}, 36) END AS parent_id,
  'https://www.reddit.com/r/sub_' || (thread % 300) || '/comments/' || to_base(5000000 + thread, 36) || '/some_title_of_a_thread/' AS url,
  1514900000 AS retrieved_on, (h // 19 % 60)::INT - 8 AS score, false AS stickied, 'sub_' || (thread % 300) AS subreddit,
  't5_' || (thread % 300) AS subreddit_id, 'public' AS subreddit_type, NULL AS author_fullname, NULL AS collapsed_reason,
  false AS send_replies, false AS archived, true AS no_follow, 'x' AS name
FROM (SELECT n, n % {threads} AS thread, n // {threads} AS place,
  (hash(n) % 1000000000000)::BIGINT AS h FROM range({count}) AS numbers(n)), words
ORDER BY n
"""


def make_dump(dump: Path, count: int) -> None:
    """A dump of `count` comments, zstd with a 128 MiB window, as the public ones are read."""
    plain, packed = dump.with_suffix(".json"), dump.with_suffix(".part")
    with duckdb.connect() as db:
        db.execute("SELECT setseed(0.5)")
        word = "left(md5(n::TEXT), 2 + (hash(n) % 7)::INT)"
        db.execute(
            f"CREATE TABLE words AS SELECT string_agg({word}, ' ' ORDER BY hash(m)) AS text"
            f" FROM (SELECT m, (pow(hash(m) % 1000, 2) / 1e6 * {WORDS})::INT AS n FROM range(200000) AS numbers(m))"
        )
        query = LINES.format(start=MONTH_START, count=count, threads=max(1, count // THREADS))
        db.execute(f"COPY ({query}) TO '{plain}' (FORMAT json)")
    settings = zstandard.ZstdCompressionParameters.from_level(3, window_log=27, enable_ldm=True, threads=2)
    with plain.open("rb") as source, packed.open("wb") as target:
        zstandard.ZstdCompressor(compression_params=settings).copy_stream(source, target)
    plain.unlink()
    packed.replace(dump)


def make_long(dump: Path, long: Path) -> None:
    """The same dump with a window of 2 GiB."""
    packed = long.with_suffix(".part")
    settings = zstandard.ZstdCompressionParameters.from_level(3, window_log=31, enable_ldm=True)
    with dump.open("rb") as source, packed.open("wb") as target:
        plain = zstandard.ZstdDecompressor().stream_reader(source)
        zstandard.ZstdCompressor(compression_params=settings).copy_stream(plain, target)
    packed.replace(long)


def plain_reader(dump: Path, out: Path) -> int:
    """The usual way; returns the number of pairs."""
    comments: dict[str, dict[str, Any]] = {}
    with dump.open("rb") as packed:
        stream = zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(packed)
        for line in io.TextIOWrapper(stream, encoding="utf-8"):
            row = json.loads(line)
            comments["t1_" + row["id"]] = {key: row[key] for key in KEYS}
    count = 0
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        for name, reply in comments.items():
            parent = comments.get(reply["parent_id"])
            if parent is None or "[deleted]" in (reply["body"], parent["body"]) or reply["author"] == parent["author"]:
                continue
            if reply["author"].endswith("_bot") or parent["author"].endswith("_bot"):
                continue
            given = (reply["link_id"], reply["parent_id"], parent["body"], parent["score"], parent["created_utc"])
            writer.writerow((reply["subreddit"], *given, name, reply["body"], reply["score"], reply["created_utc"]))
            count += 1
    return count


@dataclass(frozen=True, slots=True)
class Run:
    """One process: wall seconds, CPU seconds of all its threads, MiB at their peaks, pairs as it printed them."""

    seconds: float
    cpu: float
    own: float
    resident: float
    pairs: str


def timed(command: list[str]) -> Run:
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert process.stdout is not None
    own = 0
    ended = threading.Event()

    def watch() -> None:
        nonlocal own
        while not ended.wait(0.05):
            if found := OWN_MEMORY.search(Path(f"/proc/{process.pid}/status").read_text()):  # none in one that has ended
                own = max(own, int(found[1]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    printed = process.stdout.read()
    ended.set()
    watcher.join()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: failed")
    pairs = printed.strip().splitlines()[-1].split()[0]
    return Run(time.monotonic() - began, usage.ru_utime + usage.ru_stime, own / 1024, usage.ru_maxrss / 1024, pairs)


def ours(folder: Path) -> Run:
    """Extraction of the dump in a folder, from nothing."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "bot.corpus.extract",
        "--dumps",
        str(folder),
        "--from",
        MONTH,
        "--to",
        MONTH,
        "--out",
        str(folder / "out"),
    ]
    return timed(command)


def main(
    comments: Annotated[list[int], typer.Option(help="comments of a dump; may be given several times")] = [1_000_000, 5_000_000],  # noqa: B006
    folder: Annotated[Path, typer.Option(help="for the dumps and what is made of them; a gigabyte or two")] = Path("data/bench"),
    plain: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Time extraction and a plain Python reader on the same synthetic dump."""
    if plain is not None:
        print(f"{plain_reader(plain, folder / 'plain.csv'):,} reply pairs")
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    table = Table(
        "comments", "dump MB", "", "s", "CPU s", "comments/s", "own MiB", "resident MiB", "pairs", title="extraction, side by side"
    )

    def add(count: int, dump: Path, name: str, run: Run) -> None:
        size, rate = f"{dump.stat().st_size / 1e6:,.0f}", f"{count / run.seconds:,.0f}"
        table.add_row(
            f"{count:,}", size, name, f"{run.seconds:.1f}", f"{run.cpu:.1f}", rate, f"{run.own:,.0f}", f"{run.resident:,.0f}", run.pairs
        )

    for count in comments:
        dump = folder / str(count) / f"RC_{MONTH}.zst"
        dump.parent.mkdir(parents=True, exist_ok=True)
        if not dump.exists():
            make_dump(dump, count)
        usual = timed([sys.executable, __file__, "--plain", str(dump), "--folder", str(dump.parent)])
        add(count, dump, "plain Python", usual)
        add(count, dump, "bot.corpus.extract", run := ours(dump.parent))
        table.add_row("", "", "ratio", f"{usual.seconds / run.seconds:.1f} times as fast", end_section=True)
    long = folder / f"{count}-long" / dump.name
    long.parent.mkdir(exist_ok=True)
    if not long.exists():
        make_long(dump, long)
    add(count, long, "bot.corpus.extract, 2 GiB window", ours(long.parent))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
