"""The sandbox's HTTP side: the calls of Reddit's API that PRAW makes for us, in Reddit's shapes, and plain pages for a browser.

It can misbehave as a network and as Reddit do: POST {"kind": "503", "accepted": true} to /sandbox/faults, see `FAULTS` and
Store.add_fault; DELETE there ends it.

A path that both an API client and a browser may ask for (`/r/X/comments/ID`) answers JSON to a bearer token and HTML to anybody else. No
rate-limit headers are sent, and each answer closes its connection.
"""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, g, jsonify, redirect, render_template, request
from werkzeug.exceptions import HTTPException
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from bot.cli import UserError
from bot.sandbox import CLIENT_ID, CLIENT_SECRET, PASSWORD, USERNAME
from bot.sandbox.seed import GONE
from bot.sandbox.store import Store

MAXIMUM_LENGTH = 10_000  # characters in a comment
# Far smaller than Reddit's, so that a seeded thread is enough to make it cut.
TREE_SIZE = 25  # comments that one answer holds before the rest goes behind a «more» node
TREE_DEPTH = 6  # levels before «continue this thread»
TOKEN_SECONDS = 3600

# What a fault answers: status, body. Besides these: timeout (answers late), reset (hangs up), cut (breaks off), stale (old listings),
# suspended (our account, to /api/v1/me).
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
        ]
    },
    "garbage": (200, "<html>you broke reddit</html>"),
    "empty": (200, json.dumps({"json": {"errors": [], "data": {"things": []}}})),  # PRAW's reply() returns None
}

Json = dict[str, Any]


