"""bot.online.fetch: the pure functions on invented threads, and the whole stage against the sandbox."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import schema
from bot.cli import ROOT, UserError
from bot.conduct.where import Known, Reason
from bot.config import ConductSettings, FetchSettings, RedditSettings, Settings
from bot.online import fetch
from bot.posting import backup, ledger
from bot.reddit import client as reddit
from bot.reddit.threads import Thread, ThreadComment
from bot.sandbox import server
from bot.sandbox.server import Box
from bot.schema import Comment, Context, Skipped
from tests.test_text import GONE, NOT_GONE

NOW = 1_700_000_000
RULES = Settings(fetch=FetchSettings(depth=2, minimum_karma=3, maximum_age_hours=10))
US = "our_account"


def comment(name: str = "t1_a", **changes: object) -> ThreadComment:
    plain = ThreadComment(
        comment_id=name,
        parent_id="t3_x",
        author="reader_1",
        body=f"text of {name}",
        karma=5,
        created_utc=NOW - 3600,
        depth=0,
        locked=False,
        permalink=f"http://127.0.0.1/{name}",
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def thread(*comments: ThreadComment, name: str = "t3_x", **changes: object) -> Thread:
    plain = Thread(name, "sandbox_books", f"title of {name}", False, False, False, list(comments), [])
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def ids(rows: list[Comment]) -> list[str]:
    return [row.comment_id for row in rows]


@pytest.mark.parametrize(
    ("reason", "changes", "thread_changes"),
    [
        (Reason.OWN_COMMENT, {"author": "Our_Account"}, {}),
        (Reason.DELETED, {"body": "[deleted]", "author": ""}, {}),
        (Reason.REMOVED, {"body": "[removed]", "author": ""}, {}),
        (Reason.REMOVED, {"body": "[ Removed by Reddit ]"}, {}),
        (Reason.DELETED_AUTHOR, {"author": ""}, {}),
        (Reason.EMPTY, {"body": " \n\t"}, {}),
        (Reason.EMPTY, {"body": "> what you said\n\nhttps://example.org/page"}, {}),
        (Reason.TOO_LONG, {"body": "y" * 10_000}, {}),
        (Reason.BOT_AUTHOR, {"author": "AutoModerator"}, {}),
        (Reason.BOT_AUTHOR, {"author": "deal_finder_bot"}, {}),
        (Reason.BOT_AUTHOR, {"body": "Beep! I'm a bot."}, {}),
        (Reason.NSFW, {}, {"over_18": True}),
        (Reason.LOCKED, {}, {"locked": True}),
        (Reason.LOCKED, {"locked": True}, {}),
        (Reason.ARCHIVED, {}, {"archived": True}),
        (Reason.TOO_DEEP, {"depth": 3}, {}),
        (Reason.TOO_OLD, {"created_utc": NOW - 36_001}, {}),
        (Reason.LOW_KARMA, {"karma": 2}, {}),
    ],
)
def test_reasons(reason: Reason, changes: dict[str, object], thread_changes: dict[str, object]) -> None:
    taken, context, skipped = fetch.take_up([thread(comment(**changes), **thread_changes)], RULES, NOW, US)  # type: ignore[arg-type]
    assert (taken, context) == ([], [])
    assert skipped == [Skipped("t1_a", "t3_x", "sandbox_books", reason)]


def test_notices_are_those_of_the_training_data() -> None:
    """What extract and prepare take for a deleted text is not answered; what they keep as a person's text is."""
    comments = [comment(f"t1_{number}", body=body) for number, body in enumerate([*GONE, *NOT_GONE])]
    taken, _, skipped = fetch.take_up([thread(*comments)], RULES, NOW, US)
    assert ids(taken) == [each.comment_id for each in comments[len(GONE) :]]
    assert {row.reason for row in skipped} == {Reason.DELETED, Reason.REMOVED} and len(skipped) == len(GONE)


def test_bots_of_the_config_are_not_answered() -> None:
    rules = RULES.model_copy(update={"conduct": ConductSettings(bots=["Tide_Table"])})
    taken, _, skipped = fetch.take_up([thread(comment("t1_a", author="tide_table"), comment("t1_b"))], rules, NOW, US)
    assert ids(taken) == ["t1_b"] and [row.reason for row in skipped] == [Reason.BOT_AUTHOR]


