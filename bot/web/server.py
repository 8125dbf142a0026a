"""An app from page blueprints, and its server.

    server.serve(server.make_app(pages), server.listen(8001))                     for this machine only, as `judge --port`
    access, token = server.read_access(path, host, url)                          for other machines: visitors need a token
    server.serve(server.make_app(*pages, access=access), server.listen(port, host), host, token)

What every page gets, with nothing to do in the blueprint:
- Access. An app on 127.0.0.1 is for this machine: requests for another host name (DNS rebinding) or through a proxy are refused. At any
  other address, or behind nginx (web.url), a visitor needs the token, which is shown once, as a URL, and is exchanged for a cookie.
- Forms. Requests that change something need the CSRF token of the session (`{{ csrf_field() }}` in a form, the header X-CSRF-Token in
  JavaScript) and must not come from another origin.
- Limits. Requests of one address (Limiter), the size of a request, and the number of open event streams (`stream`).
- Headers. Pages load nothing from elsewhere and run no inline scripts. Templates escape everything.
Templates extend base.html.j2. `person()` is the name of the visitor.

The server is waitress: one process with a pool of threads, one for each open event stream. It tells a stream that its browser is gone
(channel_request_lookahead), passes on each event at once, takes a socket that is already open, and needs neither fork nor monkey-patching,
so that worker processes and locks work as usual. Threads that wait cost little: THREADS of them are enough for STREAMS open streams and
the pages. For more, start several processes behind nginx; docs/web.md has the configuration.
"""

from __future__ import annotations

import getpass
import hashlib
import hmac
import html
import json
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import waitress
from flask import Blueprint, Flask, Response, abort, current_app, redirect, render_template, request, session, url_for
from markupsafe import Markup
from werkzeug.exceptions import HTTPException, SecurityError

from bot import files, text
from bot.cli import UserError
from bot.conduct import letters

MAX_REQUEST_BYTES = 128 * 1024  # 10,000 characters take up to 120,000 bytes in a form
STREAMS = 200  # open event streams
STREAMS_OF_ONE = 20  # of one session; of one address for requests without a session
THREADS = STREAMS + 24
REQUESTS_A_MINUTE, REQUESTS_AT_ONCE = 600, 300  # of one address
TOKENS_A_MINUTE = 10  # wrong ones, of one address
SESSION_DAYS = 7
NAME_CHARACTERS = 40
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:;"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers send no origin
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
LOCAL_NAMES = ["127.0.0.1", "localhost"]
FORWARDED = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP")
# The links at the top of each page: endpoint and label. Those whose pages are not part of the app are left out.
LINKS = (("runs.index", "Runs"), ("try.index", "Try"), ("chat.index", "Chat"), ("judge.index", "Judge"))


# --- access ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Access:
    """Who may use an app. secret: signs the cookies. token_sha256: of the token that visitors need; empty on this machine, where they need
    none. url: the address under which nginx serves the app, empty without nginx.
    """

    secret: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    token_sha256: str = ""
    url: str = ""


def is_local(host: str) -> bool:
    """Whether only this machine reaches an address, by a name for which the app answers without a token.

    >>> [is_local(host) for host in ("127.0.0.1", "localhost", "127.0.0.2", "0.0.0.0", "192.168.1.5", "::1")]
    [True, True, False, False, False, False]
    """
    return host in LOCAL_NAMES


def read_access(path: Path, host: str, url: str = "") -> tuple[Access, str]:
    """The access rules from the file `path`, which is created if it is missing; and the token if it is new, otherwise an empty text.

    The file has the secret that signs cookies, so that visitors stay signed in after a restart, and only a hash of the token. Several
    server processes share it.

    Raises:
        FileError: the file is not one that this function wrote.
    """
    token = ""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.wait_for_lock(path.with_name(f"{path.name}.lock"), f"{path}: waiting for another process"):
        try:
            known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"secret": secrets.token_hex(32), "token_sha256": ""}
            access = Access(known["secret"], known["token_sha256"], url)
            if len(bytes.fromhex(access.secret)) < 32:
                raise ValueError
        except (ValueError, TypeError, KeyError):
            raise files.FileError(f"{path}: not readable as the secrets of the web pages; delete it, and visitors sign in again") from None
        if is_local(host) and not url:
            access = Access(access.secret)
        elif not access.token_sha256:
            token = secrets.token_urlsafe(24)
            known["token_sha256"] = hashlib.sha256(token.encode()).hexdigest()
            access = Access(access.secret, known["token_sha256"], url)
        if token or not path.exists():
            with files.atomic_writer(path, is_private=True) as file:
                file.write(json.dumps(known) + "\n")
    return access, token