def make_app(store: Store, clock: Callable[[], float] = time.time) -> Flask:
    app = Flask(__name__)
    app.url_map.strict_slashes = False

    # --- answers ------------------------------------------------------------------------------------------------------

    def error(status: int, reason: str = "") -> Response:
        message = {401: "Unauthorized", 403: "Forbidden", 404: "Not Found"}[status]
        response = jsonify({"message": message, "error": status} | ({"reason": reason} if reason else {}))
        response.status_code = status
        return response

    def refuse(name: str, message: str, field: str) -> Response:
        """Reddit refuses with status 200."""
        return jsonify({"json": {"errors": [[name, message, field]]}})

    def submission_json(row: sqlite3.Row) -> Json:
        permalink = _permalink(row)
        return {
            "kind": "t3",
            "data": {
                "id": row["name"][3:],
                "name": row["name"],
                "subreddit": row["subreddit"],
                "subreddit_name_prefixed": f"r/{row['subreddit']}",
                "author": row["author"],
                "title": row["title"],
                "selftext": row["text"],
                "is_self": True,
                "score": row["karma"],
                "ups": row["karma"],
                "num_comments": len(store.comments_of(row["name"])),
                "created_utc": float(row["created_utc"]),
                "over_18": bool(row["over_18"]),
                "locked": bool(row["locked"]),
                "archived": bool(row["archived"]),
                "stickied": False,
                "quarantine": False,
                "link_flair_text": None,
                "edited": False,
                "permalink": permalink,
                "url": request.host_url.rstrip("/") + permalink,
            },
        }

    def comment_json(row: sqlite3.Row, submission: sqlite3.Row, depth: int | None = None, replies: list[Json] | None = None) -> Json:
        data = {
            "id": row["name"][3:],
            "name": row["name"],
            "link_id": row["link_id"],
            "parent_id": row["parent_id"],
            "subreddit": submission["subreddit"],
            "subreddit_name_prefixed": f"r/{submission['subreddit']}",
            "author": row["author"],
            "body": row["body"],
            "score": row["karma"],
            "ups": row["karma"],
            "score_hidden": False,
            "created_utc": float(row["created_utc"]),
            "edited": False,
            "stickied": False,
            "distinguished": "moderator" if row["author"] == "AutoModerator" else None,
            "locked": bool(submission["locked"]),
            "archived": bool(submission["archived"]),
            "over_18": bool(submission["over_18"]),
            "is_submitter": row["author"] == submission["author"],
            "link_title": submission["title"],
            "permalink": f"{_permalink(submission)}{row['name'][3:]}/",
            "replies": _listing(replies) if replies else "",
        }
        if depth is not None:
            data["depth"] = depth
        return {"kind": "t1", "data": data}

    def alone(row: sqlite3.Row) -> Json:
        """A comment outside its thread, as listings have it."""
        submission = store.submission(row["link_id"])
        assert submission is not None
        return comment_json(row, submission)

    def page(children: list[Json]) -> Response:
        """The part of a listing that limit, after and before ask for."""
        limit = min(max(request.args.get("limit", 25, type=int), 1), 100)
        names = [child["data"]["name"] for child in children]
        if request.args.get("before") in names:
            # What is newer; no «after», or PRAW would page on into what is older.
            end = names.index(request.args["before"])
            return jsonify(_listing(children[max(0, end - limit) : end]))
        start = names.index(request.args["after"]) + 1 if request.args.get("after") in names else 0
        shown = children[start : start + limit]
        after = shown[-1]["data"]["name"] if start + len(shown) < len(children) else None
        return jsonify(_listing(shown, after))

    def readable(name: str) -> sqlite3.Row:
        """The subreddit, or the answer that Reddit gives in its place."""
        subreddit = store.subreddit(name)
        if subreddit is None:
            # Reddit sends whoever lists a subreddit that isn't there to its search.
            abort(error(404) if request.path.rstrip("/").endswith("/about") else redirect("/subreddits/search"))
        if subreddit["kind"] == "private":
            abort(error(403, "private"))
        if subreddit["kind"] == "banned":
            abort(error(404, "banned"))
        return subreddit

    # --- who is asking ------------------------------------------------------------------------------------------------

    def has_token() -> bool:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "bearer" and store.knows_token(token, clock())

    @app.before_request
    def need_token() -> Response | None:
        for_anybody = request.path == "/" or request.path == "/api/v1/access_token" or request.path.startswith(("/static/", "/sandbox/"))
        for_browsers = re.match(r"(/r/[^/]+)?/comments/.", request.path) and "Authorization" not in request.headers
        return None if for_anybody or for_browsers or has_token() else error(401)

    # --- misbehaving --------------------------------------------------------------------------------------------------

    @app.before_request
    def misbehave() -> Response | None:
        g.newest = None
        fault = None if request.path.startswith("/sandbox/") else store.take_fault(request.path)
        if fault is None:
            return None
        if fault["accepted"] and fault["late_seconds"]:
            comment = store.comment(request.form["thing_id"])
            assert comment is not None
            arrival = (comment["link_id"], comment["name"], USERNAME, request.form["text"], clock() + fault["late_seconds"])
            threading.Timer(fault["late_seconds"], store.add_comment, arrival).start()
        elif fault["accepted"]:
            reply()
        if fault["kind"] == "stale":
            g.newest = fault["newest"]
            return None
        if fault["kind"] == "suspended":
            return jsonify({"name": USERNAME, "id": "sandbox1", "is_suspended": True})
        if fault["kind"] == "timeout":
            time.sleep(fault["seconds"])
        if fault["kind"] in ("timeout", "reset"):
            request.environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        status, body = FAULTS.get(fault["kind"], (200, "{"))
        answer = Response(body, status, mimetype="application/json")
        if fault["kind"] == "429" and fault["seconds"]:
            answer.headers["Retry-After"] = str(int(fault["seconds"]))
        if fault["kind"] == "cut":
            answer.headers["Content-Length"] = "5000"
        return answer

    def seen(rows: list[sqlite3.Row]) -> list[sqlite3.Row]:
        """Without what a stale listing doesn't have yet."""
        return [row for row in rows if g.newest is None or row["number"] <= g.newest]

    @app.post("/sandbox/faults")
    def add_fault() -> Response:
        store.add_fault(**request.get_json())
        return jsonify({})

    @app.delete("/sandbox/faults")
    def clear_faults() -> Response:
        store.clear_faults()
        return jsonify({})

    @app.errorhandler(HTTPException)
    def as_json(problem: HTTPException) -> Response:
        if problem.response is not None:
            return problem.response  # type: ignore[return-value]
        response = jsonify({"message": problem.name, "error": problem.code})
        response.status_code = problem.code or 500
        return response

    @app.post("/api/v1/access_token")
    def access_token() -> Response:
        client = request.authorization
        if client is None or (client.username, client.password) != (CLIENT_ID, CLIENT_SECRET):
            return error(401)
        if request.form.get("grant_type") != "password":
            return jsonify({"error": "unsupported_grant_type"})
        if (request.form.get("username"), request.form.get("password")) != (USERNAME, PASSWORD):
            return jsonify({"error": "invalid_grant"})
        token = store.new_token(clock(), TOKEN_SECONDS)
        return jsonify({"access_token": token, "token_type": "bearer", "expires_in": TOKEN_SECONDS, "scope": "*"})

    @app.get("/api/v1/me")
    def me() -> Response:
        return jsonify({"name": USERNAME, "id": "sandbox1", "is_suspended": False, "inbox_count": len(store.unread())})

    # --- subreddits ---------------------------------------------------------------------------------------------------

    @app.get("/r/<name>/<any(rising, hot, new):order>")
    def listing(name: str, order: str) -> Response:
        rows = store.submissions(readable(name)["name"])
        now = clock()
        if order == "hot":
            rows.sort(key=lambda row: -row["karma"])
        elif order == "rising":
            # Of the last day, by karma an hour.
            rows = [row for row in rows if now - row["created_utc"] < 86_400]
            rows.sort(key=lambda row: -row["karma"] / max(now - row["created_utc"], 60))
        return page([submission_json(row) for row in rows])

    @app.get("/r/<name>/comments")
    def stream(name: str) -> Response:
        return page([alone(row) for row in store.comments_in(readable(name)["name"])])

    @app.get("/r/<name>/about")
    def about(name: str) -> Response:
        row = readable(name)
        data = {
            "id": row["name"][-5:],
            "name": f"t5_{row['name'][-5:]}",
            "display_name": row["name"],
            "title": row["title"],
            "subreddit_type": row["kind"],
            "over18": False,
            "quarantine": False,
            "user_is_banned": bool(row["bans_us"]),
            "subscribers": 1000,
        }
        return jsonify({"kind": "t5", "data": data})

    # --- threads ------------------------------------------------------------------------------------------------------

    def tree(submission: sqlite3.Row, top: str, size: int) -> list[Json]:
        """What one answer shows under `top` (a submission, or the parent of a comment): at most `size` comments and TREE_DEPTH levels."""
        comments = seen(store.comments_of(submission["name"]))
        below = _children(comments[::-1] if request.args.get("sort") == "new" else comments)
        room = size

        def shown(parent: str, depth: int) -> list[Json]:
            nonlocal room
            rows = below.get(parent, [])
            if rows and depth >= TREE_DEPTH:
                return [_more(parent, [], 0, depth)]
            nodes = []
            for place, row in enumerate(rows):
                if room <= 0:
                    hidden = rows[place:]
                    nodes.append(_more(parent, [one["name"] for one in hidden], sum(_count(below, one["name"]) for one in hidden), depth))
                    break
                room -= 1
                nodes.append(comment_json(row, submission, depth, shown(row["name"], depth + 1)))
            return nodes

        return shown(top, 0)

    def thread(submission_id: str, comment_id: str | None) -> Response:
        submission = store.submission(f"t3_{submission_id}")
        if submission is None:
            abort(error(404))
        readable(submission["subreddit"])
        if comment_id is None:
            size = min(request.args.get("limit", TREE_SIZE, type=int), TREE_SIZE)
            return jsonify([_listing([submission_json(submission)]), _listing(tree(submission, submission["name"], size))])
        row = store.comment(f"t1_{comment_id}")
        if row is None or row["link_id"] != submission["name"]:
            return jsonify([_listing([submission_json(submission)]), _listing([])])
        node = comment_json(row, submission, 0, tree(submission, row["name"], TREE_SIZE))
        for _ in range(min(request.args.get("context", 0, type=int), 8)):  # Reddit gives at most 8 levels above
            above = store.comment(node["data"]["parent_id"])
            if above is None:
                break
            node = comment_json(above, submission, 0, [node])
        return jsonify([_listing([submission_json(submission)]), _listing([node])])

    @app.get("/comments/<submission_id>")
    @app.get("/comments/<submission_id>/<slug>")
    @app.get("/comments/<submission_id>/<slug>/<comment_id>")
    @app.get("/r/<name>/comments/<submission_id>")
    @app.get("/r/<name>/comments/<submission_id>/<slug>")
    @app.get("/r/<name>/comments/<submission_id>/<slug>/<comment_id>")
    def comments(submission_id: str, slug: str = "", comment_id: str | None = None, name: str = "") -> Response | str:
        if "Authorization" in request.headers:
            return thread(submission_id, comment_id)
        submission = store.submission(f"t3_{submission_id}")
        if submission is None:
            abort(404)
        below = _children(store.comments_of(submission["name"]))
        return render_template("thread.html", submission=submission, below=below, us=USERNAME, marked=comment_id, now=clock())

    @app.post("/api/morechildren")
    def morechildren() -> Response:
        submission = store.submission(request.form.get("link_id", ""))
        if submission is None:
            abort(error(404))
        below = _children(store.comments_of(submission["name"]))
        wanted = {f"t1_{one.removeprefix('t1_')}" for one in request.form.get("children", "").split(",")}
        things: list[Json] = []
        room = TREE_SIZE

        def show(parent: str, rows: list[sqlite3.Row], depth: int) -> None:
            """A flat list, each parent before its replies."""
            nonlocal room
            if rows and depth >= TREE_DEPTH:
                things.append(_more(parent, [], 0, depth))
                return
            for place, row in enumerate(rows):
                if room <= 0:
                    hidden = rows[place:]
                    things.append(_more(parent, [one["name"] for one in hidden], sum(_count(below, one["name"]) for one in hidden), depth))
                    return
                room -= 1
                things.append(comment_json(row, submission, depth))
                show(row["name"], below.get(row["name"], []), depth + 1)

        for parent, rows in below.items():
            asked = [row for row in rows if row["name"] in wanted]
            if asked:
                show(parent, asked, _depth(store, parent))
        return jsonify({"json": {"errors": [], "data": {"things": things}}})

    @app.get("/api/info")
    def info() -> Response:
        found = []
        for name in request.args.get("id", "").split(","):
            comment, submission = store.comment(name), store.submission(name)
            if comment is not None:
                found.append(alone(comment))
            elif submission is not None:
                found.append(submission_json(submission))
        return jsonify(_listing(found))

    # --- our account --------------------------------------------------------------------------------------------------

    @app.post("/api/comment")
    def reply() -> Response:
        parent_id, text = request.form.get("thing_id", ""), request.form.get("text", "")
        if not text.strip():
            return refuse("NO_TEXT", "we need something here", "text")
        if len(text) > MAXIMUM_LENGTH:
            return refuse("TOO_LONG", f"this is too long (max: {MAXIMUM_LENGTH})", "text")
        comment = store.comment(parent_id)
        submission = store.submission(comment["link_id"] if comment is not None else parent_id)
        if submission is None:
            abort(error(403))
        subreddit = store.subreddit(submission["subreddit"])
        if subreddit is None or subreddit["kind"] != "public" or subreddit["bans_us"]:
            abort(error(403))
        if comment is not None and comment["author"] == GONE:
            return refuse("DELETED_COMMENT", "that comment has been deleted", "parent")
        if submission["locked"]:
            return refuse("THREAD_LOCKED", "Comments are locked.", "parent")
        if submission["archived"]:
            return refuse("TOO_OLD", "that's a piece of history now; it's too late to reply to it", "parent")
        row = store.add_comment(submission["name"], parent_id, USERNAME, text, clock())
        return jsonify({"json": {"errors": [], "data": {"things": [alone(row)]}}})

    @app.get("/user/<name>/comments")
    def user_comments(name: str) -> Response:
        return page([alone(row) for row in seen(store.comments_by(name))])

    @app.get("/message/<any(unread, inbox):box>")
    def message(box: str) -> Response:
        letters: list[Json] = []
        for letter_row in store.unread_letters():
            told = {key: letter_row[key] for key in ("name", "author", "subject", "body")}
            told |= {"id": letter_row["name"][3:], "created_utc": float(letter_row["created_utc"]), "dest": USERNAME}
            letters.append(
                {"kind": "t4", "data": told | {"was_comment": False, "new": True, "parent_id": None, "replies": "", "subreddit": None}}
            )
        for row in store.unread():
            letter = alone(row)
            letter["data"] |= {
                "was_comment": True,
                "new": True,
                "subject": "comment reply",
                "type": "comment_reply",
                "dest": USERNAME,
                "context": f"{letter['data']['permalink']}?context=3",
            }
            letters.append(letter)
        return page(letters)

    @app.post("/api/read_message")
    def read_message() -> Response:
        store.mark_read(request.form.get("id", "").split(","))
        return jsonify({})

    @app.post("/api/del")
    def delete() -> Response:
        name = request.form.get("id", "")
        row = store.comment(name)
        if row is not None and row["author"] == USERNAME:
            store.blank(name, "[deleted]")
        return jsonify({})  # Reddit says the same whether there was something to delete or not

    # --- for a person -------------------------------------------------------------------------------------------------

    @app.get("/")
    def home() -> str:
        listed = [(subreddit, store.submissions(subreddit["name"])) for subreddit in store.subreddits() if subreddit["kind"] == "public"]
        counts = {row["name"]: len(store.comments_of(row["name"])) for _, rows in listed for row in rows}
        ours: dict[str, int] = {}
        for row in store.comments_by(USERNAME):
            ours[row["link_id"]] = ours.get(row["link_id"], 0) + 1
        return render_template("home.html", listed=listed, counts=counts, ours=ours, us=USERNAME, now=clock())

    app.add_template_filter(_ago, "ago")
    app.add_template_global(_permalink, "permalink")
    return app


