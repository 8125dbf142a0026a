"""How many of people's own replies would `choose` refuse, and why: a measure of false alarms.

Reads  DATA/lm_test.csv.
Prints a table of reasons; with --show N also N of the refused replies of each.

    python benchmarks/refusals.py --data data/prepared --rows 2000
"""

from __future__ import annotations

import sys
from collections import defaultdict
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bot import schema
from bot.cli import run_command
from bot.conduct import what
from bot.config import ConductSettings
from bot.schema import LmRow


def main(
    data: Annotated[Path, typer.Option(help="folder with lm_test.csv")] = Path("data/prepared"),
    rows: Annotated[int, typer.Option(min=1, help="the first so many")] = 2000,
    show: Annotated[int, typer.Option(min=0, help="print so many refused replies of each reason")] = 0,
) -> None:
    """Count what conduct.may_say says of people's replies, each to its own comment."""
    refused: dict[str, list[str]] = defaultdict(list)
    count = 0
    for row in islice(schema.read_rows(data / "lm_test.csv", LmRow), rows):
        count += 1
        if reason := what.may_say(row.reply, what.around(row.comment), ConductSettings()):
            refused[reason].append(row.reply)
    total = sum(map(len, refused.values()))
    for reason, replies in [("refused", [""] * total), *sorted(refused.items(), key=lambda item: -len(item[1]))]:
        print(f"{reason:20}{len(replies):6}{len(replies) / count:8.1%}")
        for reply in replies[:show] if reason != "refused" else ():
            print(f"    {' '.join(reply.split())[:200]}")


if __name__ == "__main__":
    run_command(main, "refusals.py")
