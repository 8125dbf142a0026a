"""One call to Reddit and its result: PRAW's exceptions become an `Outcome`, or a `UserError` if a person has to act.

outcome, value = read(reddit, lambda: ...)      a call that may be repeated
answer_to(error)                                the meaning of the error of a POST
complete(items, build)                          rows of the items that have all required fields
ItemByItem(reddit, parsers)                     PRAW's parser, without the items of a list that it cannot parse

Responses may have any content: a body that PRAW cannot handle is reported as an unusable answer, never as a traceback.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import NoneType
from typing import Any, TypeVar
from urllib.parse import urlsplit

import prawcore
import requests
import tenacity
from praw.exceptions import PRAWException, RedditAPIException
from praw.objector import Objector

from bot.cli import NoPermission, Unreachable
from bot.reddit.outcomes import REASONS, WAIT_SECONDS, Answer, Outcome, answer_of, meaning_of
from bot.reddit.requestor import Client, cause, one_line

LONGEST_WAIT_SECONDS = 120.0  # for one rate limit when reading
TOKEN_PATH = "/api/v1/access_token"
# Exceptions that PRAW raises if a field of a response is missing or has another type.
UNEXPECTED = (PRAWException, AttributeError, LookupError, TypeError, ValueError, AssertionError)
# Client errors after which it is unknown whether a POST was refused: 401 asks for a new token; 408, 409 and 425 are temporary.
UNCLEAR_STATUSES = frozenset({401, 408, 409, 425})
# The OAuth scope that a path needs, as Reddit's API documentation lists them.
SCOPES = {
    r"/api/v1/me$": "identity",
    r"/api/comment$": "submit",
    r"/api/del$": "edit",
    r"/(message/|api/read_message$)": "privatemessages",
    r"/user/[^/]+/comments$": "history",
    r"/": "read",
}
OF_A_SUBREDDIT = re.compile(r"/(r|comments)/|/api/(comment|morechildren|del)$")

Value = TypeVar("Value")


def _wait_seconds(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = float(getattr(error, "retry_after", None) or 2**state.attempt_number)
    return min(asked, LONGEST_WAIT_SECONDS)


# prawcore itself repeats a GET twice on timeouts, resets and 5xx, but not on 429.
retrying = tenacity.Retrying(
    retry=tenacity.retry_if_exception_type(prawcore.TooManyRequests),
    wait=_wait_seconds,
    stop=tenacity.stop_after_attempt(4),
    reraise=True,
)


# --- reading ------------------------------------------------------------------------------------------------------------


def read(reddit: Client, call: Callable[[], Value]) -> tuple[Outcome, Value | None]:
    """Make a read-only call, which may be repeated.

    Raises:
        Unreachable: no network, a refusal by Reddit's network (not by a subreddit), or an unusable response.
        NoPermission: the credentials are wrong, or lack a scope.
    """
    url = reddit.config.oauth_url
    try:
        return Outcome.READ, retrying(call)
    except prawcore.OAuthException as error:
        raise NoPermission(f"{reddit.config.reddit_url}: {login_advice(reddit, error.error)}") from None
    except prawcore.RequestException as error:
        raise Unreachable(
            f"{url}: can't be reached ({cause(error.original_exception)}); check the network, then run the command again"
        ) from None
    except (prawcore.ResponseException, *UNEXPECTED) as error:
        if (response := response_of(error)) is not None:
            return outcome_of(reddit, response), None
        raise Unreachable(f"{url}: answered with {_unusable(error)}; try again later") from None


def _unusable(error: Exception) -> str:
    if isinstance(error, RedditAPIException):
        return one_line(", ".join(str(item.error_type) for item in error.items))
    if isinstance(error, requests.JSONDecodeError):
        return "an answer that is not JSON"
    return f"an incomplete answer ({one_line(f'{type(error).__name__}: {error}')})"


def outcome_of(reddit: Client, response: requests.Response) -> Outcome:
    """The meaning of a response that prawcore or PRAW did not accept. Raises as `read`."""
    status, url = response.status_code, reddit.config.oauth_url
    if is_blocked(response):
        raise Unreachable(f"{url}: {BLOCKED}; try again in an hour, or from another address")
    is_login = _path(response) == TOKEN_PATH
    if status == 401 or (is_login and status in (400, 403)):
        raise NoPermission(f"{reddit.config.reddit_url}: {login_advice(reddit, f'status {status}')}")
    if is_login:
        raise Unreachable(f"{reddit.config.reddit_url}: the login was answered with status {status}; try again later")
    if lacks_scope(response):
        raise NoPermission(f"{url}: {scope_advice(response)}")
    if status == 429:
        return Outcome.RATE_LIMITED
    if status in (403, 404):
        return refusal_of(response)
    if status in (301, 302):
        return Outcome.MISSING
    if status == 451:
        return Outcome.FORBIDDEN
    what = "an answer that is not JSON" if status < 400 else f"status {status}"
    raise Unreachable(f"{url}: answered with {what}; try again later")


def complete(items: Iterable[Any], build: Callable[[Any], Value]) -> list[Value]:
    """build(item) for each item that has all the fields that `build` uses; the other items are omitted."""
    rows = []
    for item in items:
        try:
            rows.append(build(item))
        except prawcore.TooManyRequests:
            raise
        except (prawcore.ResponseException, *UNEXPECTED):  # PRAW requests missing fields from Reddit
            continue
    return rows


class ItemByItem(Objector):
    """PRAW's parser of responses, without the items of a list that it cannot parse, which would make the whole list unusable."""

    def objectify(self, *, data: Any) -> Any:
        if not isinstance(data, list) or not all(isinstance(item, (dict, NoneType)) for item in data):
            return super().objectify(data=data)
        items = complete((item for item in data if item is not None), lambda item: super(ItemByItem, self).objectify(data=item))
        return [item for item in items if not (isinstance(item, dict) and "kind" in item)]