def _permalink(submission: sqlite3.Row) -> str:
    slug = re.sub(r"\W+", "_", submission["title"].lower()).strip("_")[:50]
    return f"/r/{submission['subreddit']}/comments/{submission['name'][3:]}/{slug}/"


def _ago(created_utc: int, now: float) -> str:
    """How long ago, as a page says it.

    >>> _ago(0, 7300)
    '2 hours ago'
    """
    seconds = max(0, int(now - created_utc))
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}{'s' * (seconds >= 2 * size)} ago"
    return "just now"


def _listing(children: list[Json], after: str | None = None) -> Json:
    return {"kind": "Listing", "data": {"children": children, "after": after, "before": None, "dist": len(children), "modhash": None}}


def _more(parent: str, children: list[str], count: int, depth: int) -> Json:
    """A «more» node; count 0 and no children: «continue this thread»."""
    first = children[0][3:] if children else "_"
    bare = [name[3:] for name in children]
    data = {"count": count, "name": f"t1_{first}", "id": first, "parent_id": parent, "depth": depth, "children": bare}
    return {"kind": "more", "data": data}


def _children(rows: list[sqlite3.Row]) -> dict[str, list[sqlite3.Row]]:
    below: dict[str, list[sqlite3.Row]] = {}
    for row in rows:
        below.setdefault(row["parent_id"], []).append(row)
    return below


