"""Rows of data/harvest.csv, the bot's own replies, as an upvote ranker learns from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bot import text
from bot.schema import Harvested

HARVEST_HOURS = 24  # votes are in by then


def own_replies(rows: Iterable[Harvested], left_out: Iterable[str] = ()) -> list[Harvested]:
    """Of `harvest`'s rows those that an upvote ranker learns from, cleaned: the last look of each reply that is at least a day old.

    What was removed or deleted counts as disliked, whatever its karma was. A reply whose comment is gone is left out: there is nothing to
    learn it from; so are those in threads of the other splits and of the judges' half, and in subreddits (lower case) of left_out.

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
        is_ours = text.split_for(row.thread_id) == "train" and text.half_for(row.thread_id) == "rankers"
        if comment and reply and is_ours and row.subreddit.lower() not in left_out:
            karma = min(row.karma, 0) if row.removed else row.karma
            result.append(replace(row, comment=comment, reply=reply, karma=karma))
    return result
