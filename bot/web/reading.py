"""The replies of a run in the order in which people read them, with what they decided. Pure, apart from `read`.

queue = read(folder, every, posted)          the items, grouped by submission; the chosen candidate first in each
queue.next_open("t1_a")                      the next item that nobody decided, after t1_a
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from bot import schema
from bot.online.generate import ANCESTORS as ANCESTORS
from bot.online.generate import chain
from bot.posting import approvals
from bot.report import report
from bot.schema import Act, Approval, Comment, Context, Scored, Verdict
from bot.web.runs import Version, posted_in, version_of


@dataclass(frozen=True)
class Item:
    """A comment with its candidates, the chosen one first, then by rank_score. above: (author, text) of the comments above, oldest first.

    act: what counts, None if nobody acted. changed: the candidates or the comment are no longer those that were approved, or
    approvals.csv was changed by hand. seen: see approvals.record. posted: the text that is on Reddit, empty if none is.
    """

    comment: Comment
    candidates: Sequence[Scored]
    above: Sequence[tuple[str, str]]
    act: Approval | None = None
    changed: bool = False
    seen: int = 0
    posted: str = ""

    @property
    def is_chosen(self) -> bool:
        return self.candidates[0].verdict == Verdict.CHOSEN

    @property
    def is_open(self) -> bool:
        """Whether somebody has to decide: nobody did, it was skipped, or what was approved has changed."""
        return not self.posted and (self.act is None or self.act.act == Act.SKIP or self.changed)

    @property
    def version(self) -> str:
        """Changes when the comment or a candidate changes; a page sends it back."""
        texts = [self.comment.comment, *(text for row in self.candidates for text in (row.candidate_id, row.reply))]
        return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]

    @property
    def is_skipped(self) -> bool:
        return self.is_open and self.act is not None and self.act.act == Act.SKIP


@dataclass(frozen=True)
class Queue:
    items: Sequence[Item]

    def find(self, comment_id: str) -> Item | None:
        return next((item for item in self.items if item.comment.comment_id == comment_id), None)

    def next_open(self, after: str = "") -> Item | None:
        """The first open item after another one, then from the start; skipped items come last."""
        ids = [item.comment.comment_id for item in self.items]
        place = ids.index(after) + 1 if after in ids else 0
        in_turn = [item for item in (*self.items[place:], *self.items[:place]) if item.is_open]
        return next((item for item in in_turn if not item.is_skipped), None)

    def first_skipped(self) -> Item | None:
        return next((item for item in self.items if item.is_skipped), None)

    def neighbours(self, comment_id: str) -> tuple[Item | None, Item | None]:
        """The items before and after an item."""
        ids = [item.comment.comment_id for item in self.items]
        place = ids.index(comment_id)
        return (self.items[place - 1] if place else None), (self.items[place + 1] if place + 1 < len(ids) else None)


def order(comments: Sequence[Comment], scored: Sequence[Scored], context: Sequence[Context], every: bool) -> list[Item]:
    """The items of a run, in the order of the submissions; in each, first the comment whose reply was chosen.

    every: also comments for which no reply was chosen.
    """
    groups = report.by_comment(scored)
    taken = (Context(each.thread_id, each.comment_id, each.parent_id, each.comment, each.author) for each in comments)
    others = {row.comment_id: row for row in (*context, *taken)}
    items = []
    for comment in comments:
        rows = sorted(groups.get(comment.comment_id, []), key=lambda row: row.verdict != Verdict.CHOSEN)
        if rows and (every or rows[0].verdict == Verdict.CHOSEN):
            items.append(Item(comment, rows, chain(comment.parent_id, others)))
    first: dict[str, int] = {}
    for place, item in enumerate(items):
        first.setdefault(item.comment.thread_id, place)
    return sorted(items, key=lambda item: (first[item.comment.thread_id], not item.is_chosen))


@lru_cache(maxsize=16)
def _items(folder: Path, version: Version, every: bool) -> list[Item]:
    context = schema.read_rows(folder / "context.csv", Context) if (folder / "context.csv").exists() else []
    comments = schema.read_rows(folder / "comments.csv", Comment)
    return order(comments, schema.read_rows(folder / "scored.csv", Scored), context, every)


def read(folder: Path, every: bool, posted_elsewhere: Mapping[str, str]) -> Queue:
    """The queue of a run. every: see `order`. posted_elsewhere: see Runs.posted. Raises FileError if a file is missing or damaged."""
    events = approvals.read(folder / approvals.FILE)
    standing, seen = approvals.standing(events), Counter(event.comment_id for event in events)
    posted = {**posted_elsewhere, **posted_in(folder)}
    items = []
    for item in _items(folder, version_of(folder), every):
        name = item.comment.comment_id
        act = standing.get(name)
        is_valid = approvals.is_approved(act) and act is not None and approvals.is_current(act, item.candidates)
        changed = act is not None and act.act in approvals.APPROVED and not is_valid
        items.append(replace(item, act=act, changed=changed, seen=seen[name], posted=posted.get(name, "")))
    return Queue(items)
