"""The bot's own replies (data/harvest.csv) as training data for an upvote ranker."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bot import text
from bot.schema import Harvested

HARVEST_HOURS = 24  # most votes are cast by then


def own_replies(rows: Iterable[Harvested], left_out: Iterable[str] = ()) -> list[Harvested]:
    """The rows of `harvest` that an upvote ranker trains on, cleaned: for each reply the last observation, at least a day old.

    A reply that was removed or deleted counts as disliked (karma at most 0). Excluded are replies whose comment was deleted, threads of
    the other splits, threads of the judges' half, and the subreddits in left_out (lower case).

    >>> row = Harvested("t1_r", "t1_c", "t3_b", "books", "Any good *books*?", "Dune.", 1.5, 1, 0, False)
    >>> later = replace(row, age_hours=25.0, karma=7)
    >>> [(each.comment, each.karma) for each in own_replies([later, row])], own_replies([row]), own_replies([later], ["books"])
    ([('Any good books?', 7)], [], [])
    >>> own_replies([replace(later, removed=True)])[0].karma
    0
    """
    latest: dict[str, Harvested] = {}
    for row in rows:
        if row.age_hours >= HARVEST_HOURS and (row.reply_id not in latest or row.age_hours > latest[row.reply_id].age_hours):
            latest[row.reply_id] = row
    result = []
    for row in latest.values():
        comment, reply = text.clean(row.comment), text.clean(row.reply)
        for_training = text.split_for(row.thread_id) == "train" and text.half_for(row.thread_id) == "rankers"
        if comment and reply and for_training and row.subreddit.lower() not in left_out:
            karma = min(row.karma, 0) if row.removed else row.karma
            result.append(replace(row, comment=comment, reply=reply, karma=karma))
    return result
