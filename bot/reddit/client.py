"""The bot's queries to Reddit and its actions there, over PRAW.

Reddit's possible answers (a private subreddit, a locked thread, …) are `Outcome`s; problems that a person has to fix (no network, wrong
credentials) are a `UserError`. The sandbox is Reddit at a loopback URL with its own fixed account. For Reddit itself the credentials come
from PRAW's environment variables (praw_client_id, praw_client_secret, and praw_username and praw_password or praw_refresh_token) or
praw.ini, never from the config.
"""

from __future__ import annotations

import configparser
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from itertools import takewhile
from typing import Any, TypeVar
from urllib.parse import urlsplit

import praw
import requests
from praw.exceptions import ClientException, MissingRequiredAttributeException
from praw.models import MoreComments

from bot import sandbox, text
from bot.cli import NoPermission, Unreachable, WrongSettings
from bot.config import RedditSettings
from bot.reddit import credentials
from bot.reddit.calls import ItemByItem, answer_to, complete, read
from bot.reddit.outcomes import Answer, Outcome
from bot.reddit.requestor import Client, Requestor, core_of, one_line, requestor_of
from bot.reddit.threads import Letter, Standing, Thread, ThreadComment

REDDIT_URL = "https://www.reddit.com"
OAUTH_URL = "https://oauth.reddit.com"

Value = TypeVar("Value")

LONGEST_CHAIN = 50  # maximum number of ancestors of a comment that are requested one by one

# Required by Reddit: platform:app id:version (by /u/account)
USER_AGENT = re.compile(r"[\w.-]+:[\w.-]+:v?\d[\w.-]* \(by /?u/[\w-]{3,20}\)")


def is_sandbox(url: str) -> bool:
    """True for a URL on this machine's loopback.

    >>> is_sandbox("http://127.0.0.1:8000"), is_sandbox("https://www.reddit.com"), is_sandbox("http://127.0.0.1.example.org")
    (True, False, False)
    """
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def connect(settings: RedditSettings) -> Client:
    """A PRAW client for Reddit (`settings.url` empty) or for a sandbox (a loopback URL). Nothing is sent yet.

    Raises:
        UserError: the credentials or the user agent are missing, or the URL is that of another host.
    """
    requestor_kwargs: dict[str, Any] = {"timeout_seconds": settings.timeout_seconds}
    arguments: dict[str, Any] = {"reddit_url": REDDIT_URL, "oauth_url": OAUTH_URL}
    if is_sandbox(settings.url):
        session = requests.Session()
        session.trust_env = False  # no proxy and no ~/.netrc on loopback
        requestor_kwargs["session"] = session
        url = settings.url.rstrip("/")
        arguments = {"reddit_url": url, "oauth_url": url, "client_id": sandbox.CLIENT_ID, "client_secret": sandbox.CLIENT_SECRET}
        arguments |= {"username": sandbox.USERNAME, "password": sandbox.PASSWORD}
    elif settings.url:
        raise WrongSettings("reddit.url: not a loopback address; leave it empty for Reddit itself")
    elif not USER_AGENT.fullmatch(settings.user_agent) or "u/unknown)" in settings.user_agent:
        raise WrongSettings("reddit.user_agent: does not name an account; Reddit requires `<platform>:<app id>:<version> (by /u/<you>)`")
    try:
        client = praw.Reddit(
            user_agent=settings.user_agent,
            check_for_updates=False,
            ratelimit_seconds=-1,  # PRAW must not wait and post again by itself, which it does even with 0 (after «500 milliseconds»)
            requestor_class=Requestor,
            requestor_kwargs=requestor_kwargs,
            **arguments,
        )
    except (configparser.Error, UnicodeDecodeError, ValueError) as error:
        raise NoPermission(f"{ini_fault(error)}; correct it, or set the praw_… variables in the environment instead") from None
    except (MissingRequiredAttributeException, ClientException) as error:
        raise NoPermission(
            "no Reddit credentials: set praw_client_id, praw_client_secret, praw_username and praw_password in the environment,"
            f" or write a praw.ini ({one_line(error)}). An account with two-factor"
            " authentication needs praw_refresh_token instead of the last two"
        ) from None
    if fault := credentials.fault(client.config):
        raise NoPermission(fault)
    client._objector = ItemByItem(client, client._objector.parsers)
    return client


