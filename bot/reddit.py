"""Reddit over PRAW, and the only module that imports it.

What Reddit can answer (a private subreddit, a locked thread, …) is an `Outcome`; what a person has to put right (no network, wrong
credentials) is a `UserError`. The sandbox is Reddit at a loopback URL with its own fixed account. For Reddit itself the credentials come
from PRAW's environment variables (praw_client_id, praw_client_secret, praw_username, praw_password) or praw.ini, never from the config.
"""

from __future__ import annotations

import configparser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Any, TypeVar
from urllib.parse import urlsplit

import praw
import prawcore
import requests
import tenacity
from praw.exceptions import ClientException, MissingRequiredAttributeException, PRAWException, RedditAPIException
from praw.models import MoreComments

from bot import UserError, sandbox, text
from bot.config import RedditSettings

REDDIT_URL = "https://www.reddit.com"
OAUTH_URL = "https://oauth.reddit.com"
LONGEST_WAIT_SECONDS = 120.0  # for one «slow down» when reading

Client = praw.Reddit  # so that others can name it without importing praw
Answer = TypeVar("Answer")


class Outcome(StrEnum):
    """All that Reddit can answer, reading or posting."""

    READ = "read"
    POSTED = "posted"
    LOCKED = "locked"
    TOO_OLD = "too_old"
    DELETED = "deleted"
    TOO_LONG = "too_long"
    NO_TEXT = "no_text"
    FORBIDDEN = "forbidden"  # our account may not; banned from the subreddit, say
    PRIVATE = "private"
    BANNED = "banned"  # the subreddit itself was closed
    NSFW = "nsfw"  # the whole subreddit
    QUARANTINED = "quarantined"
    MISSING = "missing"
    RATE_LIMITED = "rate_limited"
    REJECTED = "rejected"  # any other refusal by name: it was not posted
    UNKNOWN = "unknown"  # it may have been posted