@pytest.mark.parametrize(
    "changes",
    [
        {"body": "y" * 9_999},
        {"depth": 2},
        {"created_utc": NOW - 36_000},
        {"karma": 3},
        {"author": "Talbot"},
        {"author": "bottom_reader"},
        {"body": "=1+1"},
        {"body": "[SEP] and more"},
        {"body": "🍳"},
        {"body": "مرحبا"},
        {"body": "They removed it [deleted]"},
    ],
)
def test_just_inside_the_rules(changes: dict[str, object]) -> None:
    taken, _, skipped = fetch.take_up([thread(comment(**changes))], RULES, NOW, US)
    assert ids(taken) == ["t1_a"] and skipped == []
    assert taken[0].comment == changes.get("body", "text of t1_a")


def test_threads_with_an_own_reply_are_skipped() -> None:
    there = thread(
        comment("t1_a"), comment("t1_b", parent_id="t1_a", author=US, depth=1), comment("t1_c"), comment("t1_d", parent_id="t1_b", depth=2)
    )
    elsewhere = thread(comment("t1_e"), name="t3_y")
    taken, _, skipped = fetch.take_up([there, elsewhere], RULES, NOW, US)
    assert ids(taken) == ["t1_e"]
    assert {row.comment_id: row.reason for row in skipped} == {
        "t1_a": Reason.ALREADY_REPLIED_BY_US,
        "t1_b": Reason.OWN_COMMENT,
        "t1_c": Reason.ALREADY_IN_THREAD,
        "t1_d": Reason.ALREADY_IN_THREAD,
    }
    # A read-only client has no user name, so a comment with an empty author must not count as its own.
    assert fetch.take_up([thread(comment(author=""))], RULES, NOW, "")[2][0].reason == Reason.DELETED_AUTHOR


def test_a_limit_is_spread_over_the_threads() -> None:
    big = thread(*(comment(f"t1_a{n}", karma=10 + n) for n in range(5)), name="t3_a")
    small = thread(comment("t1_b0", karma=4), name="t3_b")
    middle = thread(comment("t1_c0", karma=6), comment("t1_c1", karma=7), name="t3_c")
    assert ids(fetch.take_up([big, small, middle], RULES, NOW)[0]) == [
        "t1_a4", "t1_b0", "t1_c1", "t1_a3", "t1_c0", "t1_a2", "t1_a1", "t1_a0",
    ]  # fmt: skip
    taken, context, skipped = fetch.take_up([big, small, middle], RULES, NOW, limit=4)
    assert ids(taken) == ["t1_a4", "t1_b0", "t1_c1", "t1_a3"]
    assert [(row.comment_id, row.reason) for row in skipped] == [(name, "over_limit") for name in ("t1_c0", "t1_a2", "t1_a1", "t1_a0")]
    assert {row.comment_id for row in context} == {"t1_a0", "t1_a1", "t1_a2", "t1_c0"}


def test_context_has_the_readable_comments_of_answered_threads() -> None:
    answered = thread(
        comment("t1_a"),
        comment("t1_b", parent_id="t1_a", karma=-4),
        comment("t1_c", body="[removed]"),
        comment("t1_d", author="AutoModerator"),
        comment("t1_e", body=" "),
    )
    passed_over = thread(comment("t1_z"), name="t3_y", locked=True)
    _, context, _ = fetch.take_up([answered, passed_over], RULES, NOW)
    assert context == [
        Context("t3_x", "t1_b", "t1_a", "text of t1_b", "reader_1"),
        Context("t3_x", "t1_d", "t3_x", "text of t1_d", "AutoModerator"),
    ]


def test_texts_of_people_who_opted_out_are_not_written() -> None:
    there = thread(comment("t1_a"), comment("t1_b", author="Poor_Soul", karma=-4), comment("t1_c", author="poor_soul"))
    taken, context, skipped = fetch.take_up([there], RULES, NOW, known=Known(opted_out={"poor_soul"}))
    assert [row.comment_id for row in taken] == ["t1_a"] and context == []
    assert {(row.comment_id, row.reason) for row in skipped} == {("t1_b", "opted_out"), ("t1_c", "opted_out")}


def test_opt_outs_are_recorded_before_there_is_a_ledger(tmp_path: Path) -> None:
    path = tmp_path / "data" / "ledger.sqlite"
    for _ in range(2):
        fetch.remember(path, {"Reader_1": "t1_a"}, NOW)
    assert fetch.known_to(path, NOW).opted_out == {"reader_1"} and not path.exists()
    assert len(backup.read(path)) == 1
    with closing(ledger.open_ledger(path)) as db:
        assert ledger.everyone_opted_out(db) == {"reader_1"}


def test_rows_have_the_thread_and_valid_utf8() -> None:
    odd = thread(comment(body="a\ud800b", karma=9, depth=1), title="t\udfff", subreddit="sandbox_home")
    taken, _, _ = fetch.take_up([odd], RULES, NOW)
    place = ("reader_1", False, "http://127.0.0.1/t1_a", "", "t3_x")
    assert taken == [Comment("t1_a", "t3_x", "sandbox_home", "t\ufffd", "a\ufffdb", 9, NOW - 3600, 1, *place)]
    _, context, _ = fetch.take_up([thread(comment("t1_a"), comment("t1_b", body="\udc00!", karma=0))], RULES, NOW)
    assert [row.comment for row in context] == ["\ufffd!"]


