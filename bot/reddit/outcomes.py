"""Reddit's possible answers to reading and posting, in one table. A refusal is an `Outcome`; exceptions are for unexpected answers.

To add an answer, add a member to `Outcome`, with its phrase, and a line to `REFUSALS` or `REASONS`, under Reddit's name for it. This module
does not depend on PRAW; calls.py converts PRAW's exceptions to outcomes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from bot.schema import Phrased


class Outcome(Phrased):
    """Reddit's possible answers to reading and posting."""

    READ = "read", "Reddit answered"
    POSTED = "posted", "the reply is on the site"
    LOCKED = "locked", "not posted, the thread is locked"
    TOO_OLD = "too_old", "not posted, the thread is too old"
    DELETED = "deleted", "not posted, the comment was deleted"
    TOO_LONG = "too_long", "not posted, the text is too long"
    NO_TEXT = "no_text", "not posted, no text"
    LINKS = "links", "not posted, the subreddit does not allow these links"
    USER_BLOCKED = "user_blocked", "not posted, the comment's author blocked the account"
    FORBIDDEN = "forbidden", "not posted, the account may not post there"
    BANNED_THERE = "banned_there", "not posted, the subreddit bans the account"
    PRIVATE = "private", "not posted, the subreddit is private"
    BANNED = "banned", "not posted, the subreddit is closed"  # the subreddit itself was closed
    NSFW = "nsfw", "not read, the subreddit is for adults"  # the whole subreddit
    QUARANTINED = "quarantined", "not read, the subreddit is quarantined"
    MISSING = "missing", "not posted, the comment does not exist"
    UNREADABLE = "unreadable", "not read, Reddit's answer is unusable"
    RATE_LIMITED = "rate_limited", "not posted, the site asked to slow down"
    SUBREDDIT_RATE_LIMITED = "subreddit_rate_limited", "not posted, the subreddit asked to slow down"
    ACCOUNT_REFUSED = "account_refused", "not posted, the site refuses the account for now"
    NO_SCOPE = "no_scope", "not posted, the login lacks a permission"
    BLOCKED = "blocked", "not posted, the site's network refuses this address"
    REJECTED = "rejected", "not posted, refused by the site"  # with an error name that is not in REFUSALS
    NOT_SENT = "not_sent", "not posted, the site was not reached"
    UNKNOWN = "unknown", "no clear answer: it may have been posted"


# Nothing is wrong with the reply itself: it may be sent again when the cause is resolved.
STAYS_READY = frozenset(
    {
        Outcome.NOT_SENT,
        Outcome.RATE_LIMITED,
        Outcome.SUBREDDIT_RATE_LIMITED,
        Outcome.ACCOUNT_REFUSED,
        Outcome.NO_SCOPE,
        Outcome.BLOCKED,
    }
)

# Reddit's names of refusals, sent with status 200. If a response has several, the first in this order counts.
REFUSALS = {
    "SOMETHING_IS_BROKEN": Outcome.UNKNOWN,
    "IN_TIMEOUT": Outcome.ACCOUNT_REFUSED,
    "VERIFIED_USER_REQUIRED": Outcome.ACCOUNT_REFUSED,
    "USER_REQUIRED": Outcome.ACCOUNT_REFUSED,
    "BANNED_FROM_SUBREDDIT": Outcome.BANNED_THERE,
    "SUBREDDIT_NOTALLOWED": Outcome.BANNED_THERE,
    "SUBREDDIT_NOEXIST": Outcome.BANNED_THERE,
    "RATELIMIT": Outcome.RATE_LIMITED,
    "QUOTA_FILLED": Outcome.RATE_LIMITED,
    "SUBREDDIT_RATELIMIT": Outcome.SUBREDDIT_RATE_LIMITED,
    "BAD_CAPTCHA": Outcome.ACCOUNT_REFUSED,
    "USER_BLOCKED": Outcome.USER_BLOCKED,
    "THREAD_LOCKED": Outcome.LOCKED,
    "TOO_OLD": Outcome.TOO_OLD,
    "DELETED_COMMENT": Outcome.DELETED,
    "NO_THING_ID": Outcome.MISSING,
    "SUBREDDIT_OUTBOUND_LINKING": Outcome.LINKS,
    "TOO_LONG": Outcome.TOO_LONG,
    "NO_TEXT": Outcome.NO_TEXT,
}
# For names that are not in the table: patterns for a part of the name; the first match counts.
WORDS = {
    r"SUBREDDIT_?RATE": Outcome.SUBREDDIT_RATE_LIMITED,
    r"RATE_?LIMIT|TOO_MANY|TOO_FAST|QUOTA": Outcome.RATE_LIMITED,
    r"BANNED|NOT_?ALLOWED|RESTRICTED|CONTRIBUTORS?_ONLY": Outcome.BANNED_THERE,
    r"SUSPEND|TIME_?OUT|VERIF|CAPTCHA|SHADOW": Outcome.ACCOUNT_REFUSED,
    r"BLOCK": Outcome.USER_BLOCKED,
    r"LOCKED": Outcome.LOCKED,
    r"ARCHIVED|TOO_OLD": Outcome.TOO_OLD,
    r"DELETED|REMOVED": Outcome.DELETED,
}
# For names that are not in the table: messages which say that Reddit itself failed, so the reply may have been posted.
BROKEN = re.compile(r"(?i)something (?:is broken|broke|went wrong)|internal (?:server )?error")
TRY_AGAIN = re.compile(r"(?i)try(?:ing)? again|take a break|slow down|too much")
# The "reason" in the body of a 403 or 404.
REASONS = {"private": Outcome.PRIVATE, "banned": Outcome.BANNED, "quarantined": Outcome.QUARANTINED}