# Reddit's names of refusals, which come with status 200.
REFUSALS = {
    "THREAD_LOCKED": Outcome.LOCKED,
    "TOO_OLD": Outcome.TOO_OLD,
    "DELETED_COMMENT": Outcome.DELETED,
    "TOO_LONG": Outcome.TOO_LONG,
    "NO_TEXT": Outcome.NO_TEXT,
    "RATELIMIT": Outcome.RATE_LIMITED,
}
# The "reason" in the body of a 403 or 404.
REASONS = {"private": Outcome.PRIVATE, "banned": Outcome.BANNED, "quarantined": Outcome.QUARANTINED}


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
    """A submission and its comments, parents before their replies. behind_more: fullnames of comments that were not read."""

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
        UserError: credentials or the user agent are missing, or the URL is neither.
    """
    requestor_kwargs: dict[str, Any] = {"timeout_seconds": settings.timeout_seconds}
    arguments: dict[str, Any] = {"reddit_url": REDDIT_URL, "oauth_url": OAUTH_URL}
    if is_sandbox(settings.url):
        session = requests.Session()
        session.trust_env = False  # neither a proxy nor ~/.netrc has business with loopback
        requestor_kwargs["session"] = session
        url = settings.url.rstrip("/")
        arguments = {"reddit_url": url, "oauth_url": url, "client_id": sandbox.CLIENT_ID, "client_secret": sandbox.CLIENT_SECRET}
        arguments |= {"username": sandbox.USERNAME, "password": sandbox.PASSWORD}
    elif settings.url:
        raise UserError(f"reddit.url: {settings.url!r} is not a loopback address; leave it empty for Reddit itself")
    elif "/u/unknown" in settings.user_agent:
        raise UserError("reddit.user_agent still says /u/unknown; Reddit wants `<platform>:<app id>:<version> (by /u/<your account>)`")
    try:
        return praw.Reddit(
            user_agent=settings.user_agent,
            check_for_updates=False,
            ratelimit_seconds=0,  # waiting is ours: PRAW's own would post again by itself
            requestor_class=_Requestor,
            requestor_kwargs=requestor_kwargs,
            **arguments,
        )
    except (MissingRequiredAttributeException, ClientException, configparser.Error) as error:
        raise UserError(
            "no Reddit credentials: set praw_client_id, praw_client_secret, praw_username and praw_password in the environment,"
            f" or write a praw.ini ({_one_line(error)})"
        ) from None


def account_name(reddit: Client) -> str:
    """The name of the account we act as; empty for a client that can only read.

    Raises:
        UserError: no network, or wrong credentials.
    """
    if reddit.read_only:
        return ""
    outcome, name = _read(reddit, lambda: str(reddit.user.me()))
    if name is None:
        raise UserError(f"{reddit.config.oauth_url}: logging in was answered with {outcome}; check the account")
    return name


def list_submissions(reddit: Client, subreddit: str, listing: str, count: int) -> tuple[Outcome, list[str]]:
    """Fullnames of the first `count` submissions of a listing (rising, hot or new).

    Raises:
        UserError: no network, or wrong credentials.
    """

    def names() -> list[str] | Outcome:
        found = reddit.subreddit(subreddit)
        if getattr(found, "user_is_banned", False):
            return Outcome.FORBIDDEN
        if getattr(found, "over18", False):
            return Outcome.NSFW
        if getattr(found, "quarantine", False):
            return Outcome.QUARANTINED
        return [submission.fullname for submission in getattr(found, listing)(limit=count)]

    outcome, answer = _read(reddit, names)
    return (answer, []) if isinstance(answer, Outcome) else (outcome, answer or [])


def read_thread(reddit: Client, thread_id: str, replace_more_limit: int) -> tuple[Outcome, Thread | None]:
    """A submission with its comments. Each of at most `replace_more_limit` «more» nodes costs one call; the largest go first.

    Raises:
        UserError: no network, or wrong credentials.
    """

    def thread() -> Thread:
        submission = reddit.submission(thread_id.removeprefix("t3_"))  # a new object each try: a half-filled tree can't be filled twice
        left: list[Any] = []
        try:
            left = submission.comments.replace_more(limit=replace_more_limit)
        except (ClientException, AssertionError):
            # The thread changed between two calls; PRAW stops there. What it has read is sound.
            left = [node for node in submission.comments.list() if isinstance(node, MoreComments)]
        depths: dict[str, int] = {}
        comments = []
        for comment in submission.comments.list():
            if isinstance(comment, MoreComments):
                continue
            # Reddit's own depth starts anew behind «continue this thread».
            depths[comment.fullname] = depths.get(comment.parent_id, -1) + 1
            comments.append(_thread_comment(reddit, comment, depths[comment.fullname]))
        return Thread(
            thread_id=submission.fullname,
            subreddit=submission.subreddit.display_name,
            title=submission.title,
            over_18=bool(submission.over_18),
            locked=bool(submission.locked),
            archived=bool(submission.archived),
            comments=comments,
            behind_more=[f"t1_{child}" for node in left for child in node.children],
            quarantined=bool(getattr(submission, "quarantine", False)),
            stickied=bool(getattr(submission, "stickied", False)),
            flair=str(getattr(submission, "link_flair_text", None) or ""),
        )

    return _read(reddit, thread)


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


def own_replies(reddit: Client) -> dict[str, str]:
    """Our account's newest 100 comments: what each answers -> its fullname. Raises UserError as `read_thread`."""
    name = account_name(reddit)
    outcome, found = _read(reddit, lambda: {c.parent_id: c.fullname for c in reddit.redditor(name).comments.new(limit=100)})
    if found is None:
        raise UserError(f"{reddit.config.reddit_url}: our own comments can't be read ({outcome}); nothing was posted")
    return found


