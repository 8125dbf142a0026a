"""bot.posting.operate and bot.posting.prune: the operator's commands, which do nothing in the wrong folder."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from filelock import FileLock

from bot import files, schema
from bot.cli import ROOT, Busy, UserError
from bot.online import harvest
from bot.posting import ledger, operate, prune
from bot.report import journal
from bot.report.journal import Journal
from bot.schema import Comment, Context, Harvested, Scored, Skipped, Submitted


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    monkeypatch.setenv("BOT_SUBMIT__LEDGER", str(tmp_path / "ledger.sqlite"))
    monkeypatch.setenv("BOT_SUBMIT__KILL_SWITCH", str(tmp_path / "STOP"))
    with closing(ledger.open_ledger(tmp_path / "ledger.sqlite")) as opened:
        yield opened


# --- in another folder ------------------------------------------------------------------------------------------------------------

COMMANDS = {
    "status": operate.status_command,
    "pause": operate.pause_command,
    "resume": operate.resume_command,
    "resolve": operate.resolve_command,
    "unbench": lambda: operate.unbench_command("books"),
    "forget": lambda: operate.forget_command("somebody"),
    "harvest": lambda: harvest.main(Path("harvest.csv")),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_ledger_nothing_is_done_and_the_error_has_the_path(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match=f"^{tmp_path}/data/ledger.sqlite: no such ledger; nothing was done; run this in the bot's folder"):
        COMMANDS[command]()
    assert [path.name for path in tmp_path.rglob("*")] == ["data"]


def test_status_has_the_addresses_of_the_newest_replies(db: sqlite3.Connection, capsys: pytest.CaptureFixture[str]) -> None:
    ledger.claim(db, "https://oauth.reddit.com", "My_Bot")
    for number in range(7):
        reply = ledger.Reply(f"t1_{number}", f"t3_{number}", "books", "somebody", "c", "Body.")
        ledger.intend(db, reply, 1_700_000_000 + number * 3600)
        ledger.settle(db, reply.comment_id, ledger.State.POSTED, "posted", 1_700_000_000 + number * 3600, reply_id=f"t1_own{number}")
    operate.status_command()
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("posted ")]
    assert len(shown) == operate.LINKS
    assert shown[-1] == "posted 2023-11-15 04:13: https://www.reddit.com/comments/6/_/own6"


def test_pause_and_resume(
    db: sqlite3.Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOT_SUBMIT__LEDGER", "ledger.sqlite")
    ledger.claim(db, "https://oauth.reddit.com", "My_Bot")
    whose = f"u/My_Bot at https://oauth.reddit.com, {tmp_path}/ledger.sqlite"
    with ledger.lock(tmp_path / "ledger.sqlite"):  # while a run is active
        operate.pause_command("a moderator asked")
        assert ledger.paused(db) == "a moderator asked" and f"paused: {whose}; `resume` ends it" in capsys.readouterr().out
        (tmp_path / "STOP").touch()
        operate.resume_command()
    assert ledger.paused(db) is None
    assert f"posting again: {whose}\n" in (out := capsys.readouterr().out) and f"while {tmp_path / 'STOP'} exists" in out
    (tmp_path / "STOP").unlink()
    operate.resume_command()
    assert capsys.readouterr().out == f"was not paused; nothing to do: {whose}\n"


def test_unbench(db: sqlite3.Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger.bench(db, "books", int(time.time()) + 1000, "three 403s")
    operate.unbench_command("/r/Books")
    assert ledger.benched(db, 0) == {} and f"{tmp_path}/ledger.sqlite" in capsys.readouterr().out
    with pytest.raises(UserError, match=f"r/books is not benched in {tmp_path}/ledger.sqlite; `status` lists"):
        operate.unbench_command("books")


def test_control_characters_of_a_reason_are_not_printed(db: sqlite3.Connection, capsys: pytest.CaptureFixture[str]) -> None:
    ledger.pause(db, "a \x1b]0;title\x07 reason\nwith lines")
    reply = ledger.Reply("t1_a", "t3_x", "books", "reader", "c", "words \x1b[31mred")
    ledger.intend(db, reply, 100)
    ledger.settle(db, "t1_a", ledger.State.PARKED, "parked", 100, error="odd \x1b[2J\x9b answer")
    operate.status_command()
    operate.resolve_command()
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\x9b" not in out and "paused: a ]0;title reason with lines\n" in out and "odd [2J answer" in out


# --- forget -------------------------------------------------------------------------------------------------------------------------


def words_of(data: Path, number: int, author: str) -> ledger.Reply:
    """Write a run folder with a comment by `author` and another person's comment in its context. Returns our reply."""
    ids = (f"t1_{number}", f"t3_{number}")
    run = data / f"run_{number}"
    schema.write_rows(run / "comments.csv", Comment, [Comment(*ids, "books", "t", f"words of {author}", 1, 1, 0, author, False, "")])
    schema.write_rows(run / "context.csv", Context, [Context(ids[1], f"t1_c{number}", ids[1], "other words", "reader_9")])
    schema.write_rows(run / "skipped.csv", Skipped, [Skipped("t1_x", ids[1], "books", "nsfw")])
    return ledger.Reply(*ids, "books", author, "c", f"words to {author}")


