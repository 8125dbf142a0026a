"""bot.report.journal and `run --quiet`: no output on success, a log in the run folder, and no credentials in any file."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from bot import __main__, files, pipeline, sandbox, schema
from bot.cli import NoPermission, Unreachable, UserError, WrongSettings, run_command
from bot.report import journal
from bot.report.journal import Journal
from bot.sandbox import server
from bot.schema import Comment, Scored, Skipped, Submitted


def events(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Stages that are replaced with small programs."""
    programs = {
        "fine": "import sys; print('3 comments'); print('a warning', file=sys.stderr); print()",
        "broken": "import sys; print('started'); print('broken: no network; try again', file=sys.stderr); sys.exit(69)",
        "killed": "import os; os.kill(os.getpid(), 9)",
        "report": "import sys; print('text of comments'); print('an error', file=sys.stderr)",
    }
    for name, program in programs.items():
        (tmp_path / f"{name}.py").write_text(program)
    python = tmp_path / "python"  # called as `python -P -m bot STAGE`
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "{tmp_path}/$4.py"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    return dict(os.environ)


def test_a_quiet_run_without_errors_prints_nothing(tmp_path: Path, environment: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    with pipeline.stages(Journal(tmp_path, quiet=True), environment) as start:
        start("fine", [])
        start("report", [])
    assert capfd.readouterr() == ("", "")
    logged = [(event["event"], event.get("stage"), event.get("text")) for event in events(tmp_path)]
    assert logged[0] == ("start", "fine", None) and ("output", "fine", "3 comments") in logged and ("output", "fine", "a warning") in logged
    assert ("output", "report", "an error") in logged and "text of comments" not in (tmp_path / "log.jsonl").read_text()
    assert logged[-1][0] == "end" and events(tmp_path)[-1]["status"] == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["status"] == 0 and metrics["seconds"].keys() == {"fine", "report"} and metrics["comments"] == 0
    summary = (tmp_path / "summary.txt").read_text()
    assert summary.startswith(f"{tmp_path.name}: status 0, ") and summary.count("\n") == 1


def test_each_stage_prints_a_line_with_its_seconds(tmp_path: Path, environment: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    with pipeline.stages(Journal(tmp_path), environment) as start:
        start("fine", [])
        start("report", [])
    out, error = capfd.readouterr()
    assert error == "a warning\nan error\n"
    assert re.fullmatch(r"fine +\d+\.\d s  3 comments\ntext of comments\nreport +\d+\.\d s\n", out)


@pytest.mark.parametrize(("stage", "status", "message"), [("broken", 69, "no network"), ("killed", 1, "killed by signal 9")])
def test_a_failing_stage_prints_its_error_and_sets_the_exit_status(
    tmp_path: Path, environment: dict[str, str], capfd: pytest.CaptureFixture[str], stage: str, status: int, message: str
) -> None:
    with pytest.raises(typer.Exit) as end, pipeline.stages(Journal(tmp_path, quiet=True), environment) as start:
        start("fine", [])
        start(stage, [])
        start("fine", [])
    assert end.value.exit_code == status
    out, error = capfd.readouterr()
    assert out == "" and message in error and error.count("\n") <= 2 and "3 comments" not in error
    assert json.loads((tmp_path / "metrics.json").read_text())["status"] == status
    assert f"status {status}" in (tmp_path / "summary.txt").read_text()
    assert [event["stage"] for event in events(tmp_path) if event["event"] == "start"] == ["fine", stage]


def test_the_journal_is_written_on_exceptions_too(tmp_path: Path) -> None:
    for error, status in ((ValueError("bug"), 1), (KeyboardInterrupt(), 130), (SystemExit(143), 143)):
        with pytest.raises(type(error)), pipeline.stages(Journal(tmp_path), {}):
            raise error
        assert json.loads((tmp_path / "metrics.json").read_text())["status"] == status


def test_counts(tmp_path: Path) -> None:
    comment = Comment("t1_a", "t3_x", "books", "t", "c", 1, 1, 0, "a", False, "")
    scored = Scored("t1_a", "t3_x", "books", "c", "0", "r", 0.5, None, None, 0.5, "refused", "link")
    schema.write_rows(tmp_path / "comments.csv", Comment, [comment])
    schema.write_rows(tmp_path / "skipped.csv", Skipped, [Skipped("t1_b", "t3_x", "books", "nsfw")] * 2)
    schema.write_rows(tmp_path / "scored.csv", Scored, [scored])
    schema.write_rows(tmp_path / "chosen.csv", Scored, [replace(scored, verdict="chosen", reason="")])
    schema.write_rows(tmp_path / "submitted.csv", Submitted, [Submitted("t1_a", "t3_x", "0", "day_cap", "", 1, "r")])
    assert journal.count(tmp_path) == {
        "comments": 1, "skipped": {"nsfw": 2}, "candidates": 1, "refused": {"link": 1}, "chosen": 0, "abstained": 1,
        "submitted": {"day_cap": 1},
    }  # fmt: skip
    schema.write_rows(tmp_path / "chosen.csv", Scored, [replace(scored, reply="Other words.", verdict="chosen", reason="")])
    assert journal.count(tmp_path)["submitted"] == {}  # an earlier run's text was submitted
    (tmp_path / "scored.csv").write_text('"half a file')
    assert journal.count(tmp_path)["candidates"] == 0


def test_no_credential_reaches_the_run_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Runs the real fetch in the sandbox, with a password in the environment."""
    run = tmp_path / "run"
    with server.serve(tmp_path / "sandbox.sqlite") as box, files.run_folder(run, make=True) as lock_variables:
        environment = {
            **os.environ,
            **lock_variables,
            "BOT_REDDIT__URL": box.url,
            "BOT_FETCH__SUBREDDITS": '["sandbox_books"]',
            "praw_password": "hunter2",
        }
        with pipeline.stages(Journal(run, quiet=True), environment) as start:
            start("fetch", ["--run", str(run)])
    assert capfd.readouterr() == ("", "") and events(run)[-1]["status"] == 0
    for path in run.iterdir():
        content = path.read_bytes()
        assert not [secret for secret in ("hunter2", sandbox.PASSWORD, sandbox.CLIENT_SECRET) if secret.encode() in content], path


@pytest.mark.parametrize(("error", "status"), [(UserError, 1), (Unreachable, 69), (NoPermission, 77), (WrongSettings, 78)])
def test_each_kind_of_error_has_its_exit_status(
    error: type[UserError], status: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def main() -> None:
        raise error("the message")

    monkeypatch.setattr("sys.argv", ["x"])
    with pytest.raises(SystemExit) as end:
        run_command(main, "x")
    assert end.value.code == status and capsys.readouterr().err == "x: the message\n"


def test_the_exit_statuses_are_documented() -> None:
    assert {str(status) for status in (0, 1, 2, 69, 74, 75, 77, 78, 130, 143)} <= set(re.findall(r"\d+", __main__.__doc__ or ""))
