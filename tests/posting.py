"""Helpers for tests of posting: a sandbox, settings for posting to it, and run folders that are ready for `submit`."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import prawcore
import pytest

from bot import sandbox, schema
from bot.online import submit
from bot.posting import ledger
from bot.sandbox import server
from bot.sandbox.server import Box
from bot.schema import Comment, Submitted
from tests import soak


@contextmanager
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    """A running sandbox, with settings for posting to it."""
    with server.serve(tmp_path / "sandbox.sqlite") as running:
        settings(tmp_path, monkeypatch, running.url)
        yield running


def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    configure(
        monkeypatch,
        reddit__url=url,
        reddit__timeout_seconds=10,
        submit__allowed='[{"subreddit": "Sandbox_Books", "permitted_by": "nobody"}]',
        submit__ledger=tmp_path / "ledger.sqlite",
        submit__kill_switch=tmp_path / "STOP",
        submit__minimum_pause_seconds=0,
    )
    no_sleep(monkeypatch)


def no_sleep(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Skip PRAW's sleeps before retries and for its rate limit. The returned list has their lengths in seconds.

    Only in its modules: `time.sleep` itself is also called by threads of other tests.
    """
    slept: list[float] = []
    without = SimpleNamespace(sleep=slept.append, monotonic=time.monotonic, monotonic_ns=time.monotonic_ns)
    for module in (prawcore.sessions, prawcore.rate_limit):
        monkeypatch.setattr(module, "time", without)
    return slept


def configure(monkeypatch: pytest.MonkeyPatch, **values: object) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"BOT_{name.upper()}", str(value))


def prepared(box: Box, run: Path, count: int = 2, first: int = 0) -> list[Comment]:
    comments = soak.comments_to_answer(box, count)
    soak.write_run(run, comments, first)
    return comments


def go(run: Path) -> list[str]:
    """Run `submit` and return the outcomes."""
    submit.main(run, None, True)
    return outcomes(run)


def outcomes(run: Path) -> list[str]:
    return [row.outcome for row in schema.read_rows(run / "submitted.csv", Submitted)]


def ours(box: Box) -> list[str]:
    """Ids of the comments that the bot replied to, oldest reply first."""
    return [row["parent_id"] for row in box.store.comments_by(sandbox.USERNAME)[::-1]]


def opened(run: Path) -> Any:
    return closing(ledger.open_ledger(run.parent / "ledger.sqlite"))


def change(box: Box, statement: str, *values: object) -> None:
    """Change the sandbox's database, to simulate what people and moderators do."""
    with closing(sqlite3.connect(box.db)) as db, db:
        db.execute(statement, values)