class Limiter:
    """At most `at_once` requests of one key, then `a_minute` (a token bucket). May be used by several threads."""

    def __init__(self, a_minute: float, at_once: int) -> None:
        self.a_second, self.at_once = a_minute / 60, at_once
        self._lock = threading.Lock()
        self._full_at: dict[str, float] = {}  # key -> when its bucket is full again

    def allows(self, key: str, now: float | None = None) -> bool:
        """Count one request. False if there were too many. now: seconds of a monotonic clock.

        >>> limiter = Limiter(a_minute=60, at_once=2)
        >>> [limiter.allows("a", now) for now in (0, 0, 0, 1, 1)], limiter.allows("b", 1)
        ([True, True, False, True, False], True)
        """
        now = time.monotonic() if now is None else now
        with self._lock:
            if len(self._full_at) > 10_000:
                self._full_at = {each: full_at for each, full_at in self._full_at.items() if full_at > now}
            full_at = max(self._full_at.get(key, now), now) + 1 / self.a_second
            if full_at - now > self.at_once / self.a_second + 1e-9:
                return False
            self._full_at[key] = full_at
            return True


class Slots:
    """At most `most` things at the same time, and at most `of_one` of one key. May be used by several threads."""

    def __init__(self, most: int, of_one: int) -> None:
        self.most, self.of_one = most, of_one
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()

    def take(self, key: str) -> str:
        """Take one. Returns why there is none, for people; otherwise an empty text.

        >>> slots = Slots(most=3, of_one=2)
        >>> [slots.take(key) for key in "aab"], slots.take("c")
        (['', '', ''], 'Too many pages are open at the same time. Try again later.')
        >>> slots.give_back("b")
        >>> slots.take("a")
        'You have 2 pages open. Close one of them.'
        """
        with self._lock:
            if self._taken[key] >= self.of_one:
                return f"You have {self.of_one} pages open. Close one of them."
            if self._taken.total() >= self.most:
                return "Too many pages are open at the same time. Try again later."
            self._taken[key] += 1
            return ""

    def give_back(self, key: str) -> None:
        with self._lock:
            self._taken[key] -= 1
            self._taken += Counter()  # without those at 0


# --- the app --------------------------------------------------------------------------------------------------------------


def make_app(*pages: Blueprint, access: Access | None = None) -> Flask:
    """An app with these pages. access: from `read_access`; None for an app that is for this machine only."""
    access = access or Access()
    app = Flask(__name__)
    app.secret_key = access.secret
    is_https = access.url.startswith("https:")
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_REQUEST_BYTES,
        TRUSTED_HOSTS=trusted_hosts(access),
        SESSION_COOKIE_NAME="__Host-reply_bot" if is_https else "reply_bot",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict" if not access.token_sha256 else "Lax",  # Lax: the URL with the token is opened from elsewhere
        SESSION_COOKIE_SECURE=is_https,
        PERMANENT_SESSION_LIFETIME=SESSION_DAYS * 86_400,
    )
    app.jinja_options = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True}  # by default Flask escapes in *.html only
    app.extensions["access"] = access
    app.extensions["streams"] = Slots(STREAMS, STREAMS_OF_ONE)
    requests, tokens = Limiter(REQUESTS_A_MINUTE, REQUESTS_AT_ONCE), Limiter(TOKENS_A_MINUTE, TOKENS_A_MINUTE)

    @app.before_request
    def check_request() -> Any:
        if request.endpoint == "static":
            return None
        _ = request.host  # raises an error if it is not trusted
        if not requests.allows(request.remote_addr or ""):
            abort(429, "Too many requests. Wait a moment and reload the page.")
        if (answer := check_access(access, tokens)) is not None:
            return answer
        check_form(access)
        return None

    app.after_request(add_headers)
    app.register_error_handler(HTTPException, show_error)
    app.register_error_handler(UserError, show_user_error)
    app.add_template_filter(visible)
    app.add_template_global(csrf_field)
    app.add_template_global(csrf_token)
    app.add_template_global(person)
    app.add_template_global(links)
    app.add_url_rule("/name", "name", change_name, methods=["GET", "POST"])
    for each in pages:
        app.register_blueprint(each)
    return app


