"""bot.posting.ledger: intents and their results are recorded, whatever happens to the process or the disk."""

from __future__ import annotations

import errno
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bot.cli import ROOT, Busy, UserError
from bot.posting import ledger
from bot.posting.ledger import DAY, HOUR, Reply, State

NOW = 1_700_000_000
REPLY = Reply("t1_a", "t3_x", "Books", "Reader_1", "t1_a-3", "Read «Emma».")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(ledger.open_ledger(path)) as opened:
        yield opened


def sent(db: sqlite3.Connection, name: str, thread: str, when: int, state: State = State.POSTED, outcome: str = "", **other: str) -> None:
    ledger.intend(db, replace(REPLY, comment_id=name, thread_id=thread, **other), when)
    ledger.settle(db, name, state, outcome or state.value, when)


# --- the file ---------------------------------------------------------------------------------------------------------------


def test_an_intent_is_on_disk_before_anything_is_sent(db: sqlite3.Connection, path: Path) -> None:
    assert [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")] == ["wal", 2]
    ledger.intend(db, REPLY, NOW)
    with closing(ledger.open_ledger(path)) as other:
        assert ledger.find(other, "t1_a") == replace(REPLY, state="submitting", first_utc=NOW, intent_utc=NOW, tries=1)


@pytest.mark.parametrize("content", [b"comment_id,reply\r\n" * 300, b"SQLite format 3\0" + b"\7" * 8000])
def test_another_file_is_a_one_line_error_and_is_kept(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"ledger\.sqlite: not usable as a ledger") as message:
        ledger.open_ledger(path)
    assert "\n" not in str(message.value) and path.read_bytes() == content


def test_an_empty_file_is_a_damaged_ledger(path: Path) -> None:
    path.touch()
    for opening in (ledger.open_ledger, ledger.open_existing):
        with pytest.raises(UserError, match=r"ledger\.sqlite: the ledger is damaged \(empty\); restore a copy"):
            opening(path)
    assert path.read_bytes() == b""


def test_a_folder_in_its_place_is_a_one_line_error(path: Path, tmp_path: Path) -> None:
    path.mkdir()
    with pytest.raises(UserError, match=r"ledger\.sqlite: a folder; give the name of a file"):
        ledger.open_ledger(path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: not a folder"), ledger.held(tmp_path / "file" / "ledger.sqlite", make=True):
        pass
    (tmp_path / "other.sqlite.lock").mkdir()
    with pytest.raises(UserError, match="cannot be locked"), ledger.lock(tmp_path / "other.sqlite"):
        pass


def test_only_posting_runs_create_a_ledger(path: Path) -> None:
    with pytest.raises(UserError, match=f"{path}: no such ledger"):
        ledger.open_existing(path)
    with pytest.raises(UserError, match=f"{path}: no such ledger"), ledger.held(path):
        pass
    assert list(path.parent.iterdir()) == []  # no lock file either
    with ledger.held(path, make=True):
        pass
    with ledger.held(path):
        assert path.stat().st_mode & 0o777 == 0o600


def test_another_database_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE mine (a)")
    with pytest.raises(UserError, match="not a ledger of this version"):
        ledger.open_ledger(path)


def test_a_damaged_ledger_is_refused(db: sqlite3.Connection, path: Path) -> None:
    for number in range(200):
        sent(db, f"t1_{number}", "t3_x", NOW)
    db.close()  # closing writes the WAL into the file
    whole = bytearray(path.read_bytes())
    whole[3 * 4096 : 4 * 4096] = b"\xff" * 4096
    path.write_bytes(whole)
    with pytest.raises(UserError, match=r"damaged|not usable") as message:
        ledger.open_ledger(path)
    assert "\n" not in str(message.value)


def test_a_full_disk_is_an_error_before_the_post(db: sqlite3.Connection) -> None:
    db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(OSError, match="no space") as message:
        ledger.intend(db, replace(REPLY, body="x" * 20_000), NOW)
    assert message.value.errno == errno.ENOSPC and message.value.filename.endswith("ledger.sqlite")
    assert ledger.find(db, "t1_a") is None
    ledger.intend(db, REPLY, NOW)  # a smaller row still fits, since the transaction was rolled back


def test_only_one_process_can_lock_it(path: Path) -> None:
    code = f"from pathlib import Path\nfrom bot.posting import ledger\nwith ledger.lock(Path({str(path)!r})): pass"
    with ledger.lock(path), pytest.raises(Busy, match="another run is using this ledger") as message, ledger.lock(path):
        pass
    assert message.value.status == 75
    with ledger.lock(path):
        link = path.parent / "link.sqlite"
        link.symlink_to(path)
        for name in (path, link):
            other = subprocess.run([sys.executable, "-c", code.replace(str(path), str(name))], cwd=ROOT, capture_output=True, text=True)
            assert "Busy" in other.stderr
    with ledger.lock(path):
        pass


def test_it_belongs_to_one_account(db: sqlite3.Connection) -> None:
    ledger.claim(db, "https://oauth.reddit.com", "My_Bot")
    ledger.claim(db, "https://oauth.reddit.com", "my_bot")
    for site, name in (("https://oauth.reddit.com", "other"), ("sandbox", "My_Bot")):
        with pytest.raises(UserError, match="u/My_Bot at https://oauth.reddit.com"):
            ledger.claim(db, site, name)


# --- replies ----------------------------------------------------------------------------------------------------------------


def test_only_a_ready_reply_can_be_intended_again(db: sqlite3.Connection) -> None:
    ledger.intend(db, REPLY, NOW)
    for state in State:
        ledger.settle(db, "t1_a", state, "because", NOW)
        if state is not State.READY:
            with pytest.raises(RuntimeError, match="t1_a"):
                ledger.intend(db, REPLY, NOW + 1)
    ledger.settle(db, "t1_a", State.READY, "rate_limited", NOW + 2, not_before_utc=NOW + 60, error="wait")
    ledger.intend(db, replace(REPLY, body="Another."), NOW + 99)
    again = replace(REPLY, body="Another.", state="submitting", first_utc=NOW, intent_utc=NOW + 99, tries=2)
    assert ledger.find(db, "t1_a") == again


def test_replies_of_a_killed_run_are_in_doubt(db: sqlite3.Connection) -> None:
    ledger.intend(db, REPLY, NOW)
    sent(db, "t1_b", "t3_y", NOW)
    assert (ledger.recover(db), ledger.recover(db)) == (1, 0)
    assert [reply.comment_id for reply in ledger.in_state(db, State.UNKNOWN, State.PARKED)] == ["t1_a"]


def test_a_reply_found_on_reddit_is_adopted_once(db: sqlite3.Connection) -> None:
    ledger.adopt(db, REPLY, "t1_ours", NOW)
    result = ledger.find(db, "t1_a")
    assert result is not None and (result.state, result.reply_id, result.tries) == ("posted", "t1_ours", 0)
    ledger.intend(db, replace(REPLY, comment_id="t1_b"), NOW)
    ledger.settle(db, "t1_b", State.READY, "not_sent", NOW)
    ledger.adopt(db, replace(REPLY, comment_id="t1_b"), "t1_ours_too", NOW + 5)
    assert [reply.reply_id for reply in ledger.in_state(db, State.POSTED)] == ["t1_ours", "t1_ours_too"]
    ledger.adopt(db, REPLY, "t1_other", NOW + 9)
    assert ledger.find(db, "t1_a") == result
    sent(db, "t1_c", "t3_y", NOW, State.REJECTED, "rejected")
    ledger.adopt(db, replace(REPLY, comment_id="t1_c"), "t1_there", NOW + 9)
    row = ledger.find(db, "t1_c")
    assert row is not None and (row.state, row.reply_id) == ("posted", "t1_there")


def test_replies_in_doubt_count_against_the_caps(db: sqlite3.Connection) -> None:
    for number, state in enumerate(State):
        sent(db, f"t1_{number}", "t3_x", NOW - 100 * number, state, subreddit="BOOKS" if number % 2 else "home")
    # counted as sent: submitting (1), posted (2), unknown (4), parked (5), withdrawn (6); not ready (0) and rejected (3)
    assert ledger.sent_in_thread(db, "t3_x") == ledger.sent_since(db, NOW - HOUR) == 5
    assert ledger.sent_since(db, NOW - 250) == 2 and ledger.sent_since(db, NOW) == 0
    assert ledger.sent_since(db, NOW - HOUR, "books") == 2 and ledger.sent_since(db, NOW - DAY, "home") == 3
    assert len(ledger.in_state(db, *ledger.SENT)) == 5
    assert ledger.last_sent_utc(db) == NOW and ledger.sent_in_thread(db, "t3_other") == 0
    assert ledger.not_before_utc(db) is None
    ledger.settle(db, "t1_0", State.READY, "rate_limited", NOW, not_before_utc=NOW + 7)
    assert ledger.not_before_utc(db) == NOW + 7


def test_unwelcome_replies_in_a_row_are_counted_from_the_last(db: sqlite3.Connection) -> None:
    assert ledger.unwelcome_in_a_row(db) == 0
    sent(db, "t1_1", "t3_1", NOW, State.REJECTED, "forbidden")
    sent(db, "t1_2", "t3_2", NOW + 1)
    sent(db, "t1_3", "t3_3", NOW + 2, State.REJECTED, "forbidden")
    sent(db, "t1_4", "t3_4", NOW + 3, subreddit="home")
    sent(db, "t1_5", "t3_5", NOW + 4, State.REJECTED, "forbidden")
    assert [ledger.unwelcome_in_a_row(db, name) for name in ("books", "home", None)] == [2, 0, 1]
    for name in ("t1_2", "t1_4"):
        ledger.note_removed(db, name, NOW + 9)
    assert [ledger.unwelcome_in_a_row(db, name) for name in ("books", "home", None)] == [4, 1, 5]
    sent(db, "t1_6", "t3_6", NOW + 10, State.REJECTED, "locked")
    assert ledger.unwelcome_in_a_row(db) == 0


def test_refusals_are_counted_by_name(db: sqlite3.Connection) -> None:
    for when, reason in ((NOW, "day_cap"), (NOW, "opted_out"), (NOW, "day_cap"), (NOW - DAY, "paused")):
        ledger.refuse(db, REPLY, reason, when)
    assert list(ledger.refusals_since(db, NOW - HOUR).items()) == [("day_cap", 2), ("opted_out", 1)]


# --- people, subreddits, pause ------------------------------------------------------------------------------------------------


def test_an_opt_out_is_permanent_and_ignores_case(db: sqlite3.Connection) -> None:
    ledger.opt_out(db, "Reader_1", "t1_stop", NOW)
    ledger.opt_out(db, "READER_1", "t4_again", NOW + 1)
    assert ledger.opted_out(db, "reader_1") and not ledger.opted_out(db, "reader_2")
    assert ledger.everyone_opted_out(db) == {"reader_1"}
    ledger.forget(db, "reader_1")
    assert ledger.opted_out(db, "Reader_1")


def test_a_bench_ends(db: sqlite3.Connection) -> None:
    ledger.bench(db, "Books", NOW + 10, "three 403s")
    assert ledger.benched(db, NOW) == {"books": NOW + 10} and ledger.benched(db, NOW + 10) == {}


def test_an_unbench_ends_a_bench_and_resets_the_count(db: sqlite3.Connection) -> None:
    for number in range(3):
        sent(db, f"t1_{number}", f"t3_{number}", NOW + number, State.REJECTED, "forbidden")
    assert ledger.bench_if_unwelcome(db, "Books", NOW) and "books" in ledger.benched(db, NOW)
    assert not ledger.unbench(db, "home", NOW)
    assert ledger.unbench(db, "Books", NOW) and ledger.benched(db, NOW) == {}
    assert ledger.unwelcome_in_a_row(db, "books") == ledger.unwelcome_in_a_row(db) == 0
    sent(db, "t1_9", "t3_9", NOW + 9, State.REJECTED, "forbidden")
    assert not ledger.bench_if_unwelcome(db, "Books", NOW + 9) and ledger.unwelcome_in_a_row(db, "books") == 1
    assert ledger.refusals_since(db, 0) == {}


def test_an_active_run_sees_a_pause_at_once(db: sqlite3.Connection, path: Path) -> None:
    with ledger.lock(path), closing(ledger.open_ledger(path)) as other:
        assert ledger.paused(db) is None
        ledger.pause(other, "going to bed")
        assert ledger.paused(db) == "going to bed"
        assert (ledger.resume(other), ledger.resume(other)) == (True, False)
        assert ledger.paused(db) is None


def test_forgetting_a_person_removes_their_name_and_the_replies_to_them(db: sqlite3.Connection, path: Path) -> None:
    sent(db, "t1_a", "t3_x", NOW)
    ledger.intend(db, replace(REPLY, comment_id="t1_b", author="reader_1"), NOW)
    ledger.settle(db, "t1_b", State.READY, "rate_limited", NOW)
    sent(db, "t1_c", "t3_y", NOW, author="reader_10", body="Kept.")
    assert ledger.forget(db, "READER_1") == 2
    rows = [ledger.find(db, name) for name in ("t1_a", "t1_b", "t1_c")]
    assert [(row.state, row.author, row.body) for row in rows if row] == [
        ("posted", "", ""),
        ("rejected", "", ""),
        ("posted", "reader_10", "Kept."),
    ]
    assert ledger.own_texts(db) == ["Kept."]
    (kept,) = (reply.comment_id for state in ledger.State for reply in ledger.in_state(db, state) if reply.body == "Kept.")
    assert ledger.own_texts(db, but_to={kept}) == []
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert b"Emma" not in path.read_bytes() and b"Reader_1" not in path.read_bytes()
