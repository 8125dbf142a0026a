"""Pairs of replies to one comment, the better one first, from the prepared files of a question.

Reads DATA/{upvote_pairs,realism,relevance}_{train,val,test}.csv. Better is: of two people's replies the one with more karma; a person's
reply than a generated one; the comment's own reply than one of another thread.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from bot import schema
from bot.schema import LabelledRow, RealismRow, UpvotePair

STEMS = {"realism": "realism", "upvote": "upvote_pairs", "relevance": "relevance"}  # of the files' names, by the kind of ranker

Compared = tuple[str, str, str, str]  # thread_id, comment, the better reply, the worse one


def read(data: Path, kind: str, split: str, least_karma_gap: int = 0) -> list[Compared]:
    """The pairs of a split. kind: realism, upvote or relevance; least_karma_gap: for upvote. Raises FileError."""
    path = data / f"{STEMS[kind]}_{split}.csv"
    if kind == "upvote":
        siblings = schema.read_rows(path, UpvotePair)
        return [(row.thread_id, row.comment, row.chosen, row.rejected) for row in siblings if row.karma_gap >= least_karma_gap]
    return by_label(schema.read_rows(path, RealismRow) if kind == "realism" else schema.read_rows(path, LabelledRow))


def by_label(rows: Sequence[RealismRow] | Sequence[LabelledRow]) -> list[Compared]:
    """Each comment's replies of label 1 against each of its replies of label 0.

    >>> rows = [LabelledRow("t3_a", "t1_a", "t1_b", "s", "why", "so", 1), LabelledRow("t3_a", "t1_a", "t1_z", "s", "why", "no", 0)]
    >>> by_label(rows)
    [('t3_a', 'why', 'so', 'no')]
    """
    replies: dict[tuple[str, str, str], tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for row in rows:
        replies[row.thread_id, row.comment_id, row.comment][1 - row.label].append(row.reply)
    return [(thread, comment, good, bad) for (thread, _, comment), (goods, bads) in replies.items() for good in goods for bad in bads]
