"""bot.harvest: what became of our replies, once for each age; and on from there into training."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from bot import UserError, harvest, ledger, prepare, rankers, reddit, sandbox, schema, text
from bot.config import RedditSettings
from bot.ledger import HOUR, Reply, State
from bot.reddit import Standing
from bot.sandbox.server import Box
from bot.schema import Harvested, Pair, UpvoteRow

POSTED = 1_700_000_000


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    with sandbox.serve(tmp_path / "sandbox.sqlite", now=POSTED) as running:
        monkeypatch.setenv("BOT_REDDIT__URL", running.url)
        monkeypatch.setenv("BOT_SUBMIT__LEDGER", str(tmp_path / "ledger.sqlite"))
        yield running


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(ledger.open_ledger(tmp_path / "ledger.sqlite")) as opened:
        yield opened


def posted(box: Box, db: sqlite3.Connection, author: str, utc: int = POSTED) -> str:
    """A reply of ours to a comment by `author`; returns its fullname."""
    comment = box.store.comments_by(author)[-1]
    line = "\n\n*I am a bot; reply `!stop`.*"
    name: str = box.store.add_comment(comment["link_id"], comment["name"], sandbox.USERNAME, f"Words to {author}.{line}", utc)["name"]
    ledger.intend(db, Reply(comment["name"], comment["link_id"], "sandbox_books", author, "c-0", f"Words to {author}."), utc)
    ledger.settle(db, comment["name"], State.POSTED, "posted", utc, name)
    return name


def run(out: Path, hours: float) -> list[Harvested]:
    """The stage, so many hours after POSTED; all rows."""
    with time_machine.travel(POSTED + hours * HOUR):
        harvest.main(out)
    return schema.read_rows(out, Harvested) if out.exists() else []


def test_three_ages_once_each(box: Box, db: sqlite3.Connection, tmp_path: Path) -> None:
    out = tmp_path / "harvest.csv"
    ours = posted(box, db, "reader_3")
    comment = box.store.comments_by("reader_3")[-1]
    assert run(out, 0.5) == []
    box.store.set_karma(ours, 4)
    box.say(box.say(ours, "thanks!"), "me too")
    first = Harvested(ours, comment["name"], comment["link_id"], "sandbox_books", comment["body"], "Words to reader_3.", 1.25, 4, 2, False)
    assert run(out, 1.25) == [first]
    box.store.set_karma(ours, 40)
    assert run(out, 1.9) == [first]  # it stays what it was at the look
    assert run(out, 10) == [first]
    box.store.blank(comment["name"], "[deleted]")
    second = replace(first, comment="", age_hours=24.0, karma=40)
    assert run(out, 24) == [first, second]
    box.store.blank(ours, "[removed]")
    assert run(out, 170) == [first, second, replace(second, age_hours=170.0, removed=True)]
    before = out.read_bytes()
    run(out, 171)
    run(out, 1000)
    assert out.read_bytes() == before


def test_what_nobody_looked_at_in_time_is_left_out(box: Box, db: sqlite3.Connection, tmp_path: Path) -> None:
    posted(box, db, "reader_3")
    late = posted(box, db, "reader_31", POSTED + 29 * HOUR)
    assert [(row.reply_id, row.age_hours) for row in run(tmp_path / "harvest.csv", 50 - 20 + 0.5)] == [
        (row, age) for row, age in [(ledger.in_state(db, State.POSTED)[0].reply_id, 30.5), (late, 1.5)]
    ]


def test_broken_off_it_goes_on(box: Box, db: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [posted(box, db, author) for author in ("reader_3", "reader_31", "reader_18")]
    out, counted = tmp_path / "harvest.csv", []

    def count(client: object, name: str) -> int:
        counted.append(name)
        if len(counted) == 3:
            raise UserError("no network")
        return 0

    monkeypatch.setattr(harvest, "BATCH", 1)
    monkeypatch.setattr(reddit, "count_replies", count)
    with pytest.raises(UserError, match="no network"):
        run(out, 1)
    assert len(schema.read_rows(out, Harvested)) == 2
    assert {row.reply_id for row in run(out, 1.1)} == set(names) and len(counted) == 4


def test_without_a_ledger_there_is_nothing_to_harvest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOT_SUBMIT__LEDGER", str(tmp_path / "none.sqlite"))
    with pytest.raises(UserError, match="no ledger"):
        harvest.main(tmp_path / "harvest.csv")


def test_a_reply_that_reddit_does_not_give(box: Box) -> None:
    client = reddit.connect(RedditSettings(url=box.url))
    reply = Reply("t1_c", "t3_t", "books", "a", "c", "b", State.POSTED, intent_utc=POSTED, reply_id="t1_zzzzzz")
    assert harvest.harvest(client, [reply], box.db.with_name("harvest.csv"), POSTED + HOUR) == 0


STANDING = Standing("t1_r", "t1_c", "t3_t", "books", "bot", "body", 3, POSTED, False)


@given(st.lists(st.floats(0, 400), max_size=30).map(sorted))
def test_each_age_at_most_once_whenever_it_runs(moments: list[float]) -> None:
    reply = Reply("t1_c", "t3_t", "books", "a", "c", "body", State.POSTED, intent_utc=POSTED, reply_id="t1_r")
    rows: list[Harvested] = []
    for hours in moments:
        now = POSTED + hours * HOUR
        for each in harvest.due([reply], rows, now):
            row = harvest.look(each, {"t1_r": STANDING}, lambda name: 0, now)
            assert row is not None
            rows += [row] if harvest.age_of(row.age_hours) is not None else []
    ages = [harvest.age_of(row.age_hours) for row in rows]
    assert len(set(ages)) == len(ages) and None not in ages
    assert all(any(age <= hours < 1.99 * age for hours in moments) <= (age in ages) for age in harvest.AGES_HOURS)


# --- into training --------------------------------------------------------------------------------------------------------


def raw_pairs() -> list[Pair]:
    return [
        Pair("books", f"t3_raw{n}", "Title", 1, f"t1_c{n}", f"Which book is number {n}?", 1, POSTED, f"t1_r{n}", f"Book {n}.", n, POSTED, 0)
        for n in range(40)
    ]


def test_our_replies_stand_in_the_upvote_files_with_their_karma(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "read_pairs", lambda raw: (raw_pairs(), {}))
    row = Harvested("t1_our0", "t1_q0", "t3_own0", "books", "Any *good* books?", "Dune, I'd say.", 24.5, 6, 0, False)
    rows = [
        row,
        replace(row, age_hours=169.0, karma=9),  # the last look counts
        replace(row, reply_id="t1_our1", thread_id="t3_own1", karma=5, removed=True),
        replace(row, reply_id="t1_our2", thread_id="t3_own2", age_hours=1.1),  # too early to tell
        replace(row, reply_id="t1_our3", thread_id="t3_own3", comment=""),  # its comment is gone
        replace(row, reply_id="t1_our4", thread_id="t3_own4", karma=-3, removed=True),
    ]
    schema.write_rows(tmp_path / "harvest.csv", Harvested, rows)
    out = tmp_path / "prepared"
    prepare.main(tmp_path, out, harvest=tmp_path / "harvest.csv")
    found = {each: schema.read_rows(out / f"upvote_{each}.csv", UpvoteRow) for each in prepare.SPLITS}
    ours = {r.reply_id: (each, r.comment, r.reply_karma, r.reply_utc) for each in found for r in found[each] if "our" in r.reply_id}
    assert ours == {f"t1_our{n}": (text.split_for(f"t3_own{n}"), "Any good books?", karma, None) for n, karma in ((0, 9), (1, 0), (4, -3))}
    assert rankers.karma_class(9, 4) == 3 and rankers.karma_class(0, 4) == 0
    assert sum(map(len, found.values())) == 43
    others = [path for path in out.glob("*.csv") if path.name not in {f"upvote_{each}.csv" for each in prepare.SPLITS}]
    assert len(others) == 10 and not [path for path in others if "Dune" in path.read_text()]
    assert (schema.read_manifest(out / "upvote_train.csv") or {})["made_from"]["harvest"] == schema.sha256_of(tmp_path / "harvest.csv")
    with pytest.raises(UserError, match="--harvest goes with --raw"):
        prepare.main(tmp_path, out, fakes=tmp_path / "f.csv", harvest=tmp_path / "harvest.csv")
