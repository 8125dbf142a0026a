"""trial: the page Try. A comment, typed or as a permalink; its candidates appear as they are written, then scores, then the choice.

    GET  /try/                 the form
    POST /try/                 {"job": …}; the comment waits in the queue of workers.py
    GET  /try/JOB/events       its events (answer.py), `place` before them, and `failed` or `cancelled` instead of the rest
    POST /try/JOB/cancel

Only the browser that asked sees the events. The server process that took the comment holds a lease of it (hub.py); if the process dies,
another one that has the browser's stream ends the events with `failed`.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

from flask import Blueprint, abort, render_template, request
from pydantic import BaseModel, Field, ValidationError

from bot import names
from bot.cli import UserError
from bot.config import Settings
from bot.online import answer
from bot.online.answer import Question
from bot.web import live, server
from bot.web.hub import LEASE_SECONDS, Event, Hub
from bot.web.workers import Desk, TooMany

MAX_CHARACTERS = 10_000  # Reddit's limit for a comment
MAX_CANDIDATES = 40
FORGOTTEN = "this comment is no longer available, because the server was restarted or an hour has passed; send it again"
INTERRUPTED = "the server process that worked on this comment was interrupted; send it again"
LAST = ("refused", "choice", "failed", "cancelled")


class Form(BaseModel):
    """What the form sends."""

    comment: str = Field(min_length=1, max_length=MAX_CHARACTERS)
    subreddit: str = Field(default="", max_length=60)
    title: str = Field(default="", max_length=300)
    num_candidates: int = Field(ge=1, le=MAX_CANDIDATES)
    temperature: float = Field(ge=0.01, le=5)
    seed: int = Field(ge=0, lt=2**31)
    model: str


def make_pages(desk: Desk, hub: Hub, settings: Settings, config_file: Path | None) -> Blueprint:
    """config_file: of `fetch`, for permalinks. Starts a thread that renews the leases of the desk's comments."""
    threading.Thread(target=keep_leases, args=(desk, hub), daemon=True).start()
    pages = Blueprint("try", __name__, url_prefix="/try")
    models = answer.generator_folders(settings)

    @pages.get("/")
    def index() -> str:
        defaults = settings.generate
        return render_template("try.html.j2", defaults=defaults, models=list(models), most=MAX_CANDIDATES, longest=MAX_CHARACTERS)

    @pages.post("/")
    def ask() -> Any:
        try:
            form = Form(**{name: value.replace("\r\n", "\n").strip() for name, value in request.form.items() if name in Form.model_fields})
        except ValidationError as error:
            first = error.errors(include_input=False, include_context=False)[0]
            return live.refuse(f"{str(first['loc'][0]).replace('_', ' ')}: {first['msg']}")
        if form.model not in models:
            return live.refuse(f"model: not one of {', '.join(models)}")
        job, person = secrets.token_urlsafe(12), live.browser_id()
        hub.lease(job)
        hub.append(channel_of(job), {"type": "asked", "person": person})
        try:
            desk.submit(
                job, person, question_of(form, models[form.model], settings, config_file), lambda event: hub.append(channel_of(job), event)
            )
        except TooMany as error:
            hub.forget(channel_of(job))
            return live.refuse(str(error), 429)
        return {"job": job}

    @pages.get("/<job>/events")
    def events(job: str) -> Any:
        if not hub.after(channel_of(job)):
            return server.stream(forgotten())
        check_owner(hub, job)
        return live.stream(hub, channel_of(job), lambda event: event["type"] in LAST, lambda: fail_if_interrupted(hub, job))

    @pages.post("/<job>/cancel")
    def cancel(job: str) -> Any:
        check_owner(hub, job)
        hub.cancel(job)
        hub.append(channel_of(job), {"type": "cancelled"})
        return {}

    return pages


def keep_leases(desk: Desk, hub: Hub) -> None:
    while True:
        with suppress(UserError):  # Redis is away; the hub says so
            for job in desk.names():
                hub.lease(job)
        time.sleep(LEASE_SECONDS / 3)


def fail_if_interrupted(hub: Hub, job: str) -> None:
    """End the events of a comment whose server process died."""
    if not hub.is_leased(job):
        hub.append(channel_of(job), {"type": "failed", "message": INTERRUPTED})


def forgotten() -> Generator[str, None, None]:
    """The events of a comment that is no longer available. Browsers do not show the answer of a stream that fails."""
    yield server.event({"type": "failed", "message": FORGOTTEN})


def channel_of(job: str) -> str:
    return f"try:{job}"


def check_owner(hub: Hub, job: str) -> None:
    """404 unless this browser asked, and 410 if the comment is no longer available, for example after a restart."""
    entries = hub.after(channel_of(job))
    if not entries:
        abort(410, FORGOTTEN)
    if entries[0][1].get("person") != live.browser_id():
        abort(404)


def question_of(form: Form, model: Path, settings: Settings, config_file: Path | None) -> Callable[[], Question]:
    """A function that makes the question, and fetches the comment if it is a permalink."""

    def prepare() -> Question:
        chosen: Event = {"num_candidates": form.num_candidates, "temperature": form.temperature, "seed": form.seed, "model": model}
        if not names.permalink_ids(form.comment, settings.reddit.url):
            return Question(form.comment, names.plain_name(form.subreddit), form.title, **chosen)
        there = answer.fetched(form.comment, config_file)
        return Question(there.comment, there.subreddit, there.title, refused=there.refused, thread=there.thread, **chosen)

    return prepare
