"""Convert names of subreddits from the forms that people write to Reddit's form."""

from __future__ import annotations

import re

_WRITTEN = re.compile(
    r"(?i)(?:https?://(?:\w+\.)?reddit\.com)?/?(?:(?P<user>u|user)/|r/)?(?P<name>[\w-]+)/?",
    re.ASCII,
)
_SUBREDDIT = re.compile(r"[a-z0-9_]{2,24}")
_PROFILE = re.compile(r"u_[a-z0-9_-]{3,20}")
COLLECTIONS = ("all", "popular", "friends", "mod", "random", "randnsfw", "myrandom")  # listings over many subreddits


def subreddit_name(written: str) -> str:
    """The name of a subreddit in lower case. For a user's profile it is `u_` and the name of the user.

    >>> [subreddit_name(each) for each in ("/r/Books/", " books ", "https://www.reddit.com/r/books", "u/Some-Body", "u_some-body")]
    ['books', 'books', 'books', 'u_some-body', 'u_some-body']

    Raises:
        ValueError: `written` is not the name of one subreddit.
    """
    match = _WRITTEN.fullmatch(written.strip())
    name = "" if match is None else f"{'u_' if match['user'] else ''}{match['name']}".lower()
    if name in COLLECTIONS:
        raise ValueError(f"{name} is a collection of subreddits; name each subreddit")
    if not (_PROFILE if name.startswith("u_") else _SUBREDDIT).fullmatch(name):
        raise ValueError("not the name of one subreddit, such as books, r/books or u_some-body")
    return name
