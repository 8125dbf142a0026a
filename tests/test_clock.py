"""bot.reddit.clock and bot.posting.clock: a single wrong Date header neither stops the bot nor disables its caps."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.serving import WSGIRequestHandler

from bot.cli import Unreachable
from bot.posting import clock, ledger, operate
from bot.posting.ledger import DAY, Reply, State
from bot.reddit.clock import DATES, ServerClock
from bot.sandbox.server import Box
from tests.posting import configure, go, opened, prepared

YEAR = 365 * DAY
URL = "https://oauth.reddit.com"


def clock_of(*offsets: float) -> ServerClock:
    """A clock that has received Date headers with these offsets, in seconds, from this machine's clock."""
    made = ServerClock()
    for offset in offsets:
        made.note(formatdate(time.time() + offset, usegmt=True))
    return made


@pytest.mark.parametrize(
    ("offsets", "expected"),
    [
        ((0,), 0),
        ((DAY,), DAY),  # this machine's clock is a day off, so Reddit's is used
        ((-2 * DAY, -2 * DAY, -2 * DAY), -2 * DAY),
        ((0, 0, 0, 10 * YEAR), 0),
        ((10 * YEAR, 0, 0), 0),
        ((-10 * YEAR, 0), 0),  # if two dates differ, this machine's clock decides
        ((0, 10 * YEAR, 0, -10 * YEAR), 0),
        ((DAY, DAY, 30 * DAY, DAY), DAY),
        ((10 * YEAR, *[0] * DATES), 0),
    ],
)
def test_a_single_wrong_date_is_ignored(offsets: tuple[float, ...], expected: float) -> None:
    assert abs(clock_of(*offsets).utc(URL) - time.time() - expected) <= 2


@given(st.lists(st.integers(-10 * YEAR, 10 * YEAR), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_wrong_dates_are_ignored_if_most_dates_agree(wrong: list[int], random: object) -> None:
    offsets = [*wrong, *[3600] * (len(wrong) + 1)]
    random.shuffle(offsets)  # type: ignore[attr-defined]
    assert abs(clock_of(*offsets).utc(URL) - time.time() - 3600) <= 2


@pytest.mark.parametrize("years", [10, -10])
def test_clocks_that_differ_by_years_are_an_error(years: int) -> None:
    with pytest.raises(Unreachable, match=f"{URL}: its date is .*, this machine's is .*; set the clock") as caught:
        clock_of(*[years * YEAR] * 3).utc(URL)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "date", ["", "yesterday", "Wed, 21 Oct 99999999999999 07:28:00 GMT", "Wed, 99 Foo 2026 99:99:99 XYZ", "0", "\udc80"]
)
def test_an_unreadable_date_is_ignored(date: str) -> None:
    made = ServerClock()
    made.note(date)
    with pytest.raises(Unreachable, match="no response has a Date"):
        made.utc(URL)
    made.note(formatdate(time.time(), usegmt=True))
    assert abs(made.utc(URL) - time.time()) <= 2


def test_the_clock_advances_between_answers() -> None:
    with time_machine.travel(1_700_000_000, tick=False):
        made = clock_of(0)
    with time_machine.travel(1_700_000_000 + 40, tick=False):
        assert made.utc(URL) - 1_700_000_000 in range(42)  # by the monotonic clock, independent of the system clock


# --- in a run -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("years", [10, -10])
def test_a_wrong_date_in_the_response_to_a_post(box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, years: int) -> None:
    prepared(box, tmp_path / "run", 3)
    configure(monkeypatch, submit__posts_a_day=2)
    dates = WSGIRequestHandler.date_time_string

    def date(self: WSGIRequestHandler, timestamp: float | None = None) -> str:
        wrong = self.command == "POST" and self.path.startswith("/api/comment")
        return dates(self, time.time() + years * YEAR if wrong else timestamp)

    monkeypatch.setattr(WSGIRequestHandler, "date_time_string", date)
    assert go(tmp_path / "run") == ["posted", "posted", "day_cap"]
    with opened(tmp_path / "run") as db:
        times = [(row.intent_utc, row.done_utc) for row in ledger.in_state(db, State.POSTED)]
        assert all(abs(utc - time.time()) < 60 for pair in times for utc in pair)
        assert clock.in_future(db, int(time.time())) == {}


# --- in the ledger ----------------------------------------------------------------------------------------------------------------

NOW = 1_700_000_000
REPLY = Reply("t1_a", "t3_x", "books", "reader_1", "c-0", "A reply.")


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    monkeypatch.setenv("BOT_SUBMIT__LEDGER", str(tmp_path / "ledger.sqlite"))
    with closing(ledger.open_ledger(tmp_path / "ledger.sqlite")) as opened:
        yield opened


def test_times_in_the_future_are_reported_and_set_to_the_present(db: sqlite3.Connection, capsys: pytest.CaptureFixture[str]) -> None:
    ledger.intend(db, REPLY, NOW + 10 * YEAR)
    ledger.settle(db, "t1_a", State.POSTED, "posted", NOW + 10 * YEAR, "t1_ours")
    ledger.intend(db, replace(REPLY, comment_id="t1_b"), NOW - 100)
    ledger.settle(db, "t1_b", State.READY, "rate_limited", NOW - 100, not_before_utc=NOW + 9 * YEAR)
    ledger.intend(db, replace(REPLY, comment_id="t1_c"), NOW - 100)
    ledger.settle(db, "t1_c", State.READY, "rate_limited", NOW - 100, not_before_utc=NOW + 2 * DAY)
    ledger.refuse(db, REPLY, "forbidden", NOW + YEAR)
    ledger.opt_out(db, "reader_9", "t4_x", NOW + YEAR)
    ledger.bench(db, "books", NOW + 40 * DAY, "three 403s")
    ledger.bench(db, "home", NOW + 30 * DAY, "three 403s")
    assert clock.in_future(db, NOW) == {
        "t1_a": NOW + 10 * YEAR, "t1_b": NOW + 9 * YEAR, "reader_9": NOW + YEAR, "books": NOW + 40 * DAY,
    }  # fmt: skip
    with time_machine.travel(NOW):
        operate.status_command()
    assert "4 times in the future, from a wrong clock (t1_a 2033-11-11 22:13, t1_b" in capsys.readouterr().out
    assert clock.bring_back(db, NOW) == 4 and clock.in_future(db, NOW) == {} and clock.bring_back(db, NOW) == 0
    row = ledger.find(db, "t1_a")
    assert row is not None and (row.first_utc, row.intent_utc, row.done_utc) == (NOW, NOW, NOW)
    assert ledger.sent_since(db, NOW - 60) == 1  # it counts as just sent
    waiting = [ledger.find(db, name) for name in ("t1_b", "t1_c")]
    assert [each.not_before_utc for each in waiting if each] == [NOW + 30 * DAY, NOW + 2 * DAY]
    assert ledger.benched(db, NOW) == {"books": NOW + 30 * DAY, "home": NOW + 30 * DAY}


def test_a_clock_may_be_a_minute_off(db: sqlite3.Connection) -> None:
    ledger.intend(db, REPLY, NOW + 60)
    assert clock.in_future(db, NOW) == {} and clock.bring_back(db, NOW) == 0
