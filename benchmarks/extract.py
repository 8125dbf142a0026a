"""Speed and peak memory of `extract`, compared with a plain Python reader on the same synthetic dump.

Writes FOLDER/COMMENTS/RC_2018-01.zst (generated from a seed, kept for the next run) and prints a table. Each side runs in a separate
process. The last dump is extracted a second time from FOLDER/COMMENTS-long/, compressed like the public dumps with a window of 2 GiB
(`--long=31`).

    python benchmarks/extract.py --comments 1000000 --comments 5000000 --folder /tmp/bench

"own" memory is anonymous memory (RssAnon in /proc, sampled twenty times per second); "resident" memory also includes mapped files, which
the system can reclaim.

The plain reader works like the common scripts for these dumps: zstandard, one json.loads per line, a dict of comments, and one pass that
joins each reply to its parent and writes CSV. It keeps all comments in memory and does not handle submissions, months or depth.
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
THREAD_COMMENTS = 50  # per thread
KEYS = ("parent_id", "link_id", "subreddit", "author", "body", "score", "created_utc")
WORDS = 20_000  # size of the invented vocabulary

# Lines with the keys of the dumps of those years and of the same length: about 700 bytes without the body. A comment's thread is its number
# modulo the number of threads, so threads are interleaved as in a real dump. Its parent is an earlier comment of the thread or, for 40 %,
# the submission. Bodies are substrings of a long text of invented words; 5 % are deleted, 2 % are by a bot.
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
    """Write a dump of `count` comments, compressed by zstd with a 128 MiB window."""
    plain, compressed = dump.with_suffix(".json"), dump.with_suffix(".part")
    with duckdb.connect() as db:
        db.execute("SELECT setseed(0.5)")
        word = "left(md5(n::TEXT), 2 + (hash(n) % 7)::INT)"
        db.execute(
            f"CREATE TABLE words AS SELECT string_agg({word}, ' ' ORDER BY hash(m)) AS text"
            f" FROM (SELECT m, (pow(hash(m) % 1000, 2) / 1e6 * {WORDS})::INT AS n FROM range(200000) AS numbers(m))"
        )
        query = LINES.format(start=MONTH_START, count=count, threads=max(1, count // THREAD_COMMENTS))
        db.execute(f"COPY ({query}) TO '{plain}' (FORMAT json)")
    settings = zstandard.ZstdCompressionParameters.from_level(3, window_log=27, enable_ldm=True, threads=2)
    with plain.open("rb") as source, compressed.open("wb") as target:
        zstandard.ZstdCompressor(compression_params=settings).copy_stream(source, target)
    plain.unlink()
    compressed.replace(dump)


def make_long(dump: Path, long: Path) -> None:
    """Write the same dump compressed with a window of 2 GiB."""
    compressed = long.with_suffix(".part")
    settings = zstandard.ZstdCompressionParameters.from_level(3, window_log=31, enable_ldm=True)
    with dump.open("rb") as source, compressed.open("wb") as target:
        plain = zstandard.ZstdDecompressor().stream_reader(source)
        zstandard.ZstdCompressor(compression_params=settings).copy_stream(plain, target)
    compressed.replace(long)


def plain_reader(dump: Path, out: Path) -> int:
    """Write the reply pairs of a dump with plain Python. Returns their number."""
    comments: dict[str, dict[str, Any]] = {}
    with dump.open("rb") as compressed:
        stream = zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(compressed)
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
            parent_cells = (reply["link_id"], reply["parent_id"], parent["body"], parent["score"], parent["created_utc"])
            writer.writerow((reply["subreddit"], *parent_cells, name, reply["body"], reply["score"], reply["created_utc"]))
            count += 1
    return count


@dataclass(frozen=True, slots=True)
class Run:
    """Measurements of one process: wall time and CPU time of all threads in seconds, peak memory in MiB, the printed number of pairs."""

    seconds: float
    cpu: float
    own: float
    resident: float
    pairs: str


def timed(command: list[str]) -> Run:
    """Run a command whose last output line starts with the number of pairs, and measure it."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert process.stdout is not None
    own = 0
    finished = threading.Event()

    def sample_memory() -> None:
        nonlocal own
        while not finished.wait(0.05):
            if match := OWN_MEMORY.search(Path(f"/proc/{process.pid}/status").read_text()):  # no match once the process has exited
                own = max(own, int(match[1]))

    sampler = threading.Thread(target=sample_memory)
    sampler.start()
    output = process.stdout.read()
    finished.set()
    sampler.join()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: failed")
    pairs = output.strip().splitlines()[-1].split()[0]
    return Run(time.monotonic() - start, usage.ru_utime + usage.ru_stime, own / 1024, usage.ru_maxrss / 1024, pairs)


def run_extract(folder: Path) -> Run:
    """Extract the dump in a folder, without earlier output."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    options = ["--dumps", str(folder), "--from", MONTH, "--to", MONTH, "--out", str(folder / "out")]
    return timed([sys.executable, "-m", "bot", "extract", *options])


def main(
    comments: Annotated[list[int], typer.Option(help="number of comments in a dump; repeatable")] = [1_000_000, 5_000_000],  # noqa: B006
    folder: Annotated[Path, typer.Option(help="folder for dumps and output; needs one or two gigabytes")] = Path("data/bench"),
    plain: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Time `extract` and a plain Python reader on the same synthetic dumps."""
    if plain is not None:
        print(f"{plain_reader(plain, folder / 'plain.csv'):,} reply pairs")
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    table = Table(
        "comments", "dump MB", "", "s", "CPU s", "comments/s", "own MiB", "resident MiB", "pairs", title="extraction of reply pairs"
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
        baseline = timed([sys.executable, __file__, "--plain", str(dump), "--folder", str(dump.parent)])
        add(count, dump, "plain Python", baseline)
        add(count, dump, "extract", run := run_extract(dump.parent))
        table.add_row("", "", "ratio", f"{baseline.seconds / run.seconds:.1f} times as fast", end_section=True)
    long = folder / f"{count}-long" / dump.name
    long.parent.mkdir(exist_ok=True)
    if not long.exists():
        make_long(dump, long)
    add(count, long, "extract, 2 GiB window", run_extract(long.parent))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
