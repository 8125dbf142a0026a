"""The page Try without a browser: permalinks, and what a browser gets when the process that took its comment dies."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from bot.config import Settings
from bot.online.answer import Event, Question
from bot.sandbox.server import Box
from bot.web import hub as hubs
from bot.web import server, trial
from bot.web.hub import LocalHub, RedisHub
from bot.web.server import Access
from tests import lively
from tests.visiting import Visitor


class Desk:
    """A desk that never answers. A process that died renews no lease."""

    def __init__(self) -> None:
        self.jobs: list[str] = []
        self.is_dead = False

    def names(self) -> list[str]:
        return [] if self.is_dead else self.jobs

    def submit(self, name: str, person: str, prepare: Callable[[], Question], report: Callable[[Event], object]) -> None:
        self.jobs.append(name)


class OneAnswer(Desk):
    """A desk that answers each question at once. questions: what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.questions: list[Question] = []

    def submit(self, name: str, person: str, prepare: Callable[[], Question], report: Callable[[Event], object]) -> None:
        self.questions.append(prepare())
        report({"type": "choice", "rows": [], "chosen": 0})


FIELDS = {"comment": "Which one?", "num_candidates": "2", "temperature": "0.5", "seed": "1", "model": "lm"}


def last_event(client: FlaskClient, job: str) -> Event:
    """The last event of a stream that ends."""
    lines = [line for line in client.get(f"/try/{job}/events").text.split("\n") if line.startswith("data: ")]
    event: Event = json.loads(lines[-1].removeprefix("data: "))
    return event


def test_a_permalink_is_fetched_with_the_credentials_of_this_machine(box: Box, tmp_path: Path) -> None:
    """The comment, its subreddit and title are those on Reddit, here the sandbox; numbers and model are those of the form."""
    (tmp_path / "lm").mkdir()
    settings = Settings.model_validate({"generate": {"model": tmp_path / "lm"}, "reddit": {"url": box.url}})
    thread = box.store.submissions("sandbox_books")[0]
    link = f"{box.url}/r/sandbox_books/comments/{thread['name'][3:]}/a_title/{box.say(thread['name'], lively.COMMENT)[3:]}/?context=3"
    desk = OneAnswer()
    page = Visitor(server.make_app(trial.make_pages(desk, LocalHub(), settings, None)))  # type: ignore[arg-type]
    page.get("/name")
    job = page.post("/try/", {**FIELDS, "comment": link, "subreddit": "typed", "title": "typed"}).get_json()["job"]
    assert last_event(page.client, job)["type"] == "choice"
    (read,) = desk.questions
    assert (read.comment, read.subreddit, read.title, read.refused) == (lively.COMMENT, "sandbox_books", thread["title"], "")
    assert (read.num_candidates, read.temperature, read.seed, read.model) == (2, 0.5, 1, tmp_path / "lm")
    assert read.thread  # the other texts there


def test_the_page_hears_when_the_process_that_took_the_comment_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "LEASE_SECONDS", 1)  # so that they are renewed every third of a second
    monkeypatch.setattr(hubs, "LEASE_SECONDS", 4)  # more than a busy machine may delay that
    monkeypatch.setattr(hubs.Hub.follow, "__defaults__", ("", 0.2))
    (tmp_path / "lm").mkdir()
    settings = Settings.model_validate({"generate": {"model": tmp_path / "lm"}})
    access, desk = Access(), Desk()
    with lively.redis_server() as redis:
        first, second = (
            server.make_app(trial.make_pages(each, RedisHub(redis.url), settings, None), access=access)  # type: ignore[arg-type]
            for each in (desk, Desk())
        )
        page = Visitor(first)
        page.get("/name")
        job = page.post("/try/", FIELDS).get_json()["job"]
        elsewhere = second.test_client()
        cookie = page.client.get_cookie("reply_bot")
        assert cookie is not None
        elsewhere.set_cookie("reply_bot", cookie.value)
        ended: list[Event] = []
        browser = threading.Thread(target=lambda: ended.append(last_event(elsewhere, job)), daemon=True)
        browser.start()
        browser.join(6)
        assert browser.is_alive()  # the lease is renewed as long as the process lives
        desk.is_dead = True
        browser.join(60)
        assert [(each["type"], each["message"]) for each in ended] == [("failed", trial.INTERRUPTED)]