def _count(below: dict[str, list[sqlite3.Row]], name: str) -> int:
    """A comment and everything under it."""
    return 1 + sum(_count(below, row["name"]) for row in below.get(name, []))


def _depth(store: Store, parent: str) -> int:
    depth = 0
    while (row := store.comment(parent)) is not None:
        parent, depth = row["parent_id"], depth + 1
    return depth


# --- serving ------------------------------------------------------------------------------------------------------------


class Handler(WSGIRequestHandler):
    """One request a connection (HTTP/1.0 closes by itself), and no line a request on the terminal."""

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
        """Somebody else replies (to a submission or comment, by fullname); returns the new comment's fullname."""
        above = self.store.comment(parent_id)
        link_id = above["link_id"] if above is not None else parent_id
        name: str = self.store.add_comment(link_id, parent_id, author, body, time.time(), karma, tell=USERNAME)["name"]
        return name

    def write(self, body: str, author: str = "reader_1", subject: str = "hello") -> str:
        """Somebody else sends us a private message; returns its fullname."""
        return self.store.add_letter(author, subject, body, time.time())


def listen(db: Path, port: int = 0, now: float | None = None) -> tuple[Box, BaseWSGIServer]:
    """A sandbox that is bound to 127.0.0.1 but not yet serving.

    Raises:
        UserError: the port is taken, or `db` is something else.
    """
    store = Store(db, time.time() if now is None else now)
    try:
        server = make_server("127.0.0.1", port, make_app(store), threaded=True, request_handler=Handler)
    except (OSError, SystemExit):
        # werkzeug prints its own advice and exits when a port is taken
        raise UserError(f"port {port} on 127.0.0.1 can't be had; give another --port, or 0 for a free one") from None
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