def ini_fault(error: Exception) -> str:
    """What is wrong with a praw.ini, and on which line. Its content is not repeated, since it may be a password.

    >>> parser = configparser.ConfigParser()
    >>> try: parser.read_string("[DEFAULT]\\npassword hunter2", "praw.ini")
    ... except configparser.Error as error: ini_fault(error)
    'praw.ini: line 2 is not `name=value`'
    """
    file = getattr(error, "source", None) or "praw.ini"
    if isinstance(error, configparser.MissingSectionHeaderError):
        return f"{file}: line {error.lineno} is not in a section; begin with [DEFAULT]"
    if isinstance(error, configparser.ParsingError):
        return f"{file}: line {error.errors[0][0] if error.errors else '?'} is not `name=value`"
    if isinstance(error, (configparser.DuplicateOptionError, configparser.DuplicateSectionError)):
        return f"{file}: line {error.lineno} repeats an earlier name; keep one"
    if isinstance(error, configparser.NoSectionError):
        return f"{file}: has no section with the name in praw_site"
    if isinstance(error, UnicodeDecodeError):
        return f"{file}: not UTF-8"
    return f"{file} or a praw_… variable: a value of the wrong type ({type(error).__name__})"


def site(reddit: Client) -> str:
    """The site that the client connects to; the same for every sandbox, since its port changes."""
    return "the sandbox" if is_sandbox(reddit.config.oauth_url) else str(reddit.config.oauth_url)


def account_name(reddit: Client) -> str:
    """The name of the bot's account; empty for a client that can only read.

    Raises:
        UserError: no network, or wrong credentials.
    """
    if reddit.read_only:
        return ""
    outcome, name = read(reddit, lambda: str(reddit.user.me()))
    if name is None:
        raise NoPermission(f"{reddit.config.oauth_url}: logging in was answered with {outcome}; check the account")
    return name


def list_submissions(reddit: Client, subreddit: str, listing: str, count: int) -> tuple[Outcome, list[str]]:
    """Fullnames of the first `count` submissions of a listing (rising, hot or new), each once.

    Raises:
        UserError: no network, or wrong credentials.
    """

    def names() -> list[str] | Outcome:
        there = reddit.subreddit(subreddit)
        over_18 = there.over18  # without a default, so that an unusable response is an error
        if getattr(there, "user_is_banned", False):
            return Outcome.FORBIDDEN
        if over_18:
            return Outcome.NSFW
        if getattr(there, "quarantine", False):
            return Outcome.QUARANTINED
        return list(dict.fromkeys(complete(getattr(there, listing)(limit=count), lambda submission: submission.fullname)))

    outcome, answer = read(reddit, names)
    return (answer, []) if isinstance(answer, Outcome) else (outcome, answer or [])


def read_thread(reddit: Client, thread_id: str, replace_more_limit: int) -> tuple[Outcome, Thread | None]:
    """A submission with its comments, each once. At most `replace_more_limit` «more» nodes are loaded, one call each, the largest first.

    Comments behind a «more» node that is not loaded, and those with missing fields, are listed in `behind_more`.

    Raises:
        UserError: no network, wrong credentials, or an unusable response.
    """

    def tree() -> Any:
        submission = reddit.submission(thread_id.removeprefix("t3_"))  # a new object for each attempt
        submission.comments.list()
        return submission

    outcome, submission = read(reddit, tree)
    if submission is None:
        return outcome, None
    skipped: list[Any] | None = []
    with suppress(Unreachable):  # the comments loaded so far are valid
        _, skipped = read(reddit, lambda: submission.comments.replace_more(limit=replace_more_limit))
    return read(reddit, lambda: _thread_of(submission, *_comments_of(reddit, [*submission.comments.list(), *(skipped or [])])))