def trusted_hosts(access: Access) -> list[str] | None:
    """The host names for which the app answers; None: all."""
    if not access.token_sha256:
        return LOCAL_NAMES
    return [urlsplit(access.url).netloc] if access.url else None


def check_access(access: Access, tokens: Limiter) -> Any:
    """Refuse a visitor who may not use the app. Exchanges a token in the URL for a cookie."""
    if not access.token_sha256:
        if any(name in request.headers for name in FORWARDED):
            abort(403, "This app is for the machine on which it runs. To serve it through a proxy, set web.url; see docs/web.md.")
        return None
    if token := request.args.get("token"):
        if not hmac.compare_digest(hashlib.sha256(token.encode("utf-8", "replace")).hexdigest(), access.token_sha256):
            abort(429 if not tokens.allows(request.remote_addr or "") else 401, "This token is not valid.")
        if not hmac.compare_digest(session.get("token_sha256", ""), access.token_sha256):  # otherwise the visitor stays who they are
            session.clear()
            session.permanent = True
            session["token_sha256"] = access.token_sha256
        return redirect(inside(request.path), 303)  # the token does not stay in the address bar
    if not hmac.compare_digest(session.get("token_sha256", ""), access.token_sha256):
        abort(401, "Open the URL with the token. The server printed it at its first start.")
    if not session.get("who") and request.endpoint != "name":
        if request.method != "GET":
            abort(400, "Nothing was changed, because you have not given a name yet. Open the start page.")
        return redirect(url_for("name", next=request.path), 303)
    return None


def check_form(access: Access) -> None:
    """Refuse a request that changes something if it comes from another origin or lacks the CSRF token of the session."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    origin = request.headers.get("Origin")
    if origin is not None and origin != (access.url or request.host_url).rstrip("/"):
        abort(403, "The request came from another site.")
    given = request.headers.get("X-CSRF-Token") or request.form.get("csrf_token", "")
    if not hmac.compare_digest(given.encode(), session.get("csrf_token", "").encode()) or not given:
        abort(400, "This page is out of date, and nothing was changed. Go back and reload it.")


def csrf_token() -> str:
    """The CSRF token of the session, for the header X-CSRF-Token."""
    if "csrf_token" not in session:
        session.permanent = True
        session["csrf_token"] = secrets.token_urlsafe(24)
    return str(session["csrf_token"])


def csrf_field() -> Markup:
    """The hidden field that each form with method="post" needs."""
    return Markup('<input type="hidden" name="csrf_token" value="{}">').format(csrf_token())


def add_headers(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if request.endpoint == "static":
        response.headers["Cache-Control"] = "no-cache"  # ask each time; an unchanged file is not sent again
    return response


def visible(body: str) -> str:
    """The text without control characters, and without those that change its direction, which could hide what will be posted."""
    return text.BIDI.sub("\ufffd", text.UNPRINTABLE.sub("\ufffd", body))


def show_error(error: HTTPException) -> Any:
    if error.code is not None and error.code >= 400 and not isinstance(error, SecurityError):  # with a wrong host no page can be made
        return render_template("message.html.j2", title=error.name, message=error.description, code=error.code), error.code
    return error


def show_user_error(error: UserError) -> Any:
    return render_template("message.html.j2", title="This did not work", message=str(error), code=409), 409


# --- people ---------------------------------------------------------------------------------------------------------------


def person() -> str:
    """The name of the visitor: the one that they gave; on this machine, otherwise the name of its user."""
    if name := session.get("who", ""):
        return str(name)
    if current_app.extensions["access"].token_sha256:
        return ""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "operator"


def inside(path: str) -> str:
    """The path if it is one of this app, otherwise the start page. Browsers read backslashes as slashes and leave out tabs and line ends.

    >>> [inside(path) for path in ("/runs/a b?x=1", "//evil.example", "/\\\\evil.example", "/\\t/evil.example", "https://evil.example", "")]
    ['/runs/a b?x=1', '/', '/', '/', '/', '/']
    """
    is_inside = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_inside else "/"


def change_name() -> Any:
    """The page that asks for the visitor's name. It is written beside what they approve and judge."""
    target = inside(request.values.get("next", ""))
    if request.method == "GET":
        return render_template("name.html.j2", target=target)
    name = text.printable(request.form.get("who", ""))[:NAME_CHARACTERS].strip()
    if letters.is_blank(name):
        return render_template("name.html.j2", target=target), 400
    if letters.has_hidden_characters(letters.without_joiners(html.unescape(name))):  # it could look like the name of another person
        problem = "The name has invisible characters; type it again without them."
        return render_template("name.html.j2", target=target, problem=problem), 400
    session.permanent = True
    session["who"] = name
    return redirect(target, 303)


