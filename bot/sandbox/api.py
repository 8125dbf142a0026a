"""The calls of Reddit's API that the bot makes through PRAW, answered from the store."""

from __future__ import annotations

import re
import sqlite3

from flask import Blueprint, Response, abort, current_app, g, jsonify, redirect, request

from bot.sandbox import CLIENT_ID, CLIENT_SECRET, PASSWORD, USERNAME
from bot.sandbox.seed import GONE
from bot.sandbox.shapes import (
    TREE_SIZE,
    Cut,
    Json,
    comment_json,
    comment_reply_json,
    letter_json,
    listing,
    submission_json,
    subreddit_json,
)
from bot.sandbox.store import Store

MAXIMUM_LENGTH = 10_000  # characters in a comment
TOKEN_SECONDS = 3600

api = Blueprint("api", __name__)


# --- requests -----------------------------------------------------------------------------------------------------------


def store() -> Store:
    """The state as the account of the request sees it or, without an account, as everybody sees it."""
    the_store: Store = current_app.config["STORE"]
    return the_store.public() if g.get("user", USERNAME) == "" else the_store


def now() -> float:
    """Epoch seconds."""
    seconds: float = current_app.config["CLOCK"]()
    return seconds


def error(status: int, reason: str = "") -> Response:
    message = {401: "Unauthorized", 403: "Forbidden", 404: "Not Found"}[status]
    response = jsonify({"message": message, "error": status} | ({"reason": reason} if reason else {}))
    response.status_code = status
    return response


def refuse(name: str, message: str, field: str) -> Response:
    """A refusal; Reddit sends it with status 200."""
    return jsonify({"json": {"errors": [[name, message, field]]}})


def of_submission(row: sqlite3.Row) -> Json:
    return submission_json(row, len(store().comments_of(row["name"])), request.host_url.rstrip("/"))


def of_comment(row: sqlite3.Row) -> Json:
    """A comment outside its thread, as in listings."""
    submission = store().submission(row["link_id"])
    assert submission is not None
    return comment_json(row, submission)


def page(children: list[Json]) -> Response:
    """The part of a listing that is selected by the parameters limit, after and before."""
    limit = min(max(request.args.get("limit", 25, type=int), 1), 100)
    names = [child["data"]["name"] for child in children]
    if request.args.get("before") in names:
        # Newer items; without «after», since PRAW would continue with older items.
        end = names.index(request.args["before"])
        return jsonify(listing(children[max(0, end - limit) : end]))
    start = names.index(request.args["after"]) + 1 if request.args.get("after") in names else 0
    shown = children[start : start + limit]
    after = shown[-1]["data"]["name"] if start + len(shown) < len(children) else None
    return jsonify(listing(shown, after))


def readable(name: str) -> sqlite3.Row:
    """The subreddit. Aborts with Reddit's response if it cannot be read."""
    subreddit = store().subreddit(name)
    if subreddit is None:
        # For a subreddit that does not exist, Reddit redirects to its search.
        abort(error(404) if request.path.rstrip("/").endswith("/about") else redirect("/subreddits/search"))
    if subreddit["kind"] == "private":
        abort(error(403, "private"))
    if subreddit["kind"] == "banned":
        abort(error(404, "banned"))
    return subreddit


def seen(rows: list[sqlite3.Row]) -> list[sqlite3.Row]:
    """The rows without those that are too new for a stale listing."""
    return [row for row in rows if g.newest is None or row["number"] <= g.newest]


# --- token and account --------------------------------------------------------------------------------------------------


def need_token() -> Response | None:
    """Before each request: refuse API clients without a token; browsers may read pages."""
    for_anybody = request.path in ("/", "/api/v1/access_token") or request.path.startswith(("/static/", "/sandbox/"))
    for_browsers = re.match(r"(/r/[^/]+)?/comments/.", request.path) and "Authorization" not in request.headers
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    user = store().user_of(token, now()) if scheme.lower() == "bearer" else None
    if user is not None:
        g.user = user
    if user == "" and re.match(r"/api/(v1/me|comment|del|read_message)|/message", request.path):
        return error(403)
    return None if for_anybody or for_browsers or user is not None else error(401)


