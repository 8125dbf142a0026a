"""Requests to a server with the OpenAI interface: retries, time limits, and errors that say what to do.

Reads  the environment variable OPENAI_API_KEY, which is sent to the server and never shown.

Overload (429), errors of the server (408, 5xx), time-outs, broken connections and, from a server that has answered before, answers of
another form are tried again, after the time that the server asks for.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import tenacity

from bot import cli, text
from bot.cli import NoPermission, Unreachable, UserError, WrongSettings
from bot.schema import one_line

ATTEMPTS = 5
MAXIMUM_WAIT_SECONDS = 300.0  # a server that asks for more is left alone
CONNECT_SECONDS = 10.0
MAXIMUM_ANSWER_BYTES = 16 * 2**20  # a thousand candidates with log-probabilities have less
_LIMIT = r"context[ _-]?(?:length|size|window|limit)|maximum (?:model )?length|max_model_len|inputs?`? (?:tokens|must have less than)"
_TOO_MUCH = r"(?:prompt|input)\b[^.]{0,40}\btoo (?:long|large|many)|too many (?:input )?tokens|max_tokens must be at least 1"
OVER_LIMIT = re.compile(rf"(?i){_LIMIT}")
TOO_LONG = re.compile(rf"(?i){_LIMIT}|{_TOO_MUCH}")
OVERLOADED = re.compile(r"(?i)\b(?:took|taking|time|timed|queue|concurrent|pending)\b")  # «too many pending requests in the input queue»
FLAGGED = re.compile(r"(?i)moderat|flagged|content.?(?:policy|filter)|safety")  # of one text; not about the key
_NO_MODEL = r"\bmodel\b.{0,120}?(?:not found|not exist|unknown|no such|not loaded)"
WRONG_MODEL = re.compile(rf"(?i){_NO_MODEL}|pinned to|model_not_found")
# An error with which servers refuse a field that they do not have; llama.cpp's server did so with status 500.
UNSUPPORTED = re.compile(r"(?i)only one completion|not (?:yet )?(?:supported|implemented)|unsupported|unexpected field|number of slots")


class Refused(Exception):
    """The server does not carry out this request, but perhaps others. reason: a name."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


class _Again(Exception):
    """A request that may succeed later. wait_seconds: None if the server does not say."""

    def __init__(self, reason: str, message: str, wait_seconds: float | None = None):
        super().__init__(message)
        self.reason, self.wait_seconds = reason, wait_seconds


