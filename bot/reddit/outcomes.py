"""What Reddit can answer, reading or posting: one table, so that a refusal is data and only a surprise is an exception."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum

import prawcore
from praw.exceptions import RedditAPIException

from bot.reddit import requestor


class Outcome(StrEnum):
    """All that Reddit can answer, reading or posting."""

    READ = "read"
    POSTED = "posted"
    LOCKED = "locked"
    TOO_OLD = "too_old"
    DELETED = "deleted"
    TOO_LONG = "too_long"
    NO_TEXT = "no_text"
    FORBIDDEN = "forbidden"  # our account may not; banned from the subreddit, say
    PRIVATE = "private"
    BANNED = "banned"  # the subreddit itself was closed
    NSFW = "nsfw"  # the whole subreddit
    QUARANTINED = "quarantined"
    MISSING = "missing"
    RATE_LIMITED = "rate_limited"
    REJECTED = "rejected"  # any other refusal by name: it was not posted
    NOT_SENT = "not_sent"  # Reddit wasn't reached: it was not posted
    UNKNOWN = "unknown"  # it may have been posted


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


def answer_to(error: Exception) -> Answer:
    """What the error of a POST that was sent says: a refusal that Reddit names, else nothing."""
    if isinstance(error, RedditAPIException):
        item = error.items[0]
        outcome = REFUSALS.get(item.error_type, Outcome.REJECTED)
        wait = wait_asked(item.message or "") if outcome is Outcome.RATE_LIMITED else None
        return Answer(outcome, "", requestor.one_line(f"{item.error_type}: {item.message}"), wait)
    if isinstance(error, prawcore.TooManyRequests):
        seconds = math.ceil(float(error.retry_after)) if error.retry_after else WAIT_SECONDS
        return Answer(Outcome.RATE_LIMITED, "", requestor.one_line(error), seconds)
    if isinstance(error, (prawcore.Forbidden, prawcore.InsufficientScope, prawcore.NotFound)):
        return Answer(refusal_of(error), "", requestor.one_line(error))
    return Answer(Outcome.UNKNOWN, "", requestor.one_line(f"{type(error).__name__}: {error}"))


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


def refusal_of(error: prawcore.ResponseException) -> Outcome:
    otherwise = Outcome.MISSING if isinstance(error, prawcore.NotFound) else Outcome.FORBIDDEN
    try:
        body = error.response.json()
    except ValueError:
        return otherwise
    return REASONS.get(body.get("reason", ""), otherwise) if isinstance(body, dict) else otherwise
