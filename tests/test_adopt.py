"""bot.online.adopt and bot.posting.backup: a lost, truncated or older ledger is detected, and restored as far as possible."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from bot import sandbox, schema
from bot.cli import UserError, WrongSettings
from bot.config import DISCLOSURE
from bot.online import adopt, fetch, inbox
from bot.posting import backup, ledger
from bot.posting.ledger import Reply, State
from bot.sandbox.server import Box
from bot.schema import Comment
from tests import soak
from tests.posting import configure, go, opened, ours, prepared

LOST = "lacks . of u/sandbox_reply_bot's latest replies .* nothing was posted. Restore the right one, or run"


def lose(run: Path) -> None:
    for end in ("", "-wal", "-shm"):
        run.with_name(f"ledger.sqlite{end}").unlink(missing_ok=True)


def copied(run: Path, source: str, target: str) -> None:
    """Copy the ledger, including the content of its write-ahead log."""
    with opened(run) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    lose(run.with_name("x")) if target == "ledger.sqlite" else None
    shutil.copy(run.with_name(source), run.with_name(target))


# --- detected before anything is posted -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["lost", "older"])
def test_nothing_is_posted_if_the_ledger_lacks_replies_on_reddit(box: Box, run: Path, capsys: pytest.CaptureFixture[str], how: str) -> None:
    comments = prepared(box, run, 3)
    soak.write_run(run, comments[:1])
    go(run)
    copied(run, "ledger.sqlite", "older.sqlite")
    soak.write_run(run, comments[1:2], 1)
    go(run)
    lose(run)
    if how == "older":
        shutil.copy(run.with_name("older.sqlite"), run.with_name("ledger.sqlite"))
    soak.write_run(run, comments, 4)
    with pytest.raises(WrongSettings, match=LOST) as caught:
        go(run)
    assert caught.value.status == 78 and str(run.with_name("ledger.sqlite")) in str(caught.value) and len(ours(box)) == 2
    capsys.readouterr()
    adopt.main()
    printed = capsys.readouterr().out
    assert f"adopt: {2 if how == 'lost' else 1} replies and 0 opt-outs are new in {run.parent}/ledger.sqlite" in printed
    assert go(run) == ["already_replied", "already_replied", "posted"] and len(ours(box)) == 3


def test_adopted_replies_count_against_the_caps_and_can_be_deleted_on_request(box: Box, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comments = prepared(box, run, 2)
    soak.write_run(run, comments[:1])
    go(run)
    lose(run)
    adopt.main()
    with opened(run) as db:
        row = ledger.find(db, comments[0].comment_id)
        assert row is not None and (row.state, row.author, row.body, row.thread_id, row.subreddit) == (
            State.POSTED, comments[0].author, soak.TEXTS[0], comments[0].thread_id, "sandbox_books",
        )  # fmt: skip
        assert abs(row.intent_utc - time.time()) < 60
    configure(monkeypatch, submit__posts_a_day=1)
    soak.write_run(run, comments[1:], 1)
    assert go(run) == ["day_cap"]
    box.say(row.reply_id, "!delete", author=comments[0].author)
    inbox.main()
    assert box.store.comment(row.reply_id)["body"] == "[deleted]"


def test_a_comment_that_a_person_wrote_with_the_account_needs_no_adoption(box: Box, run: Path) -> None:
    (comment,) = prepared(box, run, 1)
    box.say(comment.thread_id, "I wrote this myself.", author=sandbox.USERNAME)
    assert go(run) == ["already_in_thread"]


def test_a_refused_reply_that_is_on_reddit_is_recorded(box: Box, run: Path) -> None:
    (comment,) = prepared(box, run, 1)
    box.store.add_fault("locked", accepted=True)
    assert go(run) == ["locked"]
    assert go(run) == ["already_replied"]
    with opened(run) as db:
        row = ledger.find(db, comment.comment_id)
        assert row is not None and (row.state, row.reply_id) == ("posted", box.store.comments_by(sandbox.USERNAME)[0]["name"])


def test_nothing_is_posted_if_own_comments_cannot_be_read(box: Box, run: Path) -> None:
    prepared(box, run, 1)
    box.store.add_fault("403", "/user/", times=9)
    with pytest.raises(UserError, match="refuses this address"):
        go(run)
    assert ours(box) == []


def test_adopt_needs_no_ledger_and_learns_opt_outs(box: Box, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (comment,) = prepared(box, run, 1)
    box.say(comment.comment_id, f"From another machine.\n\n{DISCLOSURE}", author=sandbox.USERNAME)
    box.write("!stop", author="reader_5")
    adopt.main()
    assert "adopt: 1 replies and 1 opt-outs are new" in capsys.readouterr().out
    with opened(run) as db:
        assert ledger.opted_out(db, "reader_5") and ledger.all_comments(db) == {comment.comment_id}


# --- the backup -----------------------------------------------------------------------------------------------------------------


def test_opt_outs_survive_the_loss_of_the_ledger(box: Box, run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    comments = prepared(box, run, 2)
    go(run)
    author = comments[1].author
    box.write("!stop", author=author)
    inbox.main()
    lose(run)
    configure(monkeypatch, fetch__subreddits='["sandbox_books"]', fetch__listing="new", fetch__submissions=20)
    fetch.main(tmp_path / "fetched")
    assert author not in {row.author for row in schema.read_rows(tmp_path / "fetched" / "comments.csv", Comment)}
    with opened(run) as db:
        assert ledger.opted_out(db, author)


def test_a_reply_deleted_on_request_is_not_posted_again(box: Box, run: Path) -> None:
    """An older copy of the ledger is restored, and Reddit no longer shows the deleted reply."""
    (comment,) = prepared(box, run, 1)
    with opened(run):
        pass
    copied(run, "ledger.sqlite", "older.sqlite")
    assert go(run) == ["posted"]
    box.say(box.store.comments_by(sandbox.USERNAME)[0]["name"], "!delete", author=comment.author)
    inbox.main()
    lose(run)
    shutil.copy(run.with_name("older.sqlite"), run.with_name("ledger.sqlite"))
    soak.write_run(run, [comment], 1)
    assert go(run) == ["already_replied"]
    assert [row["body"] for row in box.store.comments_by(sandbox.USERNAME)] in ([], ["[deleted]"])


def test_a_lost_backup_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with ledger.held(path, make=True) as db:
        ledger.opt_out(db, "Reader_1", "t4_a", 5)
        ledger.intend(db, Reply("t1_a", "t3_x", "books", "reader_2", "0", "b"), 7)
        ledger.settle(db, "t1_a", State.POSTED, "posted", 7, "t1_ours")
        ledger.withdraw(db, "t1_a", "asked")
    entries = backup.read(path)
    assert entries == [
        {"utc": 5, "opted_out": "reader_1", "source": "t4_a"},
        {"utc": 7, "withdrawn": "t1_a", "thread_id": "t3_x", "subreddit": "books", "reply_id": "t1_ours"},
    ]
    assert backup.backup_path(path).stat().st_mode & 0o777 == path.stat().st_mode & 0o777 == 0o600
    backup.backup_path(path).unlink()
    with ledger.held(path):
        assert backup.read(path) == entries
    path.unlink()
    with ledger.held(path, make=True) as db:
        row = ledger.find(db, "t1_a")
        assert row is not None and (row.state, row.intent_utc, row.thread_id) == ("withdrawn", 7, "t3_x")
        assert ledger.sent_in_thread(db, "t3_x") == 1 and ledger.everyone_opted_out(db) == {"reader_1"}
    assert backup.read(path) == entries


def test_a_line_that_is_incomplete_after_a_power_cut(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    backup.append(path, utc=1, opted_out="reader_1", source="t4_a")
    with backup.backup_path(path).open("a") as file:
        file.write('{"utc": 2, "opted_out": "rea')
    assert backup.opted_out(path) == {"reader_1"}
    backup.append(path, utc=3, opted_out="reader_3", source="t4_c")
    assert backup.opted_out(path) == {"reader_1", "reader_3"}


@pytest.mark.parametrize(
    "line", ["", "{}", "[]", "reader_2", json.dumps({"utc": "1", "opted_out": "reader_2"}), '{"utc": 1, "withdrawn": "t1_a"}']
)
def test_a_damaged_backup_is_a_one_line_error(tmp_path: Path, line: str) -> None:
    path = tmp_path / "ledger.sqlite"
    backup.append(path, utc=1, opted_out="reader_1", source="t4_a")
    with backup.backup_path(path).open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(UserError, match="ledger.backup.jsonl: line 2 is damaged"):
        ledger.open_ledger(path)


# --- older layouts ------------------------------------------------------------------------------------------------------------------


def test_a_ledger_with_the_first_layout_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with ledger.held(path, make=True) as db:
        ledger.intend(db, Reply("t1_a", "t3_x", "books", "reader_2", "0", "b"), 7)
    db = sqlite3.connect(path)
    for column in ("comment_sha256", "approvals"):
        db.execute(f"ALTER TABLE reply DROP COLUMN {column}")
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()
    with ledger.held(path) as db:
        assert ledger.find(db, "t1_a") == Reply("t1_a", "t3_x", "books", "reader_2", "0", "b", "submitting", 7, 7, tries=1)