# "Try again in 9 minutes", "1m 30s", "2 days", "500 milliseconds": the wordings of RATELIMIT, with the units in several languages.
UNITS = {
    86_400: r"d|days?|d[ií]as?|tage?n?|jours?|giorn[oi]|dag(?:en)?",
    3600: r"h|hrs?|hours?|std|stunden?|heures?|horas?|or[ae]|uur",
    60: r"m|mins?|minut(?:e[sn]?|os?|i|en)?",
    1: r"s|secs?|second(?:e?s?|en)|segundos?|second[oi]|sekunden?",
    0.001: r"ms|milli\w+",
}
WAIT = re.compile(rf"(?i)(?<![\d.])(\d++(?:\.\d++)?)\s?(?:{'|'.join(f'({units})' for units in UNITS.values())})(?![^\W\d_])")
WAIT_SECONDS = 600  # if Reddit does not say how long


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a POST. detail: the error of Reddit or Python, its name first. wait_seconds: how long to post nothing."""

    outcome: Outcome
    reply_id: str = ""  # empty if it was not posted, or if Reddit did not return it
    detail: str = ""
    wait_seconds: int | None = None


def answer_of(errors: Sequence[tuple[str, str]]) -> Answer:
    """The meaning of all errors (names and messages) of one response.

    >>> answer_of([("BAD_CAPTCHA", "again?"), ("RATELIMIT", "try again in 9 minutes.")])
    Answer(outcome=<Outcome.RATE_LIMITED: 'rate_limited'>, reply_id='', detail='RATELIMIT: try again in 9 minutes.; BAD_CAPTCHA: again?', \
wait_seconds=540)
    """
    names, outcomes = list(REFUSALS), [*REFUSALS.values(), Outcome.REJECTED]
    ruling = sorted(errors, key=lambda error: names.index(error[0]) if error[0] in REFUSALS else outcomes.index(meaning_of(*error)))
    outcome, message = meaning_of(*ruling[0]), ruling[0][1]
    slow_down = (Outcome.RATE_LIMITED, Outcome.SUBREDDIT_RATE_LIMITED)
    waits = [wait_asked(text) for name, text in errors if meaning_of(name, text) in slow_down]
    if outcome is Outcome.ACCOUNT_REFUSED and WAIT.search(message):
        waits.append(wait_asked(message))
    detail = "; ".join(f"{name}: {text}" if text else name for name, text in ruling)
    return Answer(outcome, "", detail, max(waits, default=None))


def meaning_of(name: str, message: str) -> Outcome:
    """The outcome of one error. A name that is not in REFUSALS is judged by its words, or by a message that asks to try again later.

    >>> meaning_of("THREAD_LOCKED", ""), meaning_of("USER_SUSPENDED", ""), meaning_of("ODD_NAME", "words")
    (<Outcome.LOCKED: 'locked'>, <Outcome.ACCOUNT_REFUSED: 'account_refused'>, <Outcome.REJECTED: 'rejected'>)
    """
    if name in REFUSALS:
        return REFUSALS[name]
    if BROKEN.search(message):
        return Outcome.UNKNOWN
    by_word = next((outcome for words, outcome in WORDS.items() if re.search(words, name.upper())), None)
    return by_word or (Outcome.RATE_LIMITED if TRY_AGAIN.search(message) and WAIT.search(message) else Outcome.REJECTED)


def wait_asked(message: str) -> int:
    """The seconds that the message of a RATELIMIT asks to wait.

    >>> wait_asked("Take a break for 9 minutes before trying again."), wait_asked("Take a break for 1m 30s.")
    (540, 90)
    >>> wait_asked("try again in 1 day 3 hours"), wait_asked("in 300 milliseconds"), wait_asked("You are doing that too much.")
    (97200, 1, 600)
    """
    sizes = list(UNITS)
    parts = [
        float(number) * next(size for size, unit in zip(sizes, units, strict=True) if unit) for number, *units in WAIT.findall(message)
    ]
    return math.ceil(sum(parts)) if parts else WAIT_SECONDS
