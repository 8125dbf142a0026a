"""where: may the bot reply to this comment? Pure; every refusal is a `Reason`.

    may_reply_to   called by `fetch` for every comment, and by `submit` again before it posts; `Reason` in skipped.csv
    text_refusal   the part that needs only texts: subreddit, title, flair, comment and the comments above it

topics.py and titles.py use patterns to detect what a text is about. A classifier's probabilities for the pieces of text from
`pieces_judged` are passed in as `Likely`. To add a refusal, add a member to `Reason`, with its phrase, and a line here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot import names, text
from bot.conduct import accounts, titles, topics, words
from bot.conduct.reasons import Reason as Reason

if TYPE_CHECKING:
    from bot.config import ConductSettings, FetchSettings
    from bot.reddit.threads import Thread, ThreadComment

# Piece of text -> category -> probability. The categories are topics.TOPICS. Classifiers are calibrated for a threshold of 0.5; the setting
# conduct.comment_threshold can change it.
Likely = Mapping[str, Mapping[Reason, float]]
NOTHING_LIKELY: Likely = {}
TITLE_TOPICS = frozenset({Reason.DISASTER, Reason.SERIOUS})  # detected only in titles and flairs
MAXIMUM_PIECES = 200  # of one text, for the classifier; patterns are applied to all of it


@dataclass(frozen=True, slots=True)
class Known:
    """The ledger's records. Names in lower case."""

    opted_out: Collection[str] = frozenset()
    benched: Collection[str] = frozenset()
    comments: Collection[str] = frozenset()  # with a reply of ours, including withdrawn ones
    threads: Collection[str] = frozenset()  # with a reply of ours, including withdrawn ones
    tried: Collection[str] = frozenset()  # comments with an attempted reply: refused permanently, or to be tried again by `submit`


NOTHING_KNOWN = Known()


# --- the texts --------------------------------------------------------------------------------------------------------------------


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
    """Why a comment with this text, in this place, is not answered, or None. Empty texts are ignored.

    selftext: the submission's own text. above: the comments above this one, in any order. likely: a classifier's probabilities for the
    pieces of these texts; without them only patterns decide.
    """
    place = names.plain_name(subreddit)
    sensitive = _listed(words.SENSITIVE_SUBREDDITS, conduct.sensitive_subreddits)
    without_bots = _listed(words.SUBREDDITS_WITHOUT_BOTS, conduct.subreddits_without_bots)
    checks = (
        lambda: _notice(comment),
        lambda: Reason.TOO_LONG if len(comment) >= text.UNANSWERABLE_LENGTH else None,
        lambda: Reason.EMPTY if comment and not text.clean(comment) else None,
        lambda: Reason.BOT_AUTHOR if accounts.is_bot("", comment) else None,
        lambda: Reason.SENSITIVE_SUBREDDIT if words.is_listed(place, sensitive) else None,
        lambda: Reason.BOTS_FORBIDDEN if words.is_listed(place, without_bots) else None,
        lambda: next((topic for body in (comment, *above, selftext) if (topic := topics.topic_of(body))), None),
        lambda: titles.topic_of(title, flair),
        lambda: Reason.THREAD_REMOVED if text.is_notice(title) or text.is_notice(selftext) else None,
        lambda: likely_topic(pieces_judged(title, flair, ""), likely, conduct.comment_threshold),
        lambda: likely_topic(pieces_judged("", "", comment, selftext, above), likely, conduct.comment_threshold, TITLE_TOPICS),
    )
    return next((reason for check in checks if (reason := check())), None)


def pieces_judged(title: str, flair: str, comment: str, selftext: str = "", above: Sequence[str] = ()) -> list[str]:
    """The pieces of these texts for the classifier: each short text as a whole, and each sentence of longer ones.

    >>> pieces_judged("Books", "", "I like it. Not the end, though.")
    ['books', 'i like it. not the end, though.']
    """
    pieces: dict[str, None] = {}
    for body in (title, flair, comment, *above, selftext):
        pieces |= dict.fromkeys(topics.windows_of(body)[:MAXIMUM_PIECES])
    return list(pieces)


def pieces_of(thread: Thread, comment: ThreadComment) -> list[str]:
    """`pieces_judged` of a comment, the comments above it and its submission."""
    return pieces_judged(thread.title, thread.flair, comment.body, thread.selftext, [each.body for each in ancestors(thread, comment)])


