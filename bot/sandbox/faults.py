"""Simulated faults of the network and of Reddit: POST {"kind": "503", "accepted": true} to /sandbox/faults; DELETE removes all faults.

See `FAULTS` and Store.add_fault for the possible faults.
"""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
import time
from urllib.parse import unquote_plus

from flask import Blueprint, Response, g, jsonify, request

from bot.sandbox import USERNAME
from bot.sandbox.api import now, reply, store

# The response of a fault: status, body. Other faults: timeout (responds late), reset (closes the connection), cut (truncates the response),
# stale (old listings), suspended (our account, at /api/v1/me).
FAULTS: dict[str, tuple[int, str]] = {
    **{str(status): (status, "<html>our servers are busy</html>") for status in (408, 500, 502, 503, 504)},
    **{str(status): (status, json.dumps({"message": "no", "error": status})) for status in (401, 403, 404, 429)},
    **{
        kind: (200, json.dumps({"json": {"errors": [[name, message, "field"]]}}))
        for kind, name, message in [
            ("ratelimit", "RATELIMIT", "You are doing that too much. Take a break for 9 minutes before trying again."),
            ("ratelimit_short", "RATELIMIT", "Looks like you've been doing that a lot. Take a break for 1m 30s before trying again."),
            ("locked", "THREAD_LOCKED", "Comments are locked."),
            ("too_old", "TOO_OLD", "that's a piece of history now; it's too late to reply to it"),
            ("deleted", "DELETED_COMMENT", "that comment has been deleted"),
            ("broken", "SOMETHING_IS_BROKEN", "Something is broken, please try again later."),
            ("odd", "A_NAME_NOBODY_KNOWS", "words"),
            ("banned", "BANNED_FROM_SUBREDDIT", "that user is banned from the subreddit"),
            ("in_timeout", "IN_TIMEOUT", "You can't do that while suspended."),
            ("subreddit_ratelimit", "SUBREDDIT_RATELIMIT", "you are doing that too much in this community. try again in 9 minutes."),
            ("linking", "SUBREDDIT_OUTBOUND_LINKING", "links to other places are not allowed here"),
            ("user_blocked", "USER_BLOCKED", "you can't do that to this user"),
        ]
    },
    "several": (200, json.dumps({"json": {"errors": [["BAD_CAPTCHA", None, "captcha"], ["RATELIMIT", "try again in 9 minutes.", ""]]}})),
    "no_data": (200, json.dumps({"json": {"errors": []}})),
    "scope": (403, json.dumps({"message": "Forbidden", "error": 403})),  # with a header that identifies the fault
    "413": (413, "<html>too large</html>"),
    "html403": (403, "<html>whoa there, pardner!</html>"),
    "400": (400, json.dumps({"message": "Bad Request", "error": 400})),
    "400_fields": (400, json.dumps({"fields": ["id"], "explanation": "that id is odd", "message": "Bad Request", "reason": "BAD_ID"})),
    "400_html": (400, "<html>no</html>"),
    "garbage": (200, "<html>you broke reddit</html>"),
    "empty": (200, json.dumps({"json": {"errors": [], "data": {"things": []}}})),  # PRAW's reply() returns None
}

faults = Blueprint("faults", __name__)


@faults.post("/sandbox/faults")
def add_fault() -> Response:
    store().add_fault(**request.get_json())
    return jsonify({})


@faults.delete("/sandbox/faults")
def clear_faults() -> Response:
    store().clear_faults()
    return jsonify({})


def misbehave() -> Response | None:
    """Before each request: the response of the next fault for its path, None if there is none. Sets g.newest, for stale listings."""
    g.newest = None
    form = unquote_plus(request.get_data(as_text=True))
    fault = None if request.path.startswith("/sandbox/") else store().take_fault(request.path, form)
    if fault is None:
        return None
    if fault["accepted"]:
        accept(fault["late_seconds"])
    if fault["kind"] == "stale":
        g.newest = fault["newest"]
        return None
    if fault["kind"] == "suspended":
        return jsonify({"name": USERNAME, "id": "sandbox1", "is_suspended": True})
    return answer(fault)


def accept(late_seconds: float) -> None:
    """Store the reply of this request in spite of the fault, now or later."""
    if not late_seconds:
        reply()
        return
    comment = store().comment(request.form["thing_id"])
    assert comment is not None
    arrival = (comment["link_id"], comment["name"], USERNAME, request.form["text"], now() + late_seconds)
    threading.Timer(late_seconds, store().add_comment, arrival).start()


def answer(fault: sqlite3.Row) -> Response:
    if fault["kind"] == "timeout":
        time.sleep(fault["seconds"])
    if fault["kind"] in ("timeout", "reset"):
        request.environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    status, body = FAULTS.get(fault["kind"], (200, "{"))
    response = Response(body, status, mimetype="text/html" if body.startswith("<") else "application/json")
    if fault["kind"] == "scope":
        response.headers["WWW-Authenticate"] = 'Bearer realm="reddit", error="insufficient_scope"'
    if fault["kind"] == "429" and fault["seconds"]:
        response.headers["Retry-After"] = str(int(fault["seconds"]))
    if fault["kind"] == "cut":
        response.headers["Content-Length"] = "5000"
    return response
