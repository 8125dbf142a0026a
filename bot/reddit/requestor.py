"""Send HTTP requests to Reddit: each with a time limit, and each POST that changes something only once. A read has to return JSON."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit

import praw
import prawcore
import requests
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from bot.reddit.clock import ServerClock


def cause(error: Exception) -> str:
    """The original cause of a requests error; urllib3 wraps «Connection refused» three times."""
    inner = error.args[0] if error.args else error
    return one_line(str(getattr(inner, "reason", inner)).rsplit(": ", 1)[-1])


def one_line(error: object) -> str:
    """The beginning of an error's text, on one line.

    >>> one_line(ValueError("a\\n b"))
    'a b'
    """
    text = " ".join(str(error).split())
    return text if len(text) <= 160 else text[:159] + "…"


Client = praw.Reddit  # for type annotations in modules that do not import praw


class PostNotRepeated(Exception):
    """Replaces the error of a POST, so that prawcore does not send it again."""


def core_of(reddit: Client) -> prawcore.Session:
    core = reddit._core
    assert core is not None
    return core


def requestor_of(reddit: Client) -> Requestor:
    requestor = core_of(reddit).requestor
    assert isinstance(requestor, Requestor)
    return requestor


class Requestor(prawcore.Requestor):
    """prawcore's requestor with a time limit (PRAW never passes on its `timeout`) that never repeats a POST that changes something.

    prawcore would send it up to three times (after a timeout, a reset, a 5xx, a 401), so a comment that was accepted before the error would
    be posted twice. in_doubt: such a POST was sent since in_doubt was last set to False, and may have arrived. clock: Reddit's clock, from
    the Date of each response.
    """

    READS_BY_POST = ("/api/v1/access_token", "/api/morechildren")
    NOT_AGAIN = frozenset({401, *prawcore.Session.RETRY_STATUSES})

    def __init__(self, *, timeout_seconds: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.timeout_seconds = timeout_seconds
        self.in_doubt = False
        self.clock = ServerClock()

    def request(self, *args: Any, timeout: float | None = None, **kwargs: Any) -> requests.Response:
        method, url = args[:2] if args else (kwargs["method"], kwargs["url"])  # prawcore uses both positional and keyword arguments
        path = urlsplit(str(url)).path.rstrip("/")
        repeatable = str(method).upper() in ("GET", "HEAD") or path in self.READS_BY_POST
        self.in_doubt |= not repeatable
        try:
            response = super().request(*args, timeout=self.timeout_seconds, **kwargs)
        except prawcore.RequestException as error:
            if repeatable:
                raise
            if _never_connected(error.original_exception):
                self.in_doubt = False
            raise prawcore.RequestException(PostNotRepeated(cause(error.original_exception)), args, kwargs) from None
        self.clock.note(response.headers.get("Date", ""))
        _keep_readable(response.headers, response.status_code)
        if not repeatable and response.status_code in self.NOT_AGAIN:
            raise prawcore.RequestException(PostNotRepeated(f"status {response.status_code}"), args, kwargs)
        if str(method).upper() == "GET" and response.status_code < 300 and not response.content.lstrip().startswith((b"{", b"[")):
            raise prawcore.BadJSON(response)  # PRAW takes an empty response and `null` for an empty list
        return response


def _never_connected(error: Exception) -> bool:
    """True if requests failed before a byte could be sent."""
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(error, requests.ConnectionError) and isinstance(reason, (NewConnectionError, ConnectTimeoutError))


def _keep_readable(headers: MutableMapping[str, str], status: int) -> None:
    """Remove or correct invalid headers, which would crash prawcore, possibly after a comment was accepted.

    >>> headers = {"x-ratelimit-used": "4", "x-ratelimit-reset": "598.0", "retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}
    >>> _keep_readable(headers, 200); headers
    {}
    """
    pacing = ("x-ratelimit-remaining", "x-ratelimit-used", "x-ratelimit-reset")
    if not re.fullmatch(r"\d+(\.\d*)? \d+ \d+", " ".join(headers.get(name, "") for name in pacing)):
        for name in pacing:
            headers.pop(name, None)
    if not re.fullmatch(r"\d+(\.\d*)?", headers.get("retry-after", "")):
        headers.pop("retry-after", None)
    if not re.search(r'="?(insufficient_scope|invalid_token)"?$', headers.get("www-authenticate", "")):
        headers.pop("www-authenticate", None)
        if status == 401:
            headers["www-authenticate"] = "error=invalid_token"
    if status in (301, 302):
        headers.setdefault("location", "/")