class Client:
    """Thread-safe. stop: set it to end waiting and to send nothing more."""

    def __init__(self, url: str, timeout_seconds: float):
        """Raises NoPermission if the key cannot be sent, and WrongSettings if a proxy or certificate of the environment cannot be used."""
        self.url, self.key = url, os.environ.get(cli.SERVER_KEY, "")
        if not re.fullmatch(r"[!-~]*", self.key):
            raise NoPermission(f"{cli.SERVER_KEY}: contains a space, a line break or another character that no key has; correct it")
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        timeout = httpx2.Timeout(timeout_seconds, connect=CONNECT_SECONDS)
        limits = httpx2.Limits(max_connections=None)
        try:
            self.http = httpx2.Client(headers=headers, timeout=timeout, limits=limits)
        except (ImportError, ValueError, OSError) as error:  # without the values, which may have a password
            raise WrongSettings(
                f"a proxy or certificate in the environment cannot be used ({type(error).__name__});"
                " correct or unset HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE and SSL_CERT_DIR"
            ) from None
        self.timeout_seconds = timeout_seconds
        self.stop = threading.Event()
        self.has_answered = False
        self.not_before = 0.0  # by time.monotonic(), for all threads: the server asked to wait

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a POST, a dict with a list `choices`.

        Raises:
            Refused: the server does not carry out this request.
            UserError: there is no server, or it rejects key or model, or does not speak this interface.
        """
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Again),
            wait=_wait_seconds,
            stop=tenacity.stop_after_attempt(ATTEMPTS) | tenacity.stop_when_event_set(self.stop),
            sleep=tenacity.sleep_using_event(self.stop),
            reraise=True,
        )
        try:
            return attempts(self._post, path, body)
        except _Again as error:
            tried = f"{attempts.statistics['attempt_number']} attempts"
            if error.reason in ("unreachable", "rate_limited"):
                raise Unreachable(f"{self.url}: {error} ({tried}); repeat the command later, it resumes") from None
            raise Refused(error.reason, f"{error} ({tried})") from None

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if self.stop.wait(max(0.0, self.not_before - time.monotonic())):
            raise Refused("stopped", "the command ended")
        try:
            with self.http.stream("POST", self.url + path, json=body) as response:
                answer = _json(self._content(response))
        except httpx2.ConnectTimeout as error:
            raise self._no_connection(error) from None
        except httpx2.TimeoutException:
            raise self._too_slow() from None
        except httpx2.ConnectError as error:
            raise self._no_connection(error) from None
        except (httpx2.InvalidURL, httpx2.DecodingError, httpx2.UnsupportedProtocol, UnicodeError) as error:
            raise UserError(f"{self.url}: {self.shown(error)}; correct url in server.toml") from None
        except httpx2.TransportError as error:
            raise _Again("connection_lost", f"the connection broke ({self.shown(error)})") from None
        if response.status_code == 200 and isinstance(answer, dict) and isinstance(answer.get("choices"), list):
            self.has_answered = True
            return answer
        raise self._problem(response, answer, str(body.get("model")))

    def _content(self, response: httpx2.Response) -> bytes:
        """The body of an answer that is being received. Limits its size, and the time for all of it."""
        deadline, content = time.monotonic() + self.timeout_seconds, bytearray()
        for part in response.iter_bytes():
            content += part
            if len(content) > MAXIMUM_ANSWER_BYTES:
                raise Refused("refused_by_server", f"an answer of more than {MAXIMUM_ANSWER_BYTES // 2**20} MiB")
            if time.monotonic() > deadline:
                raise self._too_slow()
        return bytes(content)

    def _too_slow(self) -> Exception:
        return _Again("timed_out", f"no answer within {self.timeout_seconds:g} seconds")

    def _no_connection(self, error: Exception) -> Exception:
        """Tried again only if the server was there before."""
        problem = f"no connection ({self.shown(error)})"
        if self.has_answered:
            return _Again("unreachable", problem)
        return Unreachable(f"{self.url}: {problem}; start the server, or correct url in server.toml")

    def _problem(self, response: httpx2.Response, answer: Any, model: str) -> Exception:
        """The exception for any answer but candidates."""
        status, message = _status(response.status_code, answer), self.shown(_message(answer) or response.reason_phrase)
        if status == 403 and FLAGGED.search(message):
            return Refused("refused_by_server", f"status 403: {message}")
        if status in (401, 403):
            remedy = f"correct {cli.SERVER_KEY}" if self.key else f"set {cli.SERVER_KEY} in the environment"
            return NoPermission(f"{self.url}: the server rejects the key (status {status}: {message}); {remedy}")
        if status == 402:
            return Unreachable(f"{self.url}: status 402: {message}; pay, then repeat the command, it resumes")
        is_too_long = (OVER_LIMIT if status >= 500 else TOO_LONG).search(message) and not OVERLOADED.search(message)
        if status == 413 or (is_too_long and status not in (408, 429)):
            return Refused("context_too_long", message)
        if status < 500 and (WRONG_MODEL.search(message) or (status == 404 and re.search("(?i)model", message))):
            names = self.models()
            offered = f"; it offers {', '.join(names[:5])}" if names else ""
            return UserError(f"{self.url}: no model {model} ({message}){offered}; correct model in server.toml")
        if status >= 500 and UNSUPPORTED.search(message):
            return Refused("refused_by_server", f"status {status}: {message}")
        if status in (408, 429) or status >= 500:
            return self._later(response, status, f"status {status}: {message}")
        if isinstance(answer, dict) and answer.get("error") and status == 200:
            return Refused("refused_by_server", message)
        if status < 400 or status in (404, 405):
            kind = response.headers.get("content-type", "no content type").partition(";")[0]
            if location := response.headers.get("location"):
                kind = f"to {location}"
            problem = f"not an answer of the OpenAI interface (status {status}, {self.shown(kind)})"
            if self.has_answered:
                return _Again("bad_answer", problem)
            return UserError(f"{self.url}: {problem}; correct url in server.toml, which often ends in /v1")
        return Refused("refused_by_server", f"status {status}: {message}")

    def _later(self, response: httpx2.Response, status: int, message: str) -> Exception:
        wait_seconds = retry_after_seconds(response.headers.get("retry-after", ""), time.time())
        if wait_seconds is not None and wait_seconds > MAXIMUM_WAIT_SECONDS:
            return Unreachable(f"{self.url}: {message}; it asks to wait {wait_seconds:.0f} seconds; repeat the command then, it resumes")
        if wait_seconds is not None:
            self.not_before = max(self.not_before, time.monotonic() + wait_seconds)
        return _Again("rate_limited" if status == 429 else "server_error", message, wait_seconds)

    def models(self) -> list[str]:
        """The names of the models that the server offers; empty if it does not say."""
        try:
            rows = _json(self.http.get(f"{self.url}/models").content)["data"]
            return [self.shown(row["id"]) for row in rows]
        except (httpx2.HTTPError, KeyError, TypeError):
            return []

    def shown(self, message: object) -> str:
        """A foreign text for an error message: one line, without the key and without invisible characters, which a terminal may obey."""
        body = str(message).replace(self.key, "…") if self.key else str(message)
        return text.printable(one_line(body)) or type(message).__name__


def retry_after_seconds(value: str, now: float) -> float | None:
    """The seconds in a Retry-After header, a number or a date (RFC 9110, 10.2.3); None for anything else. now: epoch seconds.

    >>> retry_after_seconds("7", 0), retry_after_seconds("Thu, 01 Jan 1970 00:01:00 GMT", 20), retry_after_seconds("soon", 0)
    (7.0, 40.0, None)
    """
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value.strip()):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


BACKOFF = tenacity.wait_exponential_jitter(initial=1, max=30)


def _wait_seconds(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return error.wait_seconds if isinstance(error, _Again) and error.wait_seconds is not None else BACKOFF(state)


def _json(content: bytes) -> Any:
    """The parsed text; None if it is not JSON, or nested too deeply."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _status(status: int, answer: Any) -> int:
    """The status of an error, which some servers send with status 200.

    >>> _status(200, {"error": {"code": 502}}), _status(200, {"error": {"code": "too_long"}}), _status(404, {"error": {"code": 1}})
    (502, 200, 404)
    """
    code = answer["error"].get("code") if isinstance(answer, dict) and isinstance(answer.get("error"), dict) else None
    return code if status == 200 and type(code) is int and 400 <= code < 600 else status


def _message(answer: Any) -> str:
    """The text of an error in any of the usual forms.

    >>> _message({"error": {"message": "no", "code": 400}}), _message({"object": "error", "message": "no"}), _message({"detail": "no"})
    ('no', 'no', 'no')
    """
    if not isinstance(answer, dict):
        return ""
    error = answer.get("error")
    parts = [error.get("message"), error.get("type"), error.get("code")] if isinstance(error, dict) else [error]
    parts += [answer.get("message"), answer.get("detail")]
    return next((str(part) for part in parts if part), "")
