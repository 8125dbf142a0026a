"""The page Try of several server processes: what a browser gets when the process that took its comment dies."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from bot.config import Settings
from bot.online.answer import Event, Question
from bot.web import hub as hubs
from bot.web import server, trial
from bot.web.hub import RedisHub
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


def last_event(client: FlaskClient, job: str) -> Event:
    """The last event of a stream that ends."""
    lines = [line for line in client.get(f"/try/{job}/events").text.split("\n") if line.startswith("data: ")]
    event: Event = json.loads(lines[-1].removeprefix("data: "))
    return event


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
        fields = {"comment": "Which one?", "num_candidates": "2", "temperature": "0.5", "seed": "1", "model": "lm"}
        job = page.post("/try/", fields).get_json()["job"]
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