# --- posting ------------------------------------------------------------------------------------------------------------


def answer_to(error: Exception) -> Answer:
    """The meaning of the error of a POST that was sent: a refusal that Reddit names, or unknown."""
    response = response_of(error)
    if response is None:
        if isinstance(error, RedditAPIException):
            return _short(answer_of([(str(item.error_type), str(item.message or "")) for item in error.items]))
        return _short(Answer(Outcome.UNKNOWN, detail=f"{type(error).__name__}: {error}"))
    status, errors = response.status_code, named_errors(response)
    detail = f"status {status}"
    if status == 429:
        asked = response.headers.get("retry-after")
        return Answer(Outcome.RATE_LIMITED, "", detail, math.ceil(float(asked)) if asked else WAIT_SECONDS)
    if lacks_scope(response):
        return Answer(Outcome.NO_SCOPE, detail=scope_advice(response))
    if is_blocked(response):
        return Answer(Outcome.BLOCKED, detail=BLOCKED)
    if any(name not in REASONS and meaning_of(name, message) is not Outcome.REJECTED for name, message in errors):
        return _short(answer_of(errors))
    if status in (403, 404):
        return Answer(refusal_of(response), detail=detail)
    if 400 <= status < 500 and status not in UNCLEAR_STATUSES:
        return _short(answer_of(errors or [(detail, "")]))
    return _short(Answer(Outcome.UNKNOWN, detail=f"{type(error).__name__}: {error}"))


def _short(answer: Answer) -> Answer:
    return replace(answer, detail=one_line(answer.detail))


# --- content of responses -----------------------------------------------------------------------------------------------

BLOCKED = "Reddit's network refuses this address (status 403, but not from Reddit's API)"


def response_of(error: BaseException | None) -> requests.Response | None:
    """The HTTP response behind an error. PRAW may raise its own error, or fail, while it handles prawcore's."""
    while error is not None and not isinstance(error, prawcore.ResponseException):
        error = error.__cause__ or error.__context__
    return None if error is None else error.response


def _path(response: requests.Response) -> str:
    return urlsplit(response.url).path.rstrip("/")


def _body(response: requests.Response) -> dict[str, Any]:
    """The JSON object in a response; empty if there is none."""
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def is_blocked(response: requests.Response) -> bool:
    """True for a 403 that is not about a subreddit: its body is not a JSON object, or has no reason on a path without a subreddit."""
    if response.status_code != 403 or lacks_scope(response):
        return False
    body = _body(response)
    return not body or (not body.get("reason") and not OF_A_SUBREDDIT.search(_path(response)) and _path(response) != TOKEN_PATH)


def lacks_scope(response: requests.Response) -> bool:
    return "insufficient_scope" in response.headers.get("www-authenticate", "")


def scope_advice(response: requests.Response) -> str:
    path = _path(response)
    scope = next(name for pattern, name in SCOPES.items() if re.match(pattern, path))
    return f"the login may not use {path}: it lacks the scope `{scope}`; create a refresh token (praw_refresh_token) that has it"


def login_advice(reddit: Client, answer: str) -> str:
    """What is wrong with a login that was refused with this error, and which variable to check."""
    if reddit.config.refresh_token:
        return (
            f"the login with praw_refresh_token is refused ({answer}): it was revoked or belongs to another client; create a new one, and"
            " check praw_client_id and praw_client_secret"
        )
    if answer == "invalid_grant":
        return (
            "wrong account or client (invalid_grant): check praw_username and praw_password, in the environment or praw.ini; an account"
            " with two-factor authentication cannot log in with them and needs praw_refresh_token"
        )
    return f"wrong account or client ({answer}); check praw_client_id and praw_client_secret, in the environment or praw.ini"


def refusal_of(response: requests.Response) -> Outcome:
    """The outcome of a 403 or 404."""
    otherwise = Outcome.MISSING if response.status_code == 404 else Outcome.FORBIDDEN
    return REASONS.get(str(_body(response).get("reason", "")), otherwise)


def named_errors(response: requests.Response) -> list[tuple[str, str]]:
    """The names and messages in the body of a refusal, in either of Reddit's two formats."""
    body = _body(response)
    inner = body.get("json")
    listed = inner.get("errors") if isinstance(inner, dict) else None
    if isinstance(listed, list):
        return [(str(each[0]), str(each[1] or "") if len(each) > 1 else "") for each in listed if isinstance(each, list) and each]
    reason = body.get("reason")
    return [(str(reason), str(body.get("explanation") or ""))] if reason else []
