"""bot.online.harvest: the karma and replies of own replies, once per age, and their use in training."""

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

from bot import rankers, sandbox, schema, text
from bot.cli import UserError
from bot.config import RedditSettings
from bot.corpus import prepare
from bot.online import harvest
from bot.posting import ledger
from bot.posting.ledger import HOUR, Reply, State
from bot.rankers.transformers import Transformers
from bot.reddit import client as reddit
from bot.reddit.threads import Standing
from bot.sandbox import server
from bot.sandbox.server import Box
from bot.schema import Harvested, UpvotePair
from bot.train import harvested as of_harvest
from bot.weights import bases, cards, pull
from tests import tiny

POSTED = 1_700_000_000


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    with server.serve(tmp_path / "sandbox.sqlite", now=POSTED) as running:
        monkeypatch.setenv("BOT_REDDIT__URL", running.url)
        monkeypatch.setenv("BOT_SUBMIT__LEDGER", str(tmp_path / "ledger.sqlite"))
        yield running


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(ledger.open_ledger(tmp_path / "ledger.sqlite")) as opened:
        yield opened


def posted(box: Box, db: sqlite3.Connection, author: str, utc: int = POSTED) -> str:
    """Add an own reply to a comment by `author`, and return its fullname."""
    comment = box.store.comments_by(author)[-1]
    line = "\n\n*I am a bot; reply `!stop`.*"
    name: str = box.store.add_comment(comment["link_id"], comment["name"], sandbox.USERNAME, f"Words to {author}.{line}", utc)["name"]
    ledger.intend(db, Reply(comment["name"], comment["link_id"], "sandbox_books", author, "c-0", f"Words to {author}."), utc)
    ledger.settle(db, comment["name"], State.POSTED, "posted", utc, name)
    return name


def run(out: Path, hours: float) -> list[Harvested]:
    """Run the stage `hours` after POSTED, and return all rows."""
    with time_machine.travel(POSTED + hours * HOUR):
        harvest.main(out)
    return schema.read_rows(out, Harvested) if out.exists() else []


def test_each_of_three_ages_is_measured_once(box: Box, db: sqlite3.Connection, tmp_path: Path) -> None:
    out = tmp_path / "harvest.csv"
    ours = posted(box, db, "reader_3")
    comment = box.store.comments_by("reader_3")[-1]
    assert run(out, 0.5) == []
    box.store.set_karma(ours, 4)
    box.say(box.say(ours, "thanks!"), "me too")
    first = Harvested(ours, comment["name"], comment["link_id"], "sandbox_books", comment["body"], "Words to reader_3.", 1.25, 4, 2, False)
    assert run(out, 1.25) == [first]
    box.store.set_karma(ours, 40)
    assert run(out, 1.9) == [first]  # rows that were written do not change
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


def test_texts_of_people_who_opted_out_are_not_collected(box: Box, db: sqlite3.Connection, tmp_path: Path) -> None:
    for author in ("reader_3", "reader_31", "reader_18"):
        posted(box, db, author)
    ledger.opt_out(db, "Reader_3", "t4_x", POSTED)
    ledger.opt_out(db, "reader_18", "forget", POSTED)
    ledger.forget(db, "reader_18")
    rows = {row.reply: row.comment for row in run(tmp_path / "harvest.csv", 1.5)}
    assert rows == {"Words to reader_3.": "", "Words to reader_31.": box.store.comments_by("reader_31")[-1]["body"], "": ""}


def test_missed_measurements_are_omitted(box: Box, db: sqlite3.Connection, tmp_path: Path) -> None:
    posted(box, db, "reader_3")
    late = posted(box, db, "reader_31", POSTED + 29 * HOUR)
    assert [(row.reply_id, row.age_hours) for row in run(tmp_path / "harvest.csv", 50 - 20 + 0.5)] == [
        (row, age) for row, age in [(ledger.in_state(db, State.POSTED)[0].reply_id, 30.5), (late, 1.5)]
    ]


