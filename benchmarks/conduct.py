"""Misses and false refusals of the conduct checks by kind: with patterns and word lists alone, and with the classifiers.

    python benchmarks/conduct.py data/conduct/reply_lines.csv data/conduct/comment_lines.csv data/prepared/lm_test.csv lines.csv

Reads  CSV files, recognized by their columns:
       kind, should_refuse (yes, no), text                          replies to one comment about books
       text, becomes (ping, link, none)                             the same, labelled with what Reddit's renderer turns them into
       kind, may_answer (yes, no), subreddit, title, flair, comment
       category, refuse (1, 0), text                                invented lines; those used for training are omitted
       comment, reply                                               text by people, which should not be refused; a random sample of 1,000
Prints a table of misses and one of false refusals for each file, and the processor time of one thread for a candidate or a comment.

Settings come from the environment, such as BOT_CONDUCT__COMMENT_THRESHOLD=0.15.
"""

from __future__ import annotations

import random
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bot import config, schema
from bot.conduct import what
from bot.config import ConductSettings
from bot.online import check
from bot.rankers import classifier
from bot.train import conduct_transformers

ANSWERED = (
    "Does anybody know a good book for a long train ride? I have read everything at home twice, and my e-reader broke last week on the way"
    " to work."
)
PLACE = {"subreddit": "sandbox_books", "title": "Books for a trip"}
SET = config.load(None).conduct
WAYS = {"patterns": SET.model_copy(update={"comment_classifier": None, "reply_classifier": None}), "with classifiers": SET}
COMMENT, REPLY = "comment", "candidate"  # what is judged
PEOPLE, SEED = 1000, 1
WARM = 50  # lines that are judged before the time is measured, to load word lists and classifiers


class Line(NamedTuple):
    kind: str
    refuse: bool
    row: dict[str, str]  # columns of `check`
    side: str


def lines_of(path: Path) -> list[Line]:
    """The lines of a file with one of the formats above. Invented lines that a classifier was trained on are omitted."""
    header, rows = schema.read_table(path)
    if "becomes" in header:
        return [Line(f"becomes {row['becomes']}", row["becomes"] != "none", reply(row["text"]), REPLY) for row in rows]
    if "should_refuse" in header:
        return [Line(row["kind"], row["should_refuse"] == "yes", reply(row["text"]), REPLY) for row in rows]
    if "may_answer" in header:
        return [Line(row["kind"], row["may_answer"] == "no", {name: row[name] for name in check.PLACE}, COMMENT) for row in rows]
    if "refuse" in header:
        held_out = [row for row in rows if conduct_transformers.part_of(row["text"]) == "held_out"]
        if path.stem.startswith("reply"):
            return [Line(row["category"], row["refuse"] == "1", reply(row["text"]), REPLY) for row in held_out]
        return [Line(row["category"], row["refuse"] == "1", invented_comment(row), COMMENT) for row in held_out]
    drawn = random.Random(SEED).sample(rows, min(PEOPLE, len(rows)))
    replies = [Line("people's replies", False, {"comment": row["comment"], "reply": row["reply"]}, REPLY) for row in drawn]
    return replies + [Line("people's comments", False, {"comment": row["comment"]}, COMMENT) for row in drawn]


def reply(text: str) -> dict[str, str]:
    return {**PLACE, "comment": ANSWERED, "reply": text}


def invented_comment(row: dict[str, str]) -> dict[str, str]:
    is_title = row["category"] in ("serious", "disaster", "harmless_title")
    return {**PLACE, "title" if is_title else "comment": row["text"]}


def refusals(lines: list[Line], conduct: ConductSettings) -> list[bool]:
    """Whether each line is refused. As in `choose`, what a candidate is compared with is prepared once per comment."""
    if not lines or lines[0].side == COMMENT:
        return [bool(may_answer) for may_answer, _ in check.check([line.row for line in lines], conduct)]
    places = {(line.row["comment"], line.row.get("title", "")) for line in lines}
    around = {place: what.around(place[0], [place[1]]) for place in places}
    judged = classifier.judge_replies([line.row["reply"] for line in lines], conduct)
    return [
        what.may_say(line.row["reply"], around[line.row["comment"], line.row.get("title", "")], conduct, probabilities) is not None
        for line, probabilities in zip(lines, judged, strict=True)
    ]


def measure(path: Path) -> None:
    lines = lines_of(path)
    refused: dict[str, list[bool]] = {}
    for name, conduct in WAYS.items():
        results: dict[int, bool] = {}
        for side in (REPLY, COMMENT):
            of_side = [line for line in lines if line.side == side]
            refusals(of_side[:WARM], conduct)
            begin = time.process_time()
            results |= zip(map(id, of_side), refusals(of_side, conduct), strict=True)
            if of_side:
                print(f"{path.name}, {name}: {1000 * (time.process_time() - begin) / len(of_side):.1f} ms a {side}")
        refused[name] = [results[id(line)] for line in lines]
    for wrong, of in (("misses", True), ("false refusals", False)):
        print(f"\n| {wrong} | lines | {' | '.join(WAYS)} |\n|{'---|' * (2 + len(WAYS))}")
        counts: dict[str, list[list[bool]]] = defaultdict(list)
        for number, line in enumerate(lines):
            if line.refuse is of:
                counts[line.kind].append([refused[name][number] is not of for name in WAYS])
                counts["all"].append(counts[line.kind][-1])
        for kind, outcomes in sorted(counts.items(), key=lambda each: (each[0] == "all", each[0])):
            print(f"| {kind} | {len(outcomes)} | {' | '.join(str(sum(each)) for each in zip(*outcomes, strict=True))} |")


if __name__ == "__main__":
    if not sys.argv[1:] or {"-h", "--help"} & set(sys.argv):
        print(__doc__)
    else:
        for each in sys.argv[1:]:
            measure(Path(each))