def holding(folder: Path, *words: str) -> set[str]:
    """Names of the files that contain one of the words, except the ledger's, which keep the name."""
    result = {path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("ledger")}
    return {path.name for path in result for word in words if word.lower().encode() in path.read_bytes().lower()}


def test_forget_keeps_the_name_only_as_an_opt_out(db: sqlite3.Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    for number, author in enumerate(("Reader_3", "reader_4", "reader_3")):
        reply = words_of(data, number, author)
        ledger.intend(db, reply, 100)
        ledger.settle(db, reply.comment_id, ledger.State.POSTED, "posted", 100, f"t1_our{number}")
    rows = [Harvested(f"t1_our{n}", f"t1_{n}", f"t3_{n}", "books", f"words of number {n}", "r", 1.5, 1, 0, False) for n in range(3)]
    schema.write_rows(data / "harvest.csv", Harvested, rows)
    operate.forget_command("u/READER_3", data)
    assert [len(schema.read_rows(data / f"run_{number}/comments.csv", Comment)) for number in range(3)] == [0, 1, 0]
    assert [len(schema.read_rows(data / f"run_{number}/skipped.csv", Skipped)) for number in range(3)] == [1, 1, 1]
    assert schema.read_rows(data / "harvest.csv", Harvested) == rows[1:2] and holding(data, "reader_3") == set()
    posted = ledger.in_state(db, ledger.State.POSTED)
    assert {(row.comment_id, row.author, row.body) for row in posted} == {
        ("t1_0", "", ""),
        ("t1_1", "reader_4", "words to reader_4"),
        ("t1_2", "", ""),
    }
    assert ledger.everyone_opted_out(db) == {"reader_3"}
    assert f"{tmp_path}/ledger.sqlite (no account yet): name removed from 2 replies" in capsys.readouterr().out
    operate.forget_command("reader_3", data)
    assert ": name removed from 0 replies" in capsys.readouterr().out


def test_forget_and_the_journal_of_a_run(db: sqlite3.Connection, tmp_path: Path) -> None:
    """metrics.json, summary.txt and log.jsonl have only counts and names of rules, before and after; counted again, they are fewer."""
    run = tmp_path / "data" / "run_1"
    words_of(tmp_path / "data", 1, "poor_soul")
    comments = [
        *schema.read_rows(run / "comments.csv", Comment),
        Comment("t1_2", "t3_2", "books", "t", "more", 1, 1, 0, "reader_2", False, ""),
    ]
    schema.write_rows(run / "comments.csv", Comment, comments)
    scored = [Scored(f"t1_{n}", f"t3_{n}", "books", "c", f"t1_{n}-0", f"to {n}", None, None, None, 0.5, "chosen", "") for n in (1, 2)]
    for name in ("scored.csv", "chosen.csv"):
        schema.write_rows(run / name, Scored, scored)
    rows = [
        Submitted(f"t1_{n}", f"t3_{n}", f"t1_{n}-0", outcome, f"t1_our{n}", 9, f"to {n}") for n, outcome in ((1, "posted"), (2, "locked"))
    ]
    schema.write_rows(run / "submitted.csv", Submitted, rows, {"chosen": files.sha256_of(run / "chosen.csv")})
    kept = Journal(run)
    kept.close(0)
    written = {name: (run / name).read_bytes() for name in (journal.LOG, journal.METRICS, journal.SUMMARY)}
    operate.forget_command("poor_soul", tmp_path / "data")
    assert {name: (run / name).read_bytes() for name in written} == written
    assert holding(run, "poor_soul", "t1_1", "t1_our1", "t3_1-", "to 1") == set()
    assert journal.count(run) | {"skipped": {}} == {
        "comments": 1, "skipped": {}, "candidates": 1, "refused": {}, "chosen": 1, "abstained": 0, "submitted": {"locked": 1},
    }  # fmt: skip
    assert json.loads(written[journal.METRICS])["submitted"] == {"posted": 1, "locked": 1}


@pytest.mark.parametrize("link", ["data", "runs", "run", "file"])
def test_forget_follows_links_as_purge_does(db: sqlite3.Connection, tmp_path: Path, link: str) -> None:
    data, disk = tmp_path / "data", tmp_path / "disk"
    words_of(data / "runs", 1, "poor_soul")
    target = {"data": data, "runs": data / "runs", "run": data / "runs" / "run_1", "file": data / "runs" / "run_1" / "comments.csv"}[link]
    target.rename(disk)
    target.symlink_to(disk)
    operate.forget_command("Poor_Soul", data)
    assert holding(tmp_path, "poor_soul") == set()


def test_forget_removes_the_threads_that_the_person_submitted(db: sqlite3.Connection, tmp_path: Path) -> None:
    """Their titles are in the rows of other people's comments."""
    data = tmp_path / "data"
    rows = [
        Comment(f"t1_{n}", f"t3_{n}", "books", f"title of {who}", "words", 1, 0, 0, "reader_4", False, "", who)
        for n, who in enumerate(("Reader_7", "reader_8"))
    ]
    schema.write_rows(data / "run" / "comments.csv", Comment, rows)
    operate.forget_command("reader_7", data)
    assert schema.read_rows(data / "run" / "comments.csv", Comment) == rows[1:] and holding(data, "eader_7") == set()


def test_forget_a_person_who_is_only_in_the_context(db: sqlite3.Connection, tmp_path: Path) -> None:
    words_of(tmp_path / "data", 1, "reader_4")
    operate.forget_command("/u/reader_9", tmp_path / "data")
    assert holding(tmp_path / "data", "reader_9", "other words") == set() and holding(tmp_path / "data", "reader_4") == {"comments.csv"}


def test_damaged_files_are_reported_after_everything_else_is_done(db: sqlite3.Connection, tmp_path: Path) -> None:
    data, also = tmp_path / "data", tmp_path / "also"
    reply = words_of(data, 1, "second_soul")
    words_of(also, 2, "second_soul")
    ledger.intend(db, reply, 100)
    (data / "a").mkdir()
    (data / "a" / "comments.csv").write_text('comment_id,author\nt1_x,"unclosed')
    (data / "a" / "context.csv").write_text("comment_id,author\nt1_y,second_soul\nt1_z\n")
    with pytest.raises(
        UserError, match=r"^2 may contain traces of them: .*a/comments.csv: .*; .*a/context.csv: row 2 has 1 cells"
    ) as caught:
        operate.forget_command("second_soul", data, [also])
    assert "\n" not in str(caught.value)
    assert holding(data, "second_soul") == {"context.csv"} and holding(also, "second_soul") == set()
    assert [row.author for row in ledger.in_state(db, *ledger.State)] == [""] and ledger.opted_out(db, "second_soul")


def test_the_name_stays_in_the_wal_while_another_program_has_the_ledger_open(db: sqlite3.Connection, tmp_path: Path) -> None:
    db.execute("BEGIN")
    db.execute("SELECT * FROM reply").fetchall()
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match="ledger.sqlite-wal: another program has the ledger open; the name stays there until it is closed"):
        operate.forget_command("somebody", tmp_path / "data")
    db.execute("COMMIT")
    operate.forget_command("somebody", tmp_path / "data")