def _comments_of(reddit: Client, nodes: list[Any]) -> tuple[list[ThreadComment], list[str]]:
    """The comments of a tree, each once, parents before their replies; and the fullnames of those that were not loaded."""
    depths: dict[str, int] = {}
    comments: list[ThreadComment] = []
    behind_more: list[str] = []
    for node in nodes:
        if isinstance(node, MoreComments):
            behind_more += [f"t1_{child}" for child in node.children]
            continue
        if node.fullname in depths:
            continue
        # Reddit's own depth starts at 0 again behind «continue this thread».
        depth = depths[node.fullname] = depths.get(getattr(node, "parent_id", ""), -1) + 1
        rows = complete([node], partial(_thread_comment, reddit, depth=depth))
        comments += rows
        behind_more += [] if rows else [node.fullname]
    return comments, behind_more


def read_comment(reddit: Client, thread_id: str, comment_id: str, replace_more_limit: int) -> tuple[Outcome, Thread | None]:
    """The current thread of a comment, with the comment and all those above it; MISSING if the comment is not in that thread.

    A comment that the tree does not contain (behind «more», or deleted) is requested by its name.

    Raises:
        UserError: no network, or wrong credentials.
    """
    outcome, thread = read_thread(reddit, thread_id, replace_more_limit)
    if thread is None:
        return outcome, None
    shown = {comment.comment_id for comment in thread.comments}
    wanted = comment_id
    above: list[ThreadComment] = []
    while wanted not in shown and wanted != thread_id:
        outcome, comments = read(reddit, partial(_named, reddit, wanted, thread_id))
        if not comments or len(above) > LONGEST_CHAIN:
            return (outcome if comments is None else Outcome.MISSING), None
        above += comments
        wanted = comments[0].parent_id
    depth = next((comment.depth for comment in thread.comments if comment.comment_id == wanted), -1)
    chain = [replace(comment, depth=depth + place) for place, comment in enumerate(reversed(above), start=1)]
    return Outcome.READ, replace(thread, comments=[*thread.comments, *chain])


def _named(reddit: Client, name: str, thread_id: str) -> list[ThreadComment]:
    """The comment with this fullname, without its depth; empty if it is not in the thread or has missing fields."""
    comments = complete(_info(reddit, [name]), lambda comment: (comment.link_id, _thread_comment(reddit, comment, depth=0)))
    return [comment for thread, comment in comments[:1] if thread == thread_id]


def _info(reddit: Client, names: Sequence[str]) -> list[Any]:
    """The items with these fullnames that Reddit returns."""
    items = list(reddit.info(fullnames=list(names)))
    if any(isinstance(item, str) for item in items):
        raise ValueError("an object instead of a list")  # PRAW yields the names of its fields
    return items


def _thread_of(submission: Any, comments: list[ThreadComment], behind_more: list[str]) -> Thread:
    return Thread(
        thread_id=submission.fullname,
        subreddit=submission.subreddit.display_name,
        title=submission.title,
        over_18=bool(submission.over_18),
        locked=bool(submission.locked),
        archived=bool(submission.archived),
        comments=comments,
        behind_more=behind_more,
        quarantined=bool(getattr(submission, "quarantine", False)),
        stickied=bool(getattr(submission, "stickied", False)),
        flair=str(getattr(submission, "link_flair_text", None) or ""),
        selftext=str(getattr(submission, "selftext", None) or ""),
        author=submission.author.name if submission.author else "",
        removed=bool(getattr(submission, "removed_by_category", None)),
    )


def _thread_comment(reddit: Client, comment: Any, depth: int) -> ThreadComment:
    return ThreadComment(
        comment_id=comment.fullname,
        parent_id=comment.parent_id,
        author=comment.author.name if comment.author else "",
        body=comment.body,
        karma=int(comment.score),
        created_utc=int(comment.created_utc),
        depth=depth,
        locked=bool(getattr(comment, "locked", False)),
        permalink=f"{reddit.config.reddit_url}{comment.permalink}",
        stickied=bool(getattr(comment, "stickied", False)),
    )


