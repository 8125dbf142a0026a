"""where: may the bot reply to this comment? Pure; every refusal is a `Reason`.

    may_reply_to   asked by `fetch` of every comment it sees, and by `submit` again before it posts; `Reason` in skipped.csv

A new refusal is a member of `Reason`, with its phrase, and a line in `may_reply_to`. Lists of names are in words.py's files.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot import text
from bot.conduct import words
from bot.schema import Phrased

if TYPE_CHECKING:
    from bot.config import ConductSettings, FetchSettings
    from bot.reddit.threads import Thread, ThreadComment


class Reason(Phrased):
    """Why a comment is not taken up, in the order of asking: the first that fits is written down."""

    OWN_COMMENT = "own_comment", "written by the bot's own account"
    REMOVED = "removed", "removed by a moderator or by Reddit"
    DELETED = "deleted", "deleted by its author"
    DELETED_AUTHOR = "deleted_author", "its author's account is gone"  # the text is there, the account isn't
    OPTED_OUT = "opted_out", "its author asked not to be replied to"
    TOO_LONG = "too_long", "10,000 characters or more"
    EMPTY = "empty", "no text left without quotes and links"
    BOT_AUTHOR = "bot_author", "written by a bot"
    SENSITIVE_SUBREDDIT = "sensitive_subreddit", "in a subreddit about grief, crisis or illness"
    BENCHED = "benched", "in a subreddit that refused or removed the bot's replies lately"
    SERIOUS = "serious", "in a thread that asks for serious replies only"
    QUARANTINED = "quarantined", "in a quarantined subreddit"
    NSFW = "nsfw", "its submission is marked NSFW (over 18)"
    LOCKED = "locked", "the comment or its submission is locked"
    ARCHIVED = "archived", "its submission is archived"
    STICKIED = "stickied", "the comment or its submission is stuck to the top by a moderator"
    ALREADY_REPLIED_BY_US = "already_replied_by_us", "the bot has replied to it before"
    ALREADY_IN_THREAD = "already_in_thread", "the bot has replied to another comment of this submission before"
    TRIED_BEFORE = (
        "tried_before",
        "a reply to it was refused before, or waits for its time",
    )  # the ledger has a reply to it that Reddit refused, or that waits for its time
    TOO_DEEP = "too_deep", "deeper in its thread than the settings allow"
    TOO_OLD = "too_old", "older than the settings allow"
    LOW_KARMA = "low_karma", "less karma than the settings ask for"
    OVER_LIMIT = "over_limit", "could have been taken up, but the limit of the run was reached"
    BEHIND_MORE = "behind_more", "behind a «more comments» link that was not opened, so known by its id only"
    SAME_ID = "same_id", "the same comment again"
    UNREADABLE = "unreadable", "a whole thread that Reddit did not show"  # the row has the thread's id


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
