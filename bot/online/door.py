"""door: the texts that a reply is compared with, and the last check before it is posted.

    Surroundings     the texts of one thread, for conduct.may_say; used by `choose` and `submit`
    objection        may this reply be posted under this comment, in their current state?

`choose` checks candidates when it selects them. `submit` checks every reply again, right before the intent is written, regardless of where
the reply came from: a chosen.csv that was edited or written by another program, a reply that waited for hours, or one that a person
released. This check does not rely on files: thread, author and comment are read from Reddit again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bot import text
from bot.conduct import rendered, what, where
from bot.conduct.what import Judged
from bot.conduct.when import Refusal
from bot.conduct.where import Likely
from bot.config import Settings
from bot.corpus import copies
from bot.posting.ledger import Reply
from bot.reddit.outcomes import Outcome
from bot.reddit.threads import Thread


class Surroundings:
    """The title and the comments of a thread, normalized once for any number of replies that are compared with them."""

    def __init__(self, title: str, comments: Mapping[str, str]) -> None:
        """comments: texts by fullname."""
        self.title = title
        self.comments = dict(comments)
        self.plain_title = copies.plain(title)
        self.plain = {name: copies.plain(body) for name, body in self.comments.items()}

    def around(self, comment_id: str, comment: str, own: Sequence[str] = (), training: np.ndarray[Any, Any] | None = None) -> what.Around:
        """What a reply to this comment is compared with. own: the bot's earlier replies, already normalized."""
        others = [self.plain_title, *(body for name, body in self.plain.items() if name != comment_id)]
        return what.Around(copies.plain(comment), others, own, training, self.language(comment_id, comment))

    def language(self, comment_id: str, comment: str) -> str | None:
        """The language of the thread without the comment; that of the comment if the rest is inconclusive."""
        parts, length = [self.title], len(self.title)
        for name, body in self.comments.items():
            if length > what.LANGUAGE_CHARACTERS:
                break
            if name != comment_id:
                parts.append(body)
                length += len(body) + 1
        return text.language(" ".join(parts)[: what.LANGUAGE_CHARACTERS]) or text.language(comment[: what.LANGUAGE_CHARACTERS])


@dataclass(frozen=True)
class Memory:
    """What the bot must not repeat, and whom it must not answer. own: its earlier replies, including those of this run; training: sketches,
    None if there are none; opted_out: names in lower case.
    """

    own: Sequence[str] = ()
    training: np.ndarray[Any, Any] | None = None
    opted_out: Collection[str] = ()


def objection(
    reply: Reply,
    thread: Thread,
    us: str,
    now: int,
    memory: Memory,
    settings: Settings,
    likely: Likely = where.NOTHING_LIKELY,
    judged: Judged = what.NOT_JUDGED,
) -> str | None:
    """Why this reply is not posted, or None: a `where.Reason`, Refusal.EDITED, Outcome.NO_TEXT, or a `what.Unfit`. Pure.

    thread: its current state, including the comment; us: our account; now: epoch seconds by Reddit's clock; likely, judged: the
    classifiers' probabilities for the comment's texts and for the reply.
    """
    comment = next(each for each in thread.comments if each.comment_id == reply.comment_id)
    answered = {each.parent_id for each in thread.comments if where.same_name(each.author, us)}
    known = where.Known(opted_out={*memory.opted_out, *(name.lower() for name in where.asking_away(thread))})
    if reason := where.may_reply_to(thread, comment, settings.fetch, settings.conduct, now, us, answered, known, likely):
        return reason
    if text.fingerprint(comment.body) != reply.comment_sha256:
        return Refusal.EDITED
    if not text.clean(reply.body):
        return Outcome.NO_TEXT
    texts = {each.comment_id: each.body for each in thread.comments if not text.is_notice(each.body)}
    if thread.selftext and not text.is_notice(thread.selftext):
        texts[thread.thread_id] = thread.selftext
    own = [copies.plain(each) for each in memory.own]
    around = Surroundings(thread.title, texts).around(comment.comment_id, comment.body, own, memory.training)
    return what.may_say(reply.body, around, settings.conduct, judged)


def posted_text(body: str, disclosure: str) -> str:
    """The text to send: the reply, escaped so that Reddit shows it as plain text, and the disclosure line below it."""
    return f"{rendered.as_plain_markdown(body.rstrip())}\n\n{disclosure}"


def without_disclosure(body: str) -> str:
    """A posted text without its disclosure line.

    >>> without_disclosure("Dune.\\n\\nTwice.\\n\\n*I am a bot; reply `!stop`.*")
    'Dune.\\n\\nTwice.'
    """
    words, _, last = body.rpartition("\n\n")
    return words if text.discloses(last) else body