def is_suspended(reddit: Client) -> bool:
    """True if Reddit has suspended our account. Raises UserError as `account_name`."""
    account_name(reddit)
    return bool(getattr(reddit.user.me(), "is_suspended", False))


def is_shadowbanned(reddit: Client, us: str) -> bool:
    """True if others cannot see our account: its page is missing or says that it is suspended. False if that is unknown."""
    return seen_by_others(reddit, lambda: bool(getattr(reddit.redditor(us), "is_suspended", False)), missing=True) or False


def seen_by_others(reddit: Client, call: Callable[[], Value], missing: Value | None = None) -> Value | None:
    """Make a read-only call without logging in as a user, to get what everybody sees.

    Returns `missing` if Reddit says that the item does not exist; None if its response is inconclusive.
    """
    was_read_only = reddit.read_only
    reddit.read_only = True
    try:
        outcome, value = read(reddit, call)
        return missing if outcome is Outcome.MISSING else value
    except (Unreachable, NoPermission):
        return None
    finally:
        reddit.read_only = was_read_only


def server_utc(reddit: Client) -> int:
    """The time by Reddit's clock, in epoch seconds. At least one call must have been made before.

    Raises:
        UserError: no response had a Date, or Reddit's clock and this machine's are days apart.
    """
    return requestor_of(reddit).clock.utc(reddit.config.oauth_url)


def wait_for_turn(reddit: Client) -> float:
    """Sleep as long as Reddit's rate-limit headers require, so that the next call is sent immediately. Returns the seconds slept."""
    began = time.monotonic()
    core_of(reddit).rate_limiter.delay()
    return time.monotonic() - began


def find_reply(reddit: Client, us: str, comment_id: str) -> tuple[Outcome, str]:
    """Look for a reply of `us` to a comment: among our newest 100 comments, then among the newest 100 replies to the comment.

    Returns READ and the fullname of the reply; READ and an empty name if there is none; another outcome if a list cannot be read.

    Raises:
        UserError: no network, or wrong credentials.
    """

    def among_ours() -> str:
        ours = complete(reddit.redditor(us).comments.new(limit=100), lambda comment: (comment.parent_id, comment.fullname))
        return next((name for parent_id, name in ours if parent_id == comment_id), "")

    def below_it() -> str | None:
        comment = reddit.comment(comment_id.removeprefix("t1_"))
        comment.reply_sort, comment.reply_limit = "new", 100
        try:
            comment.refresh()
        except ClientException:  # it no longer exists
            return None
        replies = complete(comment.replies.list(), lambda reply: (reply.parent_id, reply.author.name.lower(), reply.fullname))
        return next((name for *place, name in replies if place == [comment_id, us.lower()]), "")

    for place in (among_ours, below_it):
        outcome, name = read(reddit, place)
        if name is None:
            return (Outcome.MISSING if outcome is Outcome.READ else outcome), ""
        if name:
            return Outcome.READ, name
    return Outcome.READ, ""


def reply(reddit: Client, comment_id: str, text: str) -> Answer:
    """Post one reply, with at most one POST. The result says whether it may be on the site. Network errors are never raised."""
    sender = requestor_of(reddit)
    sender.in_doubt = False
    try:
        posted = reddit.comment(comment_id.removeprefix("t1_")).reply(text)
        return Answer(Outcome.POSTED, posted.fullname if posted else "")
    except Exception as error:  # any error of PRAW: what matters is whether the comment may be on the site
        return answer_to(error) if sender.in_doubt else Answer(Outcome.NOT_SENT, detail=one_line(error))


# --- our inbox, and the state of our replies ---------------------------------------------------------------------------------------


def letters(reddit: Client, since_utc: int) -> list[Letter]:
    """All replies and messages to us since `since_utc` (epoch seconds), read or unread, each once, oldest first. Reddit lists the newest
    1,000. Those with missing fields are omitted.

    Raises:
        UserError: as `read_thread`.
    """

    def newest_first() -> list[Letter]:
        rows = (row for item in reddit.inbox.all(limit=None) for row in complete([item], _letter))
        return list({row.name: row for row in takewhile(lambda row: row.created_utc >= since_utc, rows)}.values())

    outcome, found = read(reddit, newest_first)
    if found is None:
        raise Unreachable(f"{reddit.config.reddit_url}: the inbox cannot be read ({outcome}); nothing was posted")
    return [letter for letter in found[::-1] if letter.author]


