"""What is read from Reddit, as plain rows without PRAW objects."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ThreadComment:
    """A comment on Reddit. author: empty if the account was deleted; depth: 0 is directly under the submission."""

    comment_id: str
    parent_id: str
    author: str
    body: str
    karma: int
    created_utc: int
    depth: int
    locked: bool
    permalink: str
    stickied: bool = False


@dataclass(frozen=True, slots=True)
class Thread:
    """A submission and its comments. behind_more: fullnames of comments that were not read.

    author: empty if the account was deleted; removed: by its author, a moderator or Reddit.
    """

    thread_id: str
    subreddit: str
    title: str
    over_18: bool
    locked: bool
    archived: bool
    comments: list[ThreadComment]
    behind_more: list[str]
    quarantined: bool = False
    stickied: bool = False
    flair: str = ""
    selftext: str = ""
    author: str = ""
    removed: bool = False


@dataclass(frozen=True, slots=True)
class Letter:
    """An item of our inbox. name: t1_… for a reply to us, t4_… for a private message, which has a subject; parent_id: the comment that the
    reply answers, empty for a message; created_utc: epoch seconds.
    """

    name: str
    author: str
    body: str
    parent_id: str
    created_utc: int
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """The current state of a comment. body: empty if it was deleted or removed; author: empty if the account was deleted.

    removed: by a moderator or by Reddit, which its author may not notice; None if it is unknown what others see.
    """

    name: str
    parent_id: str
    thread_id: str
    subreddit: str
    author: str
    body: str
    karma: int
    created_utc: int
    removed: bool | None
