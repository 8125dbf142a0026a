"""How many lines the gates of conduct miss, and how many they refuse in vain, kind by kind: patterns and lists, classifiers, and both.

    python benchmarks/conduct.py lines.csv comments.csv

Reads  CSV files with the columns kind, should_refuse (yes, no), text: replies to one comment about books; or kind, may_answer (yes, no),
       subreddit, title, flair, comment; or text, becomes (ping, link, none), what Reddit's renderer makes of a reply.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bot import schema
from bot.config import ConductSettings
from bot.online import check

COMMENT = "Does anybody know a good book for a long train ride? I have read all of mine twice, and my e-reader broke last week."
PLACE = {"subreddit": "sandbox_books", "title": "Books for a trip"}
WAYS = {
    "patterns": ConductSettings(comment_classifier=None, reply_classifier=None),
    "both": ConductSettings(),
}


def rows_of(path: Path) -> tuple[list[dict[str, str]], list[bool], int]:
    """Rows for `check`, whether each is to be refused, and which of the two refusals counts."""
    header, rows = schema.read_table(path)
    if "becomes" in header:
        return [{**PLACE, "comment": COMMENT, "reply": row["text"]} for row in rows], [row["becomes"] != "none" for row in rows], 1
    if "should_refuse" in header:
        return [{**PLACE, "comment": COMMENT, "reply": row["text"]} for row in rows], [row["should_refuse"] == "yes" for row in rows], 1
    return [{name: row[name] for name in check.PLACE} for row in rows], [row["may_answer"] == "no" for row in rows], 0


def measure(path: Path) -> None:
    rows, wanted, side = rows_of(path)
    kinds = [row.get("kind") or f"becomes {row['becomes']}" for row in schema.read_table(path)[1]]
    refused: dict[str, list[bool]] = {}
    for name, conduct in WAYS.items():
        check.check(rows[:1], conduct)  # loads
        begin = time.perf_counter()
        refused[name] = [bool(found[side]) for found in check.check(rows, conduct)]
        print(f"{path.name}, {name}: {1000 * (time.perf_counter() - begin) / len(rows):.1f} ms a line")
    refused["classifier"] = classified(rows, side)
    columns = ("patterns", "classifier", "both")
    for wrong, of in (("misses", True), ("false refusals", False)):
        print(f"\n| {wrong} | lines | {' | '.join(columns)} |\n|{'---|' * (2 + len(columns))}")
        counts: dict[str, list[list[bool]]] = defaultdict(list)
        for row, kind in enumerate(kinds):
            if wanted[row] is of:
                counts[kind].append([refused[name][row] is not of for name in columns])
                counts["all"].append(counts[kind][-1])
        for kind, found in sorted(counts.items(), key=lambda each: (each[0] == "all", each[0])):
            print(f"| {kind} | {len(found)} | {' | '.join(str(sum(each)) for each in zip(*found, strict=True))} |")


def classified(rows: list[dict[str, str]], side: int) -> list[bool]:
    """What the classifier alone refuses."""
    from bot.conduct import where
    from bot.rankers import classifier

    conduct = ConductSettings()
    if side == 1:
        judged = classifier.judge_replies([row["reply"] for row in rows], conduct)
        return [max(each.values()) >= conduct.reply_threshold for each in judged]
    titles = [where.pieces_judged(row["title"], row["flair"], "") for row in rows]
    bodies = [where.pieces_judged("", "", row["comment"]) for row in rows]
    likely = classifier.judge_pieces([*dict.fromkeys(piece for each in [*titles, *bodies] for piece in each)], conduct)
    threshold = conduct.comment_threshold
    return [
        bool(where.likely_topic(title, likely, threshold) or where.likely_topic(body, likely, threshold, where.TITLE_TOPICS))
        for title, body in zip(titles, bodies, strict=True)
    ]


if __name__ == "__main__":
    for each in sys.argv[1:]:
        measure(Path(each))