@api.post("/api/v1/access_token")
def access_token() -> Response:
    client = request.authorization
    if client is None or (client.username, client.password) != (CLIENT_ID, CLIENT_SECRET):
        return error(401)
    grant = request.form.get("grant_type")
    if grant not in ("password", "client_credentials"):
        return jsonify({"error": "unsupported_grant_type"})
    if grant == "password" and (request.form.get("username"), request.form.get("password")) != (USERNAME, PASSWORD):
        return jsonify({"error": "invalid_grant"})
    token = store().new_token(now(), TOKEN_SECONDS, USERNAME if grant == "password" else "")
    return jsonify({"access_token": token, "token_type": "bearer", "expires_in": TOKEN_SECONDS, "scope": "*"})


@api.get("/api/v1/me")
def me() -> Response:
    return jsonify({"name": USERNAME, "id": "sandbox1", "is_suspended": False, "inbox_count": len(store().unread())})


# --- listings -----------------------------------------------------------------------------------------------------------


@api.get("/r/<name>/<any(rising, hot, new):order>")
def submissions(name: str, order: str) -> Response:
    rows = store().submissions(readable(name)["name"])
    at = now()
    if order == "hot":
        rows.sort(key=lambda row: -row["karma"])
    elif order == "rising":
        # Submissions of the last day, by karma per hour.
        rows = [row for row in rows if at - row["created_utc"] < 86_400]
        rows.sort(key=lambda row: -row["karma"] / max(at - row["created_utc"], 60))
    return page([of_submission(row) for row in rows])


@api.get("/r/<name>/comments")
def stream(name: str) -> Response:
    return page([of_comment(row) for row in store().comments_in(readable(name)["name"])])


@api.get("/r/<name>/about")
def about(name: str) -> Response:
    return jsonify(subreddit_json(readable(name)))


@api.get("/user/<name>/about")
def user(name: str) -> Response:
    if not visible(name):
        return error(404)
    return jsonify({"kind": "t2", "data": {"name": name, "id": name.lower(), "is_suspended": False}})


def visible(name: str) -> bool:
    """Whether the account of the request can see this account: it is ours or has written a comment, and it is not hidden."""
    exists = name.lower() == USERNAME or bool(store().comments_by(name))
    return exists and not (store().is_public and store().is_hidden(name))


@api.get("/user/<name>/comments")
def user_comments(name: str) -> Response:
    if store().is_public and store().is_hidden(name):
        return error(404)
    return page([of_comment(row) for row in seen(store().comments_by(name))])


@api.get("/api/info")
def info() -> Response:
    things = []
    for name in request.args.get("id", "").split(","):
        comment, submission = store().comment(name), store().submission(name)
        if comment is not None:
            things.append(of_comment(comment))
        elif submission is not None:
            things.append(of_submission(submission))
    return jsonify(listing(things))


# --- trees --------------------------------------------------------------------------------------------------------------


def thread(submission_id: str, comment_id: str | None) -> Response:
    """A submission and its comments, or one comment with those below and above it. Called by pages.thread."""
    submission = store().submission(f"t3_{submission_id}")
    if submission is None:
        abort(error(404))
    readable(submission["subreddit"])
    top = listing([of_submission(submission)])
    if comment_id is None:
        size = min(request.args.get("limit", TREE_SIZE, type=int), TREE_SIZE)
        return jsonify([top, listing(tree(submission, submission["name"], size))])
    row = store().comment(f"t1_{comment_id}")
    if row is None or row["link_id"] != submission["name"]:
        return jsonify([top, listing([])])
    node = comment_json(row, submission, 0, tree(submission, row["name"], TREE_SIZE))
    for _ in range(min(request.args.get("context", 0, type=int), 8)):  # Reddit gives at most 8 levels above
        above = store().comment(node["data"]["parent_id"])
        if above is None:
            break
        node = comment_json(above, submission, 0, [node])
    return jsonify([top, listing([node])])


