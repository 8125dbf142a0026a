"""What is read from Reddit, as plain rows: nothing here knows PRAW."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ThreadComment:
    """A comment as Reddit has it. author is empty where the account is gone; depth 0 = directly under the submission."""

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

    author is empty where the account is gone; removed: by its author, a moderator or Reddit.
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
    """Something in our inbox. name: t1_… a reply to us, t4_… a private message, which has a subject; parent_id: what the reply answers,
    else empty; created_utc: epoch seconds.
    """

    name: str
    author: str
    body: str
    parent_id: str
    created_utc: int
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """A comment as it stands now; body is empty where it was deleted or removed, author where the account is gone.

    removed: by a moderator or by Reddit, which its author may not see; None where it isn't known what others see.
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
