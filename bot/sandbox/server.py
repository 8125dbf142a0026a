"""The sandbox's HTTP server.

    api.py      the calls of Reddit's API: token and account, listings, trees, comments, messages
    faults.py   simulated faults
    pages.py    pages for browsers
    shapes.py   rows in Reddit's JSON formats
    store.py    the state, one SQLite file; seed.py its initial content

A path that both API clients and browsers may request (`/r/X/comments/ID`) returns JSON if there is a bearer token, otherwise HTML. No
rate-limit headers are sent, and each response closes its connection.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flask import Flask, Response, jsonify
from werkzeug.exceptions import HTTPException
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from bot.cli import UserError
from bot.sandbox import USERNAME, api, faults, pages
from bot.sandbox.store import Store


def make_app(store: Store, clock: Callable[[], float] = time.time) -> Flask:
    """clock: returns epoch seconds."""
    app = Flask(__name__)
    app.config.update(STORE=store, CLOCK=clock)
    app.url_map.strict_slashes = False
    app.before_request(api.need_token)
    app.before_request(faults.misbehave)
    app.register_error_handler(HTTPException, as_json)
    for blueprint in (api.api, faults.faults, pages.pages):
        app.register_blueprint(blueprint)
    return app


def as_json(problem: HTTPException) -> Response:
    if problem.response is not None:
        return problem.response  # type: ignore[return-value]
    response = jsonify({"message": problem.name, "error": problem.code})
    response.status_code = problem.code or 500
    return response


class Handler(WSGIRequestHandler):
    """One request per connection (HTTP/1.0 closes it), without printing a line per request."""

    protocol_version = "HTTP/1.0"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@dataclass
class Box:
    """A running sandbox."""

    url: str
    db: Path
    store: Store

    def say(self, parent_id: str, body: str, author: str = "reader_1", karma: int = 1) -> str:
        """Let another account reply to a submission or comment, by fullname; returns the new comment's fullname."""
        above = self.store.comment(parent_id)
        link_id = above["link_id"] if above is not None else parent_id
        name: str = self.store.add_comment(link_id, parent_id, author, body, time.time(), karma, tell=USERNAME)["name"]
        return name

    def write(self, body: str, author: str = "reader_1", subject: str = "hello") -> str:
        """Let another account send us a private message; returns its fullname."""
        return self.store.add_letter(author, subject, body, time.time())


def listen(db: Path, port: int = 0, now: float | None = None) -> tuple[Box, BaseWSGIServer]:
    """A sandbox that is bound to 127.0.0.1 but not yet serving.

    Raises:
        UserError: the port is in use, or `db` is another kind of file.
    """
    store = Store(db, time.time() if now is None else now)
    try:
        server = make_server("127.0.0.1", port, make_app(store), threaded=True, request_handler=Handler)
    except (OSError, SystemExit):
        # werkzeug prints its own message and exits if a port is in use
        raise UserError(f"port {port} on 127.0.0.1 is not available; give another --port, or 0 for a free one") from None
    return Box(f"http://127.0.0.1:{server.server_port}", db, store), server


@contextmanager
def serve(db: Path, port: int = 0, now: float | None = None) -> Iterator[Box]:
    box, server = listen(db, port, now)
    worker = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="sandbox", daemon=True)
    worker.start()
    try:
        yield box
    finally:
        server.shutdown()
        server.server_close()
        worker.join(timeout=5)