def reply(reddit: Client, comment_id: str, text: str) -> tuple[Outcome, str]:
    """Post one reply, with exactly one POST; returns its fullname, empty where it was not posted or Reddit didn't say.

    Raises:
        UserError: the client isn't a sandbox's (posting to Reddit itself needs a ledger first), or wrong credentials.
    """
    if not is_sandbox(reddit.config.oauth_url):
        raise UserError("replies are posted to the sandbox only; posting to Reddit itself is not there yet")
    try:
        posted = reddit.comment(comment_id.removeprefix("t1_")).reply(text)
    except RedditAPIException as error:
        return REFUSALS.get(error.items[0].error_type, Outcome.REJECTED), ""
    except prawcore.TooManyRequests:
        return Outcome.RATE_LIMITED, ""
    except (prawcore.Forbidden, prawcore.NotFound) as error:
        return _refusal_of(error), ""
    except prawcore.OAuthException as error:
        raise _wrong_credentials(reddit, error) from None
    except (prawcore.PrawcoreException, PRAWException):
        return Outcome.UNKNOWN, ""
    return Outcome.POSTED, posted.fullname if posted else ""


# --- our inbox, and what became of our replies -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Letter:
    """Something unread in our inbox. name: t1_… a reply to us, t4_… a private message; parent_id: what the reply answers, else empty."""

    name: str
    author: str
    body: str
    parent_id: str


@dataclass(frozen=True, slots=True)
class Standing:
    """A comment as it stands now; body is empty where it was deleted or removed. removed: by a moderator or by Reddit."""

    name: str
    parent_id: str
    thread_id: str
    subreddit: str
    body: str
    karma: int
    created_utc: int
    removed: bool


def unread(reddit: Client) -> list[Letter]:
    """All that is unread, the oldest first. Raises UserError as `read_thread`."""
    outcome, found = _read(reddit, lambda: list(reddit.inbox.unread(limit=None)))
    if found is None:
        raise UserError(f"{reddit.config.reddit_url}: our inbox can't be read ({outcome}); nothing was posted")
    letters = [
        Letter(
            item.fullname, item.author.name, item.body, (getattr(item, "parent_id", None) or "") if item.fullname.startswith("t1_") else ""
        )
        for item in found
        if item.author  # Reddit's own notices have none
    ]
    return letters[::-1]


def mark_read(reddit: Client, name: str) -> None:
    """Mark one thing in our inbox as read. Raises UserError as `read_thread`."""
    _read(reddit, lambda: reddit.post("api/read_message", data={"id": name}))


def delete(reddit: Client, reply_id: str) -> Outcome:
    """Delete a reply of ours: DELETED, or what kept it there. Doing it again does no harm.

    Raises:
        UserError: as `read_thread`.
    """
    outcome, _ = _read(reddit, lambda: reddit.comment(reply_id.removeprefix("t1_")).delete())
    return Outcome.DELETED if outcome is Outcome.READ else outcome


def standings(reddit: Client, names: Sequence[str]) -> dict[str, Standing]:
    """How comments stand now, by fullname; those that Reddit doesn't give are left out. Costs one call a hundred.

    Raises:
        UserError: as `read_thread`.
    """
    outcome, found = _read(reddit, lambda: list(reddit.info(fullnames=list(names))) if names else [])
    if found is None:
        raise UserError(f"{reddit.config.reddit_url}: comments can't be read ({outcome}); try the same again later")
    result = {}
    for comment in found:
        marked = text.is_deleted(comment.body)
        # What a moderator removed still looks whole to its author, but for these.
        removed = (marked and "removed" in comment.body) or any(getattr(comment, name, None) for name in ("removed", "banned_by"))
        result[comment.fullname] = Standing(
            comment.fullname,
            comment.parent_id,
            comment.link_id,
            str(comment.subreddit.display_name),
            "" if marked else comment.body,
            int(comment.score),
            int(comment.created_utc),
            bool(removed),
        )
    return result


def count_replies(reddit: Client, name: str) -> int:
    """How many comments stand under a comment, at any depth. Those behind «more» count as Reddit counts them. Raises UserError."""

    def count() -> int:
        comment = reddit.comment(name.removeprefix("t1_"))
        try:
            comment.refresh()
        except ClientException:  # it isn't there any more
            return 0
        return sum(each.count if isinstance(each, MoreComments) else 1 for each in comment.replies.list())

    return _read(reddit, count)[1] or 0


# --- answers --------------------------------------------------------------------------------------------------------------