def tree(submission: sqlite3.Row, top: str, size: int) -> list[Json]:
    """The part of a thread that one response shows below `top` (a submission, or the parent of a comment)."""
    comments = seen(store().comments_of(submission["name"]))
    cut = Cut(submission, comments[::-1] if request.args.get("sort") == "new" else comments, size)
    return cut.nodes(top, cut.below.get(top, []))


@api.post("/api/morechildren")
def morechildren() -> Response:
    """A flat list, each parent before its replies."""
    submission = store().submission(request.form.get("link_id", ""))
    if submission is None:
        abort(error(404))
    wanted = {f"t1_{one.removeprefix('t1_')}" for one in request.form.get("children", "").split(",")}
    cut = Cut(submission, store().comments_of(submission["name"]), TREE_SIZE)
    things: list[Json] = []
    for parent, rows in cut.below.items():
        if asked := [row for row in rows if row["name"] in wanted]:
            things += cut.nodes(parent, asked, depth_below(parent), flat=True)
    return jsonify({"json": {"errors": [], "data": {"things": things}}})


def depth_below(parent: str) -> int:
    """The depth of the comments directly below `parent`."""
    depth = 0
    while (row := store().comment(parent)) is not None:
        parent, depth = row["parent_id"], depth + 1
    return depth


# --- comments -----------------------------------------------------------------------------------------------------------


@api.post("/api/comment")
def reply() -> Response:
    parent_id, text = request.form.get("thing_id", ""), request.form.get("text", "")
    if not text.strip():
        return refuse("NO_TEXT", "we need something here", "text")
    if len(text) > MAXIMUM_LENGTH:
        return refuse("TOO_LONG", f"this is too long (max: {MAXIMUM_LENGTH})", "text")
    comment = store().comment(parent_id)
    submission = store().submission(comment["link_id"] if comment is not None else parent_id)
    if submission is None:
        abort(error(403))
    subreddit = store().subreddit(submission["subreddit"])
    if subreddit is None or subreddit["kind"] != "public" or subreddit["bans_us"]:
        abort(error(403))
    if comment is not None and comment["author"] == GONE:
        return refuse("DELETED_COMMENT", "that comment has been deleted", "parent")
    if submission["locked"]:
        return refuse("THREAD_LOCKED", "Comments are locked.", "parent")
    if submission["archived"]:
        return refuse("TOO_OLD", "that's a piece of history now; it's too late to reply to it", "parent")
    row = store().add_comment(submission["name"], parent_id, USERNAME, text, now())
    return jsonify({"json": {"errors": [], "data": {"things": [of_comment(row)]}}})


@api.post("/api/del")
def delete() -> Response:
    name = request.form.get("id", "")
    row = store().comment(name)
    if row is not None and row["author"] == USERNAME:
        store().blank(name, "[deleted]")
    return jsonify({})  # the same response whether or not something was deleted, as on Reddit


# --- messages -----------------------------------------------------------------------------------------------------------


@api.get("/message/<any(unread, inbox, messages, comments):box>")
def message(box: str) -> Response:
    """Newest first. unread: items not marked as read; inbox: all items; messages, comments: all items of one kind."""
    things = [letter_json(row, USERNAME) for row in store().letters() if box != "comments"]
    things += [comment_reply_json(of_comment(row), row["unread"], USERNAME) for row in store().replies() if box != "messages"]
    things.sort(key=lambda thing: -thing["data"]["created_utc"])
    return page([thing for thing in things if box != "unread" or thing["data"]["new"]])


@api.post("/api/read_message")
def read_message() -> Response:
    store().mark_read(request.form.get("id", "").split(","))
    return jsonify({})
