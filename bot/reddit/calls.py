"""One call to Reddit and what came of it: PRAW's exceptions become an `Outcome`, or a `UserError` where a person has to act.

outcome, names = read(reddit, lambda: ...)      a call that may be repeated
answer_to(error)                                what the error of a POST says
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import prawcore
import requests
import tenacity
from praw.exceptions import RedditAPIException

from bot.cli import NoPermission, Unreachable
from bot.reddit.outcomes import REASONS, REFUSALS, WAIT_SECONDS, Answer, Outcome, wait_asked
from bot.reddit.requestor import Client, cause, one_line

LONGEST_WAIT_SECONDS = 120.0  # for one «slow down» when reading

Value = TypeVar("Value")


def _wait_seconds(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = float(getattr(error, "retry_after", None) or 2**state.attempt_number)
    return min(asked, LONGEST_WAIT_SECONDS)


# prawcore itself repeats a GET twice on time-outs, resets and 5xx; a 429 it leaves to us.
retrying = tenacity.Retrying(
    retry=tenacity.retry_if_exception_type(prawcore.TooManyRequests),
    wait=_wait_seconds,
    stop=tenacity.stop_after_attempt(4),
    reraise=True,
)


def read(reddit: Client, call: Callable[[], Value]) -> tuple[Outcome, Value | None]:
    """Do a reading call; it may be repeated."""
    url = reddit.config.oauth_url
    try:
        return Outcome.READ, retrying(call)
    except prawcore.TooManyRequests:
        return Outcome.RATE_LIMITED, None
    except (prawcore.Forbidden, prawcore.NotFound) as error:
        return refusal_of(error), None
    except (prawcore.Redirect, prawcore.UnavailableForLegalReasons) as error:
        return (Outcome.MISSING if isinstance(error, prawcore.Redirect) else Outcome.FORBIDDEN), None
    except prawcore.OAuthException as error:
        raise _wrong_credentials(reddit, error) from None
    except prawcore.RequestException as error:
        raise Unreachable(
            f"{url}: can't be reached ({cause(error.original_exception)}); check the network, then run the same again"
        ) from None
    except requests.JSONDecodeError:  # where a token was asked for
        raise Unreachable(f"{url}: answered with an answer that is not JSON; try the same again later") from None
    except prawcore.ResponseException as error:
        if error.response.status_code == 401:
            raise _wrong_credentials(reddit, error) from None
        what = "an answer that is not JSON" if isinstance(error, prawcore.BadJSON) else f"status {error.response.status_code}"
        raise Unreachable(f"{url}: answered with {what}; try the same again later") from None


def _wrong_credentials(reddit: Client, error: Exception) -> NoPermission:
    return NoPermission(
        f"{reddit.config.reddit_url}: wrong account or client ({one_line(error)}); check the praw_… environment variables or praw.ini"
    )


def answer_to(error: Exception) -> Answer:
    """What the error of a POST that was sent says: a refusal that Reddit names, else nothing."""
    if isinstance(error, RedditAPIException):
        item = error.items[0]
        outcome = REFUSALS.get(item.error_type, Outcome.REJECTED)
        wait = wait_asked(item.message or "") if outcome is Outcome.RATE_LIMITED else None
        return Answer(outcome, "", one_line(f"{item.error_type}: {item.message}"), wait)
    if isinstance(error, prawcore.TooManyRequests):
        seconds = math.ceil(float(error.retry_after)) if error.retry_after else WAIT_SECONDS
        return Answer(Outcome.RATE_LIMITED, "", one_line(error), seconds)
    if isinstance(error, (prawcore.Forbidden, prawcore.InsufficientScope, prawcore.NotFound)):
        return Answer(refusal_of(error), "", one_line(error))
    return Answer(Outcome.UNKNOWN, "", one_line(f"{type(error).__name__}: {error}"))


def refusal_of(error: prawcore.ResponseException) -> Outcome:
    otherwise = Outcome.MISSING if isinstance(error, prawcore.NotFound) else Outcome.FORBIDDEN
    try:
        body = error.response.json()
    except ValueError:
        return otherwise
    return REASONS.get(body.get("reason", ""), otherwise) if isinstance(body, dict) else otherwise