@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from(["ok", "[deleted]", ""]), st.integers(0, 6), st.integers(0, 4), st.sampled_from(["p", US, "x_bot"])),
            max_size=6,
        ),
        max_size=5,
    ),
    st.none() | st.integers(1, 8),
)
def test_every_comment_is_either_taken_or_skipped(shape: list[list[tuple[str, int, int, str]]], limit: int | None) -> None:
    threads = [
        thread(
            *(
                comment(f"t1_{t}_{n}", body=body, karma=karma, depth=depth, author=author)
                for n, (body, karma, depth, author) in enumerate(rows)
            ),
            name=f"t3_{t}",
            behind_more=[f"t1_{t}_more", f"t1_{t}_0", f"t1_{t}_more"],
        )
        for t, rows in enumerate(shape)
    ]
    taken, context, skipped = fetch.take_up(threads, RULES, NOW, US, limit)
    seen = [c.comment_id for one in threads for c in one.comments]
    unseen = {name for one in threads for name in one.behind_more} - set(seen)
    assert Counter(ids(taken) + [row.comment_id for row in skipped]) == Counter(seen + list(unseen))
    assert not set(ids(taken)) & {row.comment_id for row in context}
    assert {row.thread_id for row in context} <= {row.thread_id for row in taken}
    assert limit is None or len(taken) <= limit


# --- the stage, against the sandbox ----------------------------------------------------------------------------------------------


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    with server.serve(tmp_path / "sandbox.sqlite") as running:
        monkeypatch.setenv("BOT_REDDIT__URL", running.url)
        read(monkeypatch, "sandbox_books", "sandbox_home", "sandbox_college")
        yield running


def read(monkeypatch: pytest.MonkeyPatch, *subreddits: str) -> None:
    monkeypatch.setenv("BOT_FETCH__SUBREDDITS", json.dumps(subreddits))


def test_the_whole_stage_with_default_settings(box: Box, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    fetch.main(run, None, None)
    taken = schema.read_rows(run / "comments.csv", Comment)
    context = schema.read_rows(run / "context.csv", Context)
    skipped = schema.read_rows(run / "skipped.csv", Skipped)
    assert len({row.thread_id for row in taken}) == 13
    reasons = Counter(row.reason for row in skipped)
    assert reasons == {
        "too_deep": 11, "bot_author": 2, "low_karma": 2, "locked": 2, "removed": 2, "deleted": 1, "empty": 1, "nsfw": 1, "too_long": 1,
    }  # fmt: skip
    assert "too_deep 11" in capsys.readouterr().out
    assert len(taken) + len(skipped) == 96
    stored = {row["name"]: row for one in {row.thread_id for row in taken} for row in box.store.comments_of(one)}
    for row in taken:
        assert (row.comment, row.author, row.comment_karma) == tuple(stored[row.comment_id][key] for key in ("body", "author", "karma"))
    awkward = [row.comment for row in taken]
    assert any("[SEP]" in body for body in awkward) and any(body.startswith("=1+1") for body in awkward)
    assert any("\n\n" in body for body in awkward) and any("🍳" in body for body in awkward) and any("قرأت" in body for body in awkward)
    assert {row.thread_id for row in context} <= {row.thread_id for row in taken}


def test_a_limit_takes_one_comment_of_each_submission(box: Box, tmp_path: Path) -> None:
    fetch.main(tmp_path / "run", None, 10)
    taken = schema.read_rows(tmp_path / "run" / "comments.csv", Comment)
    assert len(taken) == len({row.thread_id for row in taken}) == 10
    assert [row.subreddit for row in taken[:3]] == ["sandbox_books", "sandbox_home", "sandbox_college"]


def test_archived_threads_show_up_in_hot(box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOT_FETCH__LISTING", "hot")
    monkeypatch.setenv("BOT_FETCH__SUBMISSIONS", "1")
    monkeypatch.setenv("BOT_FETCH__REPLACE_MORE_LIMIT", "0")
    read(monkeypatch, "r/Sandbox_Books", "sandbox_books")  # the same subreddit twice
    fetch.main(tmp_path / "run", None, None)
    assert [row.reason for row in schema.read_rows(tmp_path / "run" / "skipped.csv", Skipped)] == ["archived"]
    assert schema.read_rows(tmp_path / "run" / "comments.csv", Comment) == []


def test_the_same_command_again_does_nothing(box: Box, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    fetch.main(run, None, 5)
    before = (run / "comments.csv").read_bytes()
    box.say(schema.read_rows(run / "comments.csv", Comment)[0].thread_id, "A new comment with a lot of karma", karma=900)
    fetch.main(run, None, 5)
    assert "nothing to do" in capsys.readouterr().out
    assert (run / "comments.csv").read_bytes() == before
    fetch.main(run, None, 6)  # another limit needs a new fetch
    assert schema.read_rows(run / "comments.csv", Comment)[0].comment_karma == 900


def test_resuming_needs_neither_the_network_nor_the_same_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, box: Box) -> None:
    run = tmp_path / "run"
    fetch.main(run, None, 5)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.glob("*.csv*")}
    assert {"comments.csv", "context.csv", "skipped.csv"} <= before.keys()
    monkeypatch.setenv("BOT_REDDIT__URL", "http://127.0.0.1:9")  # nothing listens there
    fetch.main(run, None, 5)
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.glob("*.csv*")} == before
    with pytest.raises(UserError, match="can't be reached"):
        fetch.main(run, None, 4)


