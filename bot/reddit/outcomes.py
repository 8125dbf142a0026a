"""What Reddit can answer, reading or posting: one table, so that a refusal is data and only a surprise is an exception.

A new answer of Reddit's is a member of `Outcome`, with its phrase, and a line in `REFUSALS` or `REASONS`, by the name that Reddit gives it.
Nothing here knows PRAW; calls.py turns its exceptions into these.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from bot.schema import Phrased


class Outcome(Phrased):
    """All that Reddit can answer, reading or posting."""

    READ = "read", "Reddit answered"
    POSTED = "posted", "the reply is on the site"
    LOCKED = "locked", "not posted, the thread is locked"
    TOO_OLD = "too_old", "not posted, the thread is too old"
    DELETED = "deleted", "not posted, the comment is gone"
    TOO_LONG = "too_long", "not posted, the text is too long"
    NO_TEXT = "no_text", "not posted, no text"
    FORBIDDEN = "forbidden", "not posted, the account may not post there"
    PRIVATE = "private", "not posted, the subreddit is private"
    BANNED = "banned", "not posted, the subreddit is closed"  # the subreddit itself was closed
    NSFW = "nsfw", "not read, the subreddit is for adults"  # the whole subreddit
    QUARANTINED = "quarantined", "not read, the subreddit is quarantined"
    MISSING = "missing", "not posted, the comment can't be found"
    RATE_LIMITED = "rate_limited", "not posted, the site asked to slow down"
    REJECTED = "rejected", "not posted, refused by the site"  # any other refusal by name: it was not posted
    NOT_SENT = "not_sent", "not posted, the site wasn't reached"
    UNKNOWN = "unknown", "no clear answer: it may have been posted"


# Reddit's names of refusals, which come with status 200.
REFUSALS = {
    "THREAD_LOCKED": Outcome.LOCKED,
    "TOO_OLD": Outcome.TOO_OLD,
    "DELETED_COMMENT": Outcome.DELETED,
    "TOO_LONG": Outcome.TOO_LONG,
    "NO_TEXT": Outcome.NO_TEXT,
    "RATELIMIT": Outcome.RATE_LIMITED,
}
# "Try again in 9 minutes", "1m 30s", "500 milliseconds": both wordings of RATELIMIT
WAIT = re.compile(r"(\d+) ?(milliseconds?|hours?|h|minutes?|m|seconds?|s)\b")
WAIT_SECONDS = 600  # where Reddit doesn't say how long
# The "reason" in the body of a 403 or 404.
REASONS = {"private": Outcome.PRIVATE, "banned": Outcome.BANNED, "quarantined": Outcome.QUARANTINED}


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a POST. detail: in Reddit's or Python's words. wait_seconds: how long the account is to post nothing."""

    outcome: Outcome
    reply_id: str = ""  # empty where it was not posted, or Reddit didn't say
    detail: str = ""
    wait_seconds: int | None = None


def wait_asked(message: str) -> int:
    """Seconds that the text of a RATELIMIT asks for.

    >>> wait_asked("Take a break for 9 minutes before trying again."), wait_asked("Take a break for 1m 30s.")
    (540, 90)
    >>> wait_asked("try again in 1 hour"), wait_asked("in 300 milliseconds"), wait_asked("You are doing that too much.")
    (3600, 1, 600)
    """
    units = {"hours": 3600, "minutes": 60, "seconds": 1, "milliseconds": 0.001}
    found = [int(number) * next(size for name, size in units.items() if name.startswith(unit)) for number, unit in WAIT.findall(message)]
    return math.ceil(sum(found)) if found else WAIT_SECONDS