def likely_topic(pieces: Iterable[str], likely: Likely, threshold: float = 0.5, but: Collection[Reason] = frozenset()) -> Reason | None:
    """The most likely category of all pieces, except those in `but`, if its probability is at least `threshold`.

    >>> likely_topic(["a", "b"], {"a": {Reason.GRIEF: 0.2}, "b": {Reason.CRISIS: 0.7, Reason.GRIEF: 0.6}})
    <Reason.CRISIS: 'crisis'>
    """
    candidates = [
        (probability, topic)
        for piece in pieces
        for topic, probability in likely.get(piece, {}).items()
        if topic not in but and probability >= threshold and not topics.is_elsewhere(topic, piece)
    ]
    return max(candidates, default=(0.0, None), key=lambda each: each[0])[1]


def _notice(body: str) -> Reason | None:
    """The refusal for a text that was deleted or removed."""
    if not text.is_notice(body):
        return None
    return Reason.DELETED if text.is_deleted_by_author(body) else Reason.REMOVED


def _listed(ours: Collection[str], theirs: Iterable[str]) -> frozenset[str]:
    return frozenset(ours).union(names.plain_name(name) for name in theirs)


# --- the whole comment ------------------------------------------------------------------------------------------------------------


def may_reply_to(
    thread: Thread,
    comment: ThreadComment,
    fetch: FetchSettings,
    conduct: ConductSettings,
    now: float,
    us: str = "",
    answered: Collection[str] = (),
    known: Known = NOTHING_KNOWN,
    likely: Likely = NOTHING_LIKELY,
) -> Reason | None:
    """Why this comment is not answered, or None. now: epoch seconds; us: our account, empty for none; answered: fullnames in this thread
    that have a visible reply of ours; likely: see `text_refusal`. The comments above it are taken from the thread.
    """
    if same_name(comment.author, us):
        return Reason.OWN_COMMENT
    if gone := _notice(comment.body):
        return gone
    if not comment.author:
        return Reason.DELETED_AUTHOR
    if {comment.author.lower(), thread.author.lower()} & set(known.opted_out):
        return Reason.OPTED_OUT
    if not comment.body:
        return Reason.EMPTY
    if accounts.is_bot(comment.author, "", {name.lower() for name in conduct.bots}):
        return Reason.BOT_AUTHOR
    above = [each.body for each in ancestors(thread, comment) if not text.is_notice(each.body)]
    refusal = text_refusal(thread.subreddit, thread.title, thread.flair, comment.body, conduct, thread.selftext, above, likely)
    return refusal or _state_refusal(thread, comment, fetch, now, answered, known)


def _state_refusal(
    thread: Thread, comment: ThreadComment, fetch: FetchSettings, now: float, answered: Collection[str], known: Known
) -> Reason | None:
    """The refusals that do not depend on the texts."""
    checks: tuple[tuple[Reason, bool], ...] = (
        (Reason.BENCHED, thread.subreddit.lower() in known.benched),
        (Reason.THREAD_REMOVED, thread.removed),
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


def ancestors(thread: Thread, comment: ThreadComment) -> list[ThreadComment]:
    """The comments above a comment that the thread contains, nearest first."""
    by_id = {each.comment_id: each for each in thread.comments}
    above: list[ThreadComment] = []
    while (parent := by_id.pop(comment.parent_id, None)) is not None:  # pop ends a cycle
        above.append(parent)
        comment = parent
    return above


def asks_bots_away(thread: Thread, comment: ThreadComment | None = None) -> bool:
    """Whether the author of a comment, or of the submission if comment is None, asks bots to stay away. Quotes do not count."""
    if comment is not None:
        return topics.is_about(Reason.NO_BOTS, comment.body, quotes=False)
    own = (thread.title, thread.selftext, *titles.tags(thread.title)[0])
    return any(topics.is_about(Reason.NO_BOTS, each, quotes=False) for each in own)


def asking_away(thread: Thread) -> dict[str, str]:
    """Authors in a thread who ask bots to stay away -> the fullname of their comment or submission."""
    asking = {thread.author: thread.thread_id} if thread.author and asks_bots_away(thread) else {}
    return asking | {each.author: each.comment_id for each in thread.comments if each.author and asks_bots_away(thread, each)}


# --- names ------------------------------------------------------------------------------------------------------------------------


def same_name(one: str, other: str) -> bool:
    """Whether two account names are the same. Reddit ignores case; an empty name never matches."""
    return bool(other) and one.lower() == other.lower()