def test_forget_an_unknown_person_records_an_opt_out(db: sqlite3.Connection, tmp_path: Path) -> None:
    operate.forget_command("nobody_yet", tmp_path)
    assert ledger.everyone_opted_out(db) == {"nobody_yet"}
    for name in ("a b", "u/", "../x", "x" * 21, "é" * 5):
        with pytest.raises(UserError, match="not a valid account name"):
            operate.forget_command(name, tmp_path)
    with pytest.raises(UserError, match="nowhere: no such folder"):
        operate.forget_command("somebody", tmp_path / "nowhere")
    with ledger.lock(tmp_path / "ledger.sqlite"), pytest.raises(Busy):
        operate.forget_command("somebody", tmp_path)


# --- prune --------------------------------------------------------------------------------------------------------------------------


def old_run(runs: Path, name: str, days: float = 40) -> Path:
    run = runs / name
    with files.run_folder(run, make=True):
        schema.write_rows(run / "comments.csv", Comment, [])
        for each in (
            "log.jsonl",
            "report.html",
            "sandbox.sqlite",
            "ledger.sqlite",
            "ledger.sqlite-wal",
            "ledger.backup.jsonl",
            "c.csv.part",
        ):
            (run / each.replace("c.csv", "candidates.csv")).write_text("x")
    for path in [*run.iterdir(), run]:
        os.utime(path, (time.time() - days * 86_400,) * 2)
    return run


