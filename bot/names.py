"""Convert names of subreddits, and permalinks, from the forms that people write to Reddit's form."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_WRITTEN = re.compile(
    r"(?i)(?:https?://(?:\w+\.)?reddit\.com)?/?(?:(?P<user>u|user)/|r/)?(?P<name>!?[\w*-]+)/?",
    re.ASCII,
)
_SUBREDDIT = re.compile(r"[a-z0-9_]{2,24}")
_PROFILE = re.compile(r"u_[a-z0-9_-]{3,20}")
SANDBOX = "sandbox_"  # with which the names of the sandbox's subreddits begin
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


def permalink(thread_id: str, comment_id: str, site: str = "https://www.reddit.com") -> str:
    """The address of a comment, from the fullnames of its thread and itself.

    >>> permalink("t3_1abc", "t1_k9z8y7x")
    'https://www.reddit.com/comments/1abc/_/k9z8y7x'
    """
    return f"{site}/comments/{thread_id.removeprefix('t3_')}/_/{comment_id.removeprefix('t1_')}"


def permalink_ids(written: str, site: str = "") -> tuple[str, str] | None:
    """The fullnames of thread and comment if the text is nothing but a comment's permalink. site: reddit.url.

    >>> permalink_ids("https://www.reddit.com/r/books/comments/1abc/a_title/k9z8y7x/?context=3")
    ('t3_1abc', 't1_k9z8y7x')
    >>> permalink_ids("/r/books/comments/1abc/comment/k9z8y7x")
    ('t3_1abc', 't1_k9z8y7x')
    >>> permalink_ids("https://example.org/r/books/comments/1abc/a/k9z8y7x/"), permalink_ids("see /r/books/comments/1abc/a/b/")
    (None, None)
    """
    try:
        parts = urlsplit(written.strip())
    except ValueError:  # such as «http://[abc»
        return None
    is_reddit = re.fullmatch(r"(?:[\w-]+\.)?reddit\.com", parts.netloc.lower()) is not None
    match = re.fullmatch(r"/(?:r|u|user)/[\w-]+/comments/([0-9a-z]+)/[^/\s]*/([0-9a-z]+)/?", parts.path)
    if match is None or not (parts.netloc == "" or is_reddit or parts.netloc == urlsplit(site).netloc):
        return None
    return f"t3_{match[1]}", f"t1_{match[2]}"