def test_an_interrupted_harvest_resumes(box: Box, db: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    with pytest.raises(UserError, match="no such ledger"):
        harvest.main(tmp_path / "harvest.csv")


def test_a_reply_that_reddit_does_not_return(box: Box) -> None:
    client = reddit.connect(RedditSettings(url=box.url))
    reply = Reply("t1_c", "t3_t", "books", "a", "c", "b", State.POSTED, intent_utc=POSTED, reply_id="t1_zzzzzz")
    assert harvest.harvest(client, [reply], box.db.with_name("harvest.csv"), POSTED + HOUR) == 0


STANDING = Standing("t1_r", "t1_c", "t3_t", "books", "bot", "body", 3, POSTED, False)


@given(st.lists(st.floats(0, 400), max_size=30).map(sorted))
def test_each_age_is_measured_at_most_once(moments: list[float]) -> None:
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


# --- use in training ------------------------------------------------------------------------------------------------------


def test_training_uses_the_last_measurement_in_the_rankers_threads() -> None:
    row = Harvested("t1_our0", "t1_q0", "t3_b", "books", "Any *good* books?", "Dune, I'd say.", 24.5, 6, 0, False)
    rows = [
        row,
        replace(row, age_hours=169.0, karma=9),  # the last measurement is used
        replace(row, reply_id="t1_our1", karma=5, removed=True),
        replace(row, reply_id="t1_our2", age_hours=1.1),  # too early to tell
        replace(row, reply_id="t1_our3", comment=""),  # its comment was deleted
        replace(row, reply_id="t1_our4", karma=-3, removed=True),
        replace(row, reply_id="t1_our5", subreddit="Home"),
        *(replace(row, reply_id=f"t1_other{n}", thread_id=f"t3_other{n}") for n in range(40)),
    ]
    result = {each.reply_id: (each.comment, each.karma) for each in of_harvest.own_replies(rows, ["home"])}
    mine = {name: message for name, message in result.items() if "our" in name}
    assert mine == {f"t1_our{n}": ("Any good books?", karma) for n, karma in ((0, 9), (1, 0), (4, -3))}
    theirs = [f"t3_other{n}" for n in range(40)]
    may = [name for name in theirs if text.split_for(name) == "train" and text.half_for(name) == "rankers"]
    assert len(result) - len(mine) == len(may) and 0 < len(may) < 40


GOOD, BAD = "That one made me laugh out loud.", "Buy cheap watches now."


def test_a_ranker_learns_from_harvested_replies(box: Box, db: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From replies in the sandbox to the trained ranker. Only the karma of own replies tells GOOD from BAD; other pairs do not."""
    threads = [
        row for row in box.store.submissions("sandbox_books") + box.store.submissions("sandbox_home")
        if text.split_for(row["name"]) == "train" and text.half_for(row["name"]) == "rankers"
    ]  # fmt: skip
    comments = [row for thread in threads for row in box.store.comments_of(thread["name"]) if row["author"].startswith("reader")]
    assert len(comments) >= 8
    for n, row in enumerate(comments[:8]):
        name = box.store.add_comment(row["link_id"], row["name"], sandbox.USERNAME, "…", POSTED)["name"]
        box.store.set_karma(name, 9 if n % 2 else -2)
        ledger.intend(db, Reply(row["name"], row["link_id"], "sandbox_books", row["author"], "c-0", GOOD if n % 2 else BAD), POSTED)
        ledger.settle(db, row["name"], State.POSTED, "posted", POSTED, name)
    assert len(run(tmp_path / "harvest.csv", 25)) == 8

    monkeypatch.setattr(bases, "BASE_DIR", tmp_path / "bases")
    pull.pull("tiny-encoder", tiny.encoder(tmp_path / "encoder", head=False))
    for each in prepare.SPLITS:
        pairs = [
            UpvotePair("t3_b", f"t1_{n}", "t1_x", "t1_y", "home", "Which book?", f"number {n}", f"number {n + 1}", 9, 0.0) for n in range(9)
        ]
        schema.write_rows(tmp_path / f"upvote_pairs_{each}.csv", UpvotePair, pairs)
    margins = {}
    for harvested in (None, tmp_path / "harvest.csv"):
        out = tmp_path / f"upvote-{harvested is not None}"
        few = {"rows": 100, "epochs": 24, "batch_tokens": 256, "learning_rate": 5e-3}
        tiny.train("upvote", base="tiny-encoder", data=tmp_path, out=out, **few, harvest=harvested)
        ranker = rankers.load("transformers", out)
        assert isinstance(ranker, Transformers)
        good, bad = ranker.logits([("Which book?", GOOD), ("Which book?", BAD)])
        margins[harvested] = good - bad
        assert cards.read_card(out).settings["own_rows"] == (8 if harvested else 0)
    assert margins[tmp_path / "harvest.csv"] > margins[None] + 2, margins
