"""What do the gates miss, and what do they refuse for nothing, kind by kind?

Reads  CSV files of lines with a right answer each, told by their columns:
         kind, should_refuse, text                                replies
         text, becomes (ping, link, none)                         replies, of what Reddit's renderer makes of them
         kind, may_answer, subreddit, title, flair, comment       comments
       Every reply is taken as one to --comment in --title.
Prints a row a kind: lines and misses where a refusal is right, lines and false refusals where none is; with --show N also N of the lines
that are judged wrongly.

    python benchmarks/conduct.py lines.csv rendered.csv comments.csv
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bot import schema
from bot.cli import UserError, run_command
from bot.config import ConductSettings
from bot.online.check import refusals

COMMENT = (
    "Does anybody know a good book for a long train ride? I have read everything at home twice, and my e-reader broke last week on the way"
    " to work."
)


class Line(NamedTuple):
    kind: str
    is_refusal_right: bool
    asked: dict[str, str]  # columns of `check`
    of_reply: bool


def read(path: Path, comment: str, title: str) -> list[Line]:
    """The lines of one file. Raises UserError where its columns are none of those above."""
    columns, rows = schema.read_table(path)
    beside = {"comment": comment, "title": title}
    if {"kind", "should_refuse", "text"} <= set(columns):
        return [Line(row["kind"], row["should_refuse"] == "yes", {**beside, "reply": row["text"]}, True) for row in rows]
    if {"text", "becomes"} <= set(columns):
        return [Line(f"becomes {row['becomes']}", row["becomes"] != "none", {**beside, "reply": row["text"]}, True) for row in rows]
    if {"kind", "may_answer", "comment"} <= set(columns):
        return [Line(row["kind"], row["may_answer"] == "no", row, False) for row in rows]
    raise UserError(f"{path}: neither lines, comments nor renderings; see the columns in benchmarks/conduct.py")


def main(
    sources: Annotated[list[Path], typer.Argument(help="CSV files")],
    comment: Annotated[str, typer.Option(help="what the replies answer")] = COMMENT,
    title: Annotated[str, typer.Option(help="of its thread")] = "Books for a trip",
    show: Annotated[int, typer.Option(min=0, help="print so many lines of a kind that are judged wrongly")] = 0,
) -> None:
    """Count misses and false refusals by kind."""
    conduct = ConductSettings()
    for source in sources:
        kinds: dict[tuple[bool, str], list[tuple[bool, str]]] = defaultdict(list)
        for line in read(source, comment, title):
            answer, say = refusals(line.asked, conduct)
            name = say if line.of_reply else answer
            shown = line.asked["reply"] if line.of_reply else " | ".join(filter(None, line.asked.values()))
            is_right = bool(name) == line.is_refusal_right
            kinds[line.is_refusal_right, line.kind].append((is_right, f"{name or '-'}: {' '.join(shown.split())}"))
        for wanted in (True, False):
            of_these = {kind: found for (refusal_right, kind), found in sorted(kinds.items()) if refusal_right is wanted}
            if of_these:
                print_table(f"{source.name}: {'misses' if wanted else 'false refusals'}", of_these, show)


def print_table(title: str, kinds: dict[str, list[tuple[bool, str]]], show: int) -> None:
    """kinds: whether each line is judged rightly, and the line."""
    print(f"\n{title}")
    every = [each for found in kinds.values() for each in found]
    for kind, found in [*kinds.items(), ("all", every)]:
        wrong = [line for right, line in found if not right]
        print(f"{kind:70.70}{len(wrong):5} of {len(found):5}{len(wrong) / len(found):7.1%}")
        for line in wrong[:show] if kind != "all" else ():
            print(f"    {line[:160]}")


if __name__ == "__main__":
    run_command(main, "conduct.py")