def links() -> list[tuple[str, str, bool]]:
    """The links at the top of each page: address, label, and whether it is the current part of the app."""
    here = (request.endpoint or "").partition(".")[0]
    known = current_app.view_functions
    return [(url_for(endpoint), label, endpoint.partition(".")[0] == here) for endpoint, label in LINKS if endpoint in known]


# --- event streams --------------------------------------------------------------------------------------------------------


def event(data: Any, event_id: str = "") -> str:
    r"""One server-sent event; data is sent as JSON.

    >>> event({"text": "a\nb"}, "7")
    'id: 7\ndata: {"text": "a\\nb"}\n\n'
    """
    return (f"id: {event_id}\n" if event_id else "") + f"data: {json.dumps(data)}\n\n"


def stream(events: Generator[str | None, None, None]) -> Response:
    """The response that sends events while the browser is there. The generator is closed at the end.

    events: yields texts of `event`, and None at least every 15 seconds if there are none: then the browser gets a comment, so that neither
    it nor nginx closes the stream, and a browser that is gone is noticed. Answers 503 if STREAMS are open, or STREAMS_OF_ONE of
    this visitor.
    """
    slots: Slots = current_app.extensions["streams"]
    visitor = str(session.get("browser") or request.remote_addr)  # without a session: other sites too, whose requests get no cookie
    if problem := slots.take(visitor):
        abort(503, problem)
    is_gone = request.environ.get("waitress.client_disconnected", lambda: False)

    def sent() -> Iterable[str]:
        with closing(events):
            yield ": open\n\n"
            for each in events:
                if is_gone():
                    return
                yield each or ": waiting\n\n"

    response = Response(sent(), mimetype="text/event-stream", headers={"X-Accel-Buffering": "no"})
    response.call_on_close(lambda: slots.give_back(visitor))
    return response


# --- the server -----------------------------------------------------------------------------------------------------------


def listen(port: int, host: str = "127.0.0.1") -> socket.socket:
    """Open the address. port: 0 for any free one. Raises UserError if it is not available."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1024)
    except OSError:
        raise UserError(f"port {port} on {host} is not available; give another --port, or 0 for any free one") from None


def serve(app: Flask, listening: socket.socket, host: str = "127.0.0.1", token: str = "") -> None:
    """Serve until interrupted. Prints the URL, with the token if there is a new one. listening: from `listen`, for `host`."""
    access: Access = app.extensions["access"]
    port = listening.getsockname()[1]
    if not access.url:
        app.config["SESSION_COOKIE_NAME"] += f"_{port}"  # browsers do not separate the cookies of ports
    behind_proxy: dict[str, Any] = {"clear_untrusted_proxy_headers": False}
    if access.url and is_local(host):
        behind_proxy = {"trusted_proxy": "127.0.0.1", "trusted_proxy_headers": {"x-forwarded-for", "x-forwarded-proto"}}
    server = waitress.create_server(
        app,
        sockets=[listening],
        threads=THREADS,
        connection_limit=THREADS * 4,
        channel_request_lookahead=1,
        max_request_body_size=MAX_REQUEST_BYTES,
        ident=None,
        **behind_proxy,
    )
    print(f"{address_of(access, host, port)}{f'?token={token}' if token else ''} (Ctrl-C to stop)", flush=True)
    if access.token_sha256 and not token:
        print("visitors need the URL with the token, which was shown at the first start; to get another one, delete the file of web.state")
    server.run()


def address_of(access: Access, host: str, port: int) -> str:
    """The URL of the app, for people."""
    if access.url:
        return f"{access.url.rstrip('/')}/"
    if host in ("0.0.0.0", "::", ""):
        host = socket.gethostname()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
