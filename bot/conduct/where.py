"""where: may the bot reply to this comment? Pure; every refusal is a `Reason`.

    may_reply_to   asked by `fetch` of every comment it sees, and by `submit` again before it posts; `Reason` in skipped.csv

A new refusal is a member of `Reason`, with its phrase, and a line in `may_reply_to`. Lists of names are in words.py's files.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot import text
from bot.conduct import titles, topics, words
from bot.conduct.reasons import Reason as Reason

if TYPE_CHECKING:
    from bot.config import ConductSettings, FetchSettings
    from bot.reddit.threads import Thread, ThreadComment


_SERIOUS = re.compile(
    r"(?i)[\[(<{|]\s*(?:very\s+|replies\s+)?serious\b|\bserious\s+(?:replies|answers|discussion|responses?)\b|^\s*serious\s*$"
)


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger knows. Names in lower case."""

    opted_out: Collection[str] = frozenset()
    benched: Collection[str] = frozenset()
    comments: Collection[str] = frozenset()  # that have a reply of ours, withdrawn ones too
    threads: Collection[str] = frozenset()  # the same
    tried: Collection[str] = frozenset()  # comments that we tried to reply to: refused for good, or to be tried again by `submit`


NOTHING_KNOWN = Known()
# What a classifier says of pieces of text: piece -> category -> probability. Categories: CRISIS to SERIOUS.
Likely = Mapping[str, Mapping[Reason, float]]
NOTHING_LIKELY: Likely = {}


def text_refusal(
    subreddit: str,
    title: str,
    flair: str,
    comment: str,
    conduct: ConductSettings,
    selftext: str = "",
    above: Sequence[str] = (),
    likely: Likely = NOTHING_LIKELY,
) -> Reason | None:
    """Why a comment with this text, in this place, is not answered, or None; any text may be empty.

    selftext: the submission's own text. above: the comments above this one, in any order. likely: what a classifier says of the pieces of
    these texts; without it patterns alone decide.
    """
    sensitive = words.SENSITIVE_SUBREDDITS.union(subreddit_name(name) for name in conduct.sensitive_subreddits)
    if subreddit_name(subreddit) in sensitive:
        return Reason.SENSITIVE_SUBREDDIT
    for body in (comment, *above, selftext):
        if topic := topics.topic_of(body):
            return topic
    return titles.topic_of(title, flair)


def is_bot(author: str, body: str) -> bool:
    """True for an author or a text that says it is a bot's.

    >>> is_bot("AutoModerator", ""), is_bot("haiku_bot", ""), is_bot("RemindMeBot", ""), is_bot("reader_1", "I am a bot, beep")
    (True, True, True, True)
    >>> is_bot("Talbot", "My robot vacuum is a bot I love")
    False
    """
    return author.lower() in words.BOTS or bool(re.search(text.BOT_NAME, author) or re.search(text.BOT_SAYS_SO, body))


def is_serious(title: str, flair: str = "") -> bool:
    """True for a thread whose title or flair asks for serious replies only.

    >>> is_serious("[Serious] What helped you?"), is_serious("What helped you?", "Serious Replies Only"), is_serious("A serious cake")
    (True, True, False)
    """
    return bool(_SERIOUS.search(title) or _SERIOUS.search(flair))


def may_reply_to(
    thread: Thread,
    comment: ThreadComment,
    fetch: FetchSettings,
    conduct: ConductSettings,
    now: float,
    us: str = "",
    answered: Collection[str] = (),
    known: Known = NOTHING_KNOWN,
) -> Reason | None:
    """Why this comment is not answered, or None. now: epoch seconds; us: our account, empty for none; answered: fullnames of what we are
    seen to have replied to in this thread.
    """
    body, subreddit = comment.body.strip().lower(), thread.subreddit.lower()
    sensitive = words.SENSITIVE_SUBREDDITS.union(subreddit_name(name) for name in conduct.sensitive_subreddits)
    checks: tuple[tuple[Reason, bool], ...] = (
        (Reason.OWN_COMMENT, same_name(comment.author, us)),
        (Reason.REMOVED, bool(body) and text.is_deleted(body) and "removed" in body),
        (Reason.DELETED, bool(body) and text.is_deleted(body)),
        (Reason.DELETED_AUTHOR, not comment.author),
        (Reason.OPTED_OUT, comment.author.lower() in known.opted_out),
        (Reason.TOO_LONG, len(comment.body) >= text.UNANSWERABLE_LENGTH),
        (Reason.EMPTY, len(comment.body) < text.UNANSWERABLE_LENGTH and not text.clean(comment.body)),
        (Reason.BOT_AUTHOR, is_bot(comment.author, comment.body)),
        (Reason.SENSITIVE_SUBREDDIT, subreddit in sensitive),
        (Reason.BENCHED, subreddit in known.benched),
        (Reason.SERIOUS, is_serious(thread.title, thread.flair)),
        (Reason.QUARANTINED, thread.quarantined),
        (Reason.NSFW, thread.over_18),
        (Reason.LOCKED, thread.locked or comment.locked),
        (Reason.ARCHIVED, thread.archived),
        (Reason.STICKIED, thread.stickied or comment.stickied),
        (Reason.ALREADY_REPLIED_BY_US, comment.comment_id in answered or comment.comment_id in known.comments),
        (Reason.ALREADY_IN_THREAD, bool(answered) or thread.thread_id in known.threads),
        (Reason.TRIED_BEFORE, comment.comment_id in known.tried),
        (Reason.TOO_DEEP, comment.depth > fetch.depth),
        (Reason.TOO_OLD, now - comment.created_utc > fetch.maximum_age_hours * 3600),
        (Reason.LOW_KARMA, comment.karma < fetch.minimum_karma),
    )
    return next((reason for reason, applies in checks if applies), None)


def same_name(one: str, other: str) -> bool:
    """Reddit's names differ by more than case; nobody has an empty one."""
    return bool(other) and one.lower() == other.lower()


def subreddit_name(name: str) -> str:
    """
    >>> subreddit_name("/r/Books"), subreddit_name("books")
    ('books', 'books')
    """
    return name.strip().removeprefix("/").removeprefix("r/").lower()
