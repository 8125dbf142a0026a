"""How many human replies `choose` would refuse, and for what reasons: a measure of false alarms.

Reads  DATA/lm_test.csv.
Prints a table of reasons; with --show N also N refused replies per reason.

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
    rows: Annotated[int, typer.Option(min=1, help="number of rows, from the start of the file")] = 2000,
    show: Annotated[int, typer.Option(min=0, help="number of refused replies to print per reason")] = 0,
) -> None:
    """Count the human replies that conduct.may_say refuses, each checked against its own comment."""
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