def _wait_seconds(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = float(getattr(error, "retry_after", None) or 2**state.attempt_number)
    return min(asked, LONGEST_WAIT_SECONDS)


# prawcore itself repeats a GET twice on time-outs, resets and 5xx; a 429 it leaves to us.
_patiently = tenacity.Retrying(
    retry=tenacity.retry_if_exception_type(prawcore.TooManyRequests),
    wait=_wait_seconds,
    stop=tenacity.stop_after_attempt(4),
    reraise=True,
)


def _read(reddit: Client, call: Callable[[], Answer]) -> tuple[Outcome, Answer | None]:
    """Do a reading call; it may be repeated."""
    url = reddit.config.oauth_url
    try:
        return Outcome.READ, _patiently(call)
    except prawcore.TooManyRequests:
        return Outcome.RATE_LIMITED, None
    except (prawcore.Forbidden, prawcore.NotFound) as error:
        return _refusal_of(error), None
    except (prawcore.Redirect, prawcore.UnavailableForLegalReasons) as error:
        return (Outcome.MISSING if isinstance(error, prawcore.Redirect) else Outcome.FORBIDDEN), None
    except prawcore.OAuthException as error:
        raise _wrong_credentials(reddit, error) from None
    except prawcore.RequestException as error:
        raise UserError(
            f"{url}: can't be reached ({_cause(error.original_exception)}); check the network, then run the same again"
        ) from None
    except prawcore.ResponseException as error:
        if error.response.status_code == 401:
            raise _wrong_credentials(reddit, error) from None
        what = "an answer that is not JSON" if isinstance(error, prawcore.BadJSON) else f"status {error.response.status_code}"
        raise UserError(f"{url}: answered with {what}; try the same again later") from None


def _refusal_of(error: prawcore.ResponseException) -> Outcome:
    otherwise = Outcome.MISSING if isinstance(error, prawcore.NotFound) else Outcome.FORBIDDEN
    try:
        body = error.response.json()
    except ValueError:
        return otherwise
    return REASONS.get(body.get("reason", ""), otherwise) if isinstance(body, dict) else otherwise


def _wrong_credentials(reddit: Client, error: Exception) -> UserError:
    return UserError(
        f"{reddit.config.reddit_url}: wrong account or client ({_one_line(error)}); check the praw_… environment variables or praw.ini"
    )


def _cause(error: Exception) -> str:
    """What is at the bottom of a requests error: urllib3 wraps «Connection refused» three times."""
    inner = error.args[0] if error.args else error
    return _one_line(str(getattr(inner, "reason", inner)).rsplit(": ", 1)[-1])


def _one_line(error: object) -> str:
    """The first words of an error's text.

    >>> _one_line(ValueError("a\\n b"))
    'a b'
    """
    text = " ".join(str(error).split())
    return text if len(text) <= 160 else text[:159] + "…"


class _PostNotRepeated(Exception):
    """Stands in for the error of a POST, so that prawcore doesn't send it again."""


class _Requestor(prawcore.Requestor):
    """prawcore's, with a time limit of our own (PRAW never passes its `timeout` on) and with each POST that changes something sent once:
    prawcore would send it up to three times, and a comment that was accepted before the error would stand there twice.
    """

    READS_BY_POST = ("/api/v1/access_token", "/api/morechildren")

    def __init__(self, *, timeout_seconds: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.timeout_seconds = timeout_seconds

    def request(self, *args: Any, timeout: float | None = None, **kwargs: Any) -> requests.Response:
        method, url = args[:2] if args else (kwargs["method"], kwargs["url"])  # prawcore calls both ways
        path = urlsplit(str(url)).path.rstrip("/")
        repeatable = str(method).upper() in ("GET", "HEAD") or path in self.READS_BY_POST
        try:
            response = super().request(*args, timeout=self.timeout_seconds, **kwargs)
        except prawcore.RequestException as error:
            if repeatable:
                raise
            raise prawcore.RequestException(_PostNotRepeated(_cause(error.original_exception)), args, kwargs) from None
        if not repeatable and response.status_code in prawcore.Session.RETRY_STATUSES:
            raise prawcore.RequestException(_PostNotRepeated(f"status {response.status_code}"), args, kwargs)
        return response
