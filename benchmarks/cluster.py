"""Rows per second of `generate --cluster` with one and two nodes of a Ray cluster on this machine, each on a CPU of its own.

    .venv-cluster/bin/python benchmarks/cluster.py --folder /tmp/bench            a few minutes on two idle cores

Generates one candidate of at most 20 tokens for 2,000 comments (four blocks) with the config's generator. The time is that of the whole
command: connecting, loading the model on each node, computing and writing. The last column leaves out the time to the first finished block
and that block's rows. Two nodes on one machine share its memory bandwidth, so machines of their own gain more.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
COMMENTS, TOKENS, BLOCK = 2000, 20, 500


def timed(folder: Path, nodes: int) -> tuple[float, float]:
    """Seconds of the whole command, and to its first block."""
    out = folder / f"{nodes}.parquet"
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, "-m", "tests.ray_nodes", str(nodes), "--pin"], cwd=ROOT, **pipes) as program:
        assert program.stdin and program.stdout
        address = program.stdout.readline().strip()
        arguments = ["--cluster", address, "--in", str(folder / "comments.csv"), "--out", str(out), "--num-candidates", "1"]
        environment = os.environ | {"BOT_GENERATE__MAX_NEW_TOKENS": str(TOKENS)}
        started = time.monotonic()
        with subprocess.Popen([sys.executable, str(ROOT / "run_bot.py"), "generate", *arguments], env=environment) as command:
            first = 0.0
            while command.poll() is None:
                if not first and any(out.with_name(out.name + ".blocks").glob("[0-9]*.parquet")):
                    first = time.monotonic() - started
                time.sleep(0.02)
        seconds = time.monotonic() - started
        program.stdin.close()
    if command.returncode:
        sys.exit(f"generate --cluster failed with {nodes} nodes")
    return seconds, first


def main(folder: Annotated[Path, typer.Option(help="for the comments and the results; results there are replaced")]) -> None:
    """Print a table with one line per number of nodes."""
    from bot import files, schema

    folder.mkdir(parents=True, exist_ok=True)
    comments = (
        {"comment_id": f"t1_{number}", "comment": f"My kettle takes {number} minutes, is that normal?"} for number in range(COMMENTS)
    )
    schema.write_table(folder / "comments.csv", ["comment_id", "comment"], comments)
    table = Table("nodes", "seconds", "rows per second", "after the first block")
    for nodes in (1, 2):
        for left in (folder / f"{nodes}.parquet", folder / f"{nodes}.parquet.blocks"):
            files.remove(left)
        seconds, first = timed(folder, nodes)
        table.add_row(str(nodes), f"{seconds:.0f}", f"{COMMENTS / seconds:.1f}", f"{(COMMENTS - BLOCK) / (seconds - first):.1f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
