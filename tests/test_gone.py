"""bot.posting.gone: rows that were deleted on Reddit are removed from the local files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from bot import names as site
from bot import schema
from bot.cli import Unreachable, UserError
from bot.evaluate import judge
from bot.online import fetch
from bot.posting import purge
from bot.sandbox import seed, server
from bot.sandbox.server import Box
from bot.schema import BlindPair, Comment, Context, Harvested, Judgement, Scored
from tests.posting import no_sleep


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    with server.serve(tmp_path / "sandbox.sqlite") as running:
        monkeypatch.setenv("BOT_REDDIT__URL", running.url)
        monkeypatch.setenv("BOT_SUBMIT__LEDGER", str(tmp_path / "ledger.sqlite"))
        monkeypatch.setenv("BOT_FETCH__SUBREDDITS", '["sandbox_books", "sandbox_home"]')
        no_sleep(monkeypatch)
        yield running


@pytest.fixture
def data(box: Box, tmp_path: Path) -> Path:
    data = tmp_path / "data"
    fetch.main(data / "runs" / "one")
    return data


def rows_of(data: Path) -> list[Comment | Context]:
    run = data / "runs" / "one"
    return [*schema.read_rows(run / "comments.csv", Comment), *schema.read_rows(run / "context.csv", Context)]


def names(data: Path) -> set[str]:
    return {row.comment_id for row in rows_of(data)}


def gone(data: Path, dry_run: bool = False) -> None:
    purge.purge_command(None, data, None, dry_run, True)


def test_comments_deleted_on_reddit_are_removed(box: Box, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = names(data)
    deleted, removed, other, ours = sorted(before)[::5][:4]
    answers = {row.comment_id for row in rows_of(data) if row.parent_id in (deleted, removed)}  # these rows have the id of the deleted one
    rows = [Harvested(f"t1_{n}", name, "t3_x", "books", "words", "r", 1.5, 1, 0, False) for n, name in enumerate((deleted, ours))]
    schema.write_rows(data / "harvest.csv", Harvested, rows)
    scored = Scored(deleted, "t3_x", "books", "words", "c", "r", None, None, None, None, "kept", "")
    schema.write_rows(data / "elsewhere" / "scored.csv", Scored, [scored])
    box.store.blank(deleted, "[deleted]")
    box.store.blank(removed, "[removed]")
    gone(data, dry_run=True)
    assert names(data) == before
    gone(data)
    assert names(data) == before - {deleted, removed} - answers and other in names(data)
    # harvest.csv has no comments.csv with source «sandbox» beside it, so it counts as Reddit's; but ids are purged from all files
    assert schema.read_rows(data / "harvest.csv", Harvested) == rows[1:]
    assert schema.read_rows(data / "elsewhere" / "scored.csv", Scored) == []
    capsys.readouterr()
    gone(data)
    assert "Reddit: shows all of these comments; nothing to do" in capsys.readouterr().out


def test_more_comments_than_fit_into_a_request(box: Box, data: Path) -> None:
    thread = box.store.submissions("sandbox_books")[0]["name"]
    made = [box.say(thread, f"Number {number}.") for number in range(230)]
    rows = [Context(thread, name, thread, "words", "reader_1") for name in made]
    schema.write_rows(data / "runs" / "one" / "context.csv", Context, rows)
    for name in made[::3]:
        box.store.blank(name, "[deleted]")
    gone(data)
    left = [row.comment_id for row in schema.read_rows(data / "runs" / "one" / "context.csv", Context)]
    assert left == [name for number, name in enumerate(made) if number % 3]


def test_the_names_of_the_sandboxs_subreddits_tell_its_comments() -> None:
    assert all(each.name.startswith(site.SANDBOX) for each in seed.SUBREDDITS)


def test_only_comments_of_the_configured_site_are_checked(box: Box, data: Path) -> None:
    """Comments from Reddit are missing in the sandbox, but that does not mean that they were deleted."""
    run = data / "runs" / "two"
    schema.write_rows(
        run / "comments.csv", Comment, [Comment("t1_real", "t3_x", "s", "t", "c", 1, 1, 0, "a", False, "")], {"source": "reddit"}
    )
    before = names(data)
    gone(data)
    assert len(schema.read_rows(run / "comments.csv", Comment)) == 1 and names(data) == before


def test_answers_and_sheets_of_judge_are_checked_too(box: Box, data: Path) -> None:
    """Their comments may no longer be in any run folder. Those of another site are not asked for."""
    shown, hidden, *_ = sorted(names(data))
    ids = {shown: "sandbox_books", hidden: "sandbox_books", "t1_real": "books"}
    pairs = [BlindPair("p", "", "", "", name, where, "", "c", "", "a", "", "b", 1) for name, where in ids.items()]
    judge.write_sheet(pairs, data / "sheet.csv")
    rows = [Judgement(**asdict(pair), who="ann", judged_utc=1, better=1, first_acceptable=True, second_acceptable=True) for pair in pairs]
    schema.append_rows(data / "judgements.csv", Judgement, rows)
    shutil.rmtree(data / "runs")
    (data / "notes.csv").write_bytes(b"\xff\xfe")  # no table of ours
    gone(data)
    (data / "notes.csv").unlink()
    box.store.blank(hidden, "[deleted]")
    gone(data)
    for name in ("judgements.csv", "sheet.csv"):
        assert [row["comment_id"] for row in schema.read_table(data / name)[1]] == [shown, "t1_real"]


def test_nothing_is_removed_if_reddit_cannot_be_read(box: Box, data: Path) -> None:
    before = names(data)
    box.store.add_fault("503", "/api/info", times=99)
    with pytest.raises(Unreachable):
        gone(data)
    assert names(data) == before


def test_a_damaged_file_is_reported_and_the_others_are_purged(box: Box, data: Path) -> None:
    victim = min(names(data))
    box.store.blank(victim, "[deleted]")
    (data / "runs" / "two").mkdir()
    (data / "runs" / "two" / "context.csv").write_text('comment_id,author\nt1_x,"unclosed')
    with pytest.raises(UserError, match="1 not purged, which may contain traces: .*two/context.csv"):
        gone(data)
    assert victim not in names(data)