@pytest.mark.parametrize("written", [0, 1, 2])
def test_fetch_starts_over_if_it_stopped_between_two_files(box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int) -> None:
    """comments.csv is written last, so the next stage never sees it without the other two files."""
    run = tmp_path / "run"
    whole = schema.write_rows
    files: list[str] = []

    def stops(path: Path, *rest: object, **more: object) -> int:
        if len(files) == written:
            raise KeyboardInterrupt
        files.append(path.name)
        return whole(path, *rest, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(schema, "write_rows", stops)
        with pytest.raises(KeyboardInterrupt):
            fetch.main(run, None, 5)
    assert files == ["context.csv", "skipped.csv"][:written] and not (run / "comments.csv").exists()
    fetch.main(run, None, 5)
    assert len(schema.read_rows(run / "comments.csv", Comment)) == 5


def test_the_next_run_skips_threads_with_an_own_reply(box: Box, tmp_path: Path) -> None:
    fetch.main(tmp_path / "first", None, 3)
    first = schema.read_rows(tmp_path / "first" / "comments.csv", Comment)
    client = reddit.connect(RedditSettings(url=box.url))
    reddit.reply(client, first[0].comment_id, "Nice one.")
    fetch.main(tmp_path / "second", None, 3)
    second = schema.read_rows(tmp_path / "second" / "comments.csv", Comment)
    assert first[0].thread_id not in {row.thread_id for row in second} and len(second) == 3
    reasons = Counter(row.reason for row in schema.read_rows(tmp_path / "second" / "skipped.csv", Skipped))
    assert reasons["already_replied_by_us"] == reasons["own_comment"] == 1 and reasons["already_in_thread"] > 1


def test_subreddits_that_cannot_be_read(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read(monkeypatch, "sandbox_private", "sandbox_home", "sandbox_nowhere")
    fetch.main(tmp_path / "run", None, 2)
    printed = capsys.readouterr().out
    assert "r/sandbox_private is left out: private" in printed and "r/sandbox_nowhere is left out: missing" in printed
    assert {row.subreddit for row in schema.read_rows(tmp_path / "run" / "comments.csv", Comment)} == {"sandbox_home"}
    read(monkeypatch, "sandbox_private", "sandbox_nowhere")
    with pytest.raises(UserError, match="sandbox_private private, sandbox_nowhere missing"):
        fetch.main(tmp_path / "none", None, 2)
    assert not (tmp_path / "none").exists()
    read(monkeypatch)
    with pytest.raises(UserError, match="fetch.subreddits is empty"):
        fetch.main(tmp_path / "none", None, 2)


@pytest.mark.usefixtures("cold")
def test_the_command_without_a_network(tmp_path: Path) -> None:
    """A one-line error with status 69; no file is written and no model library is loaded."""
    code = (
        "import sys, prawcore.sessions; prawcore.sessions.time.sleep = lambda seconds: None\n"
        "from bot.cli import run_command; from bot.online.fetch import main\n"
        "try: run_command(main, 'python run_bot.py fetch')\n"
        "finally: print(sorted({'torch', 'tensorflow', 'transformers', 'flask'} & set(sys.modules)))"
    )
    environment = {
        "BOT_REDDIT__URL": "http://127.0.0.1:9",
        "BOT_FETCH__SUBREDDITS": '["sandbox_books"]',
        "PATH": "",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", code, "--run", str(tmp_path / "run")], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 69 and done.stdout.strip() == "[]"
    assert done.stderr.count("\n") == 1 and "can't be reached" in done.stderr
    assert not (tmp_path / "run").exists()
