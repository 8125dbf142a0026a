"""Pairs of replies to one comment, the better one first, from the prepared files of one kind of ranker.

Reads DATA/{upvote_pairs,realism,relevance}_{train,val,test}.csv. The better reply is the one with more karma (upvote), the human one
(realism), or the comment's own reply instead of one from another thread (relevance).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from bot import schema
from bot.schema import LabelledRow, RealismRow, UpvotePair

STEMS = {"realism": "realism", "upvote": "upvote_pairs", "relevance": "relevance"}  # of file names, by kind of ranker

Compared = tuple[str, str, str, str]  # thread_id, comment, the better reply, the worse one


def read(data: Path, kind: str, split: str, min_karma_gap: int = 0) -> list[Compared]:
    """Read the pairs of a split. kind: realism, upvote or relevance. min_karma_gap: only for upvote. Raises FileError."""
    path = data / f"{STEMS[kind]}_{split}.csv"
    if kind == "upvote":
        siblings = schema.read_rows(path, UpvotePair)
        return [(row.thread_id, row.comment, row.chosen, row.rejected) for row in siblings if row.karma_gap >= min_karma_gap]
    return by_label(schema.read_rows(path, RealismRow) if kind == "realism" else schema.read_rows(path, LabelledRow))


def by_label(rows: Sequence[RealismRow] | Sequence[LabelledRow]) -> list[Compared]:
    """Pair each reply with label 1 with each reply with label 0 to the same comment.

    >>> rows = [LabelledRow("t3_a", "t1_a", "t1_b", "s", "why", "so", 1), LabelledRow("t3_a", "t1_a", "t1_z", "s", "why", "no", 0)]
    >>> by_label(rows)
    [('t3_a', 'why', 'so', 'no')]
    """
    replies: dict[tuple[str, str, str], tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for row in rows:
        replies[row.thread_id, row.comment_id, row.comment][1 - row.label].append(row.reply)
    return [(thread, comment, good, bad) for (thread, _, comment), (goods, bads) in replies.items() for good in goods for bad in bads]