def test_prune_removes_old_run_folders_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    for name in ("a", "b"):
        old_run(runs, name)
    for name, days in {"new": 29.0, "with_notes": 40, "with_folder": 40, "with_link": 40, "busy": 40, "elsewhere": 40}.items():
        old_run(runs, name, days)
    (runs / "with_notes" / "notes.txt").write_text("mine")
    (runs / "with_folder" / "deeper").mkdir()
    (runs / "with_link" / "skipped.csv").symlink_to(tmp_path)
    (runs / "photos").mkdir()
    (runs / "photos" / "cat.jpg").write_text("mine")
    (runs / "file").write_text("mine")
    (runs / "elsewhere").rename(tmp_path / "elsewhere")
    (runs / "elsewhere").symlink_to(tmp_path / "elsewhere")
    for folder in runs.iterdir():
        if not folder.is_symlink() and folder.name != "new":
            os.utime(folder, (0, 0))
            for path in folder.iterdir() if folder.is_dir() else ():
                os.utime(path, (0, 0), follow_symlinks=False)
    with FileLock(runs / "busy" / ".lock"):
        prune.prune_command("30d", runs)
    left = {"new", "with_notes", "with_folder", "with_link", "photos", "file", "busy", "elsewhere"}
    assert {path.name for path in runs.iterdir()} == left and (tmp_path / "elsewhere" / "comments.csv").exists()
    out = capsys.readouterr().out
    assert out.endswith(f"2 run folders removed from {runs}\n") and f"{runs}/busy is kept: a run is in progress" in out
    assert "with_notes is kept: contains notes.txt, which is not a file of a run" in out and "photos is kept: not a run folder" in out
    prune.prune_command("30d", runs)
    assert {path.name for path in runs.iterdir()} == left - {"busy"}


def test_prune_keeps_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run = old_run(tmp_path / "runs", "a")
    monkeypatch.setenv("BOT_SUBMIT__LEDGER", str(run / "ledger.sqlite"))
    prune.prune_command("1h", tmp_path / "runs")
    assert (run / "comments.csv").exists() and "contains the ledger" in capsys.readouterr().out


def test_prune_with_an_invalid_age_or_folder(tmp_path: Path) -> None:
    for age in ("30", "d", "-1d", "1.5d", "30 d", "30m", "999999999d", "٣d"):
        with pytest.raises(UserError, match="give a number and h, d or w"):
            prune.prune_command(age, tmp_path)
    with pytest.raises(UserError, match="nowhere: no such folder"):
        prune.prune_command("30d", tmp_path / "nowhere")


# --- purge --gone -------------------------------------------------------------------------------------------------------------------


def test_the_command_line_of_purge(tmp_path: Path) -> None:
    for arguments in ([], ["--gone", "--ids", "x"]):
        call = [sys.executable, str(ROOT / "run_bot.py"), "purge", "--data", str(tmp_path), *arguments]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and "no comments given: use --ids FILE, or --gone" in done.stderr and done.stderr.count("\n") == 1
