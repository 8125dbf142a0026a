"""Convert names of subreddits from the forms that people write to Reddit's form."""

from __future__ import annotations

import re

_WRITTEN = re.compile(
    r"(?i)(?:https?://(?:\w+\.)?reddit\.com)?/?(?:(?P<user>u|user)/|r/)?(?P<name>!?[\w*-]+)/?",
    re.ASCII,
)
_SUBREDDIT = re.compile(r"[a-z0-9_]{2,24}")
_PROFILE = re.compile(r"u_[a-z0-9_-]{3,20}")
COLLECTIONS = ("all", "popular", "friends", "mod", "random", "randnsfw", "myrandom")  # listings over many subreddits


def plain_name(written: str) -> str:
    """The name of a subreddit in lower case, without r/ or an address; a user's profile becomes `u_` and the name of the user.

    Patterns with `*` or a leading `!` are accepted, too. Text in any other form is returned in lower case.

    >>> [plain_name(each) for each in ("/r/Books/", " books ", "https://www.reddit.com/r/books", "u/Some-Body", "r/*Support", "!vent", "")]
    ['books', 'books', 'books', 'u_some-body', '*support', '!vent', '']
    """
    match = _WRITTEN.fullmatch(written.strip())
    name = written.strip() if match is None else f"{'u_' if match['user'] else ''}{match['name']}"
    return name.lower()


def subreddit_name(written: str) -> str:
    """`plain_name` of a single subreddit or profile.

    >>> subreddit_name("/r/Books/"), subreddit_name("u_some-body")
    ('books', 'u_some-body')

    Raises:
        ValueError: `written` is not the name of one subreddit.
    """
    name = plain_name(written)
    if name in COLLECTIONS:
        raise ValueError(f"{name} is a collection of subreddits; name each subreddit")
    if not (_PROFILE if name.startswith("u_") else _SUBREDDIT).fullmatch(name):
        raise ValueError("not the name of one subreddit, such as books, r/books or u_some-body")
    return name