def _letter(item: Any) -> Letter:
    """author: empty for Reddit's own notices."""
    parent_id, subject = (item.parent_id, "") if item.was_comment else ("", item.subject)
    author = item.author.name if item.author else ""
    return Letter(item.fullname, author, str(item.body or ""), str(parent_id or ""), int(item.created_utc), str(subject or ""))


def mark_read(reddit: Client, name: str) -> bool:
    """Mark one item of our inbox as read; False if that fails. Raises NoPermission as `read`."""
    try:
        return read(reddit, lambda: reddit.post("api/read_message", data={"id": name}))[0] is Outcome.READ
    except Unreachable:
        return False


def delete(reddit: Client, reply_id: str) -> Outcome:
    """Delete a reply of ours: DELETED, or why it was not deleted. Repeating it is harmless. Raises NoPermission as `read`."""
    try:
        outcome, _ = read(reddit, lambda: reddit.comment(reply_id.removeprefix("t1_")).delete())
    except Unreachable:
        return Outcome.UNREADABLE
    return Outcome.DELETED if outcome is Outcome.READ else outcome


def standings(reddit: Client, names: Sequence[str]) -> dict[str, Standing]:
    """The current state of comments, by fullname. Each is read twice: as our account sees it, and as everybody sees it.

    The second reading is necessary because a comment that a moderator removed looks unchanged to its author. Comments that Reddit does not
    return are omitted. Two calls per hundred comments.

    Raises:
        UserError: as `read`.
    """
    if not names:
        return {}
    outcome, rows = read(reddit, lambda: complete(_info(reddit, names), _standing))
    if rows is None:
        raise Unreachable(f"{reddit.config.reddit_url}: comments cannot be read ({outcome}); try again later")
    public = seen_by_others(reddit, lambda: {row.name: row for row in complete(_info(reddit, names), _standing)}) or {}
    return {row.name: row if row.removed else replace(row, removed=_removed(row, public.get(row.name))) for row in rows}


def _removed(ours: Standing, public: Standing | None) -> bool | None:
    """Whether others see a removal notice and we see a text; None if it is unknown what they see."""
    return None if public is None else bool(ours.body) and bool(public.removed)


def _standing(comment: Any) -> Standing:
    marked = not comment.body or text.is_notice(comment.body)
    removed = (marked and not text.is_deleted_by_author(comment.body)) or any(
        getattr(comment, name, None) for name in ("removed", "banned_by")
    )
    return Standing(
        comment.fullname,
        comment.parent_id,
        comment.link_id,
        str(comment.subreddit.display_name),
        comment.author.name if comment.author else "",
        "" if marked else comment.body,
        int(comment.score),
        int(comment.created_utc),
        bool(removed),
    )


def own_comments(reddit: Client, us: str, limit: int) -> list[Standing]:
    """The newest comments of our account, newest first, each once, at most `limit` (Reddit lists at most 1,000). A hundred per call.

    Raises:
        UserError: as `read_thread`, or Reddit does not return them.
    """
    outcome, comments = read(reddit, lambda: complete(reddit.redditor(us).comments.new(limit=limit), _standing))
    if comments is None:
        raise Unreachable(f"{reddit.config.oauth_url}: the account's own comments cannot be read ({outcome}); nothing is posted")
    return list({comment.name: comment for comment in comments}.values())


def count_replies(reddit: Client, name: str) -> int:
    """The number of comments below a comment, at any depth, including those behind «more» by Reddit's count. Raises UserError."""

    def count() -> int:
        comment = reddit.comment(name.removeprefix("t1_"))
        try:
            comment.refresh()
        except ClientException:  # it no longer exists
            return 0
        below = {each.name: each.count if isinstance(each, MoreComments) else 1 for each in comment.replies.list()}
        return sum(below.values())

    return read(reddit, count)[1] or 0
