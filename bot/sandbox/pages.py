"""The sandbox's pages for browsers."""

from __future__ import annotations

from collections import Counter

from flask import Blueprint, Response, abort, render_template, request

from bot.sandbox import USERNAME, api
from bot.sandbox.api import now, store
from bot.sandbox.shapes import ago, children, permalink

pages = Blueprint("pages", __name__)
pages.add_app_template_filter(ago, "ago")
pages.add_app_template_global(permalink, "permalink")


@pages.get("/")
def home() -> str:
    listed = [(subreddit, store().submissions(subreddit["name"])) for subreddit in store().subreddits() if subreddit["kind"] == "public"]
    counts = {row["name"]: len(store().comments_of(row["name"])) for _, rows in listed for row in rows}
    ours = Counter(row["link_id"] for row in store().comments_by(USERNAME))
    return render_template("home.html", listed=listed, counts=counts, ours=ours, us=USERNAME, now=now())


@pages.get("/comments/<submission_id>")
@pages.get("/comments/<submission_id>/<slug>")
@pages.get("/comments/<submission_id>/<slug>/<comment_id>")
@pages.get("/r/<name>/comments/<submission_id>")
@pages.get("/r/<name>/comments/<submission_id>/<slug>")
@pages.get("/r/<name>/comments/<submission_id>/<slug>/<comment_id>")
def thread(submission_id: str, slug: str = "", comment_id: str | None = None, name: str = "") -> Response | str:
    """JSON for API clients, otherwise a page."""
    if "Authorization" in request.headers:
        return api.thread(submission_id, comment_id)
    submission = store().submission(f"t3_{submission_id}")
    if submission is None:
        abort(404)
    below = children(store().comments_of(submission["name"]))
    return render_template("thread.html", submission=submission, below=below, us=USERNAME, marked=comment_id, now=now())
