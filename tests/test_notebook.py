"""bot.report.notebook: output of a stage in a cell, failing and interrupted stages, and files as tables."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from jupyter_client.manager import start_new_kernel

from bot import schema
from bot.cli import ROOT, UserError
from bot.report import notebook
from bot.schema import Candidate


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The command and options of every process that is started."""
    started: list[dict[str, Any]] = []
    original = subprocess.Popen

    def popen(command: list[str], **options: Any) -> Any:
        process = original(command, **options)
        started.append({"command": command, "process": process, **options})
        return process

    monkeypatch.setattr(subprocess, "Popen", popen)
    return started


def test_a_stage_is_a_process_with_its_settings_in_the_environment(
    commands: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    notebook.stage("models", "list", fetch__subreddits=["a", "b"], rank__upvote="", generate__model=Path("m x"), generate__backend=None)
    environment = commands[0]["env"]
    assert commands[0]["command"][1:] == [str(ROOT / "run_bot.py"), "models", "list"]
    assert environment["BOT_FETCH__SUBREDDITS"] == '["a", "b"]' and environment["BOT_RANK__UPVOTE"] == ""
    assert environment["BOT_GENERATE__MODEL"] == "m x" and "BOT_GENERATE__BACKEND" not in environment
    output = capsys.readouterr().out.splitlines()
    assert output[0].startswith('$ BOT_FETCH__SUBREDDITS=\'["a", "b"]\' ') and output[0].endswith(" python run_bot.py models list")
    assert any(line.startswith("minilm-l6 ") for line in output[1:])


def test_a_failing_stage_is_an_error_and_its_message_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="`run_bot.py rank --run .*` failed with status 1; see its output above"):
        notebook.stage("rank", "--run", tmp_path, rank__realism="", rank__upvote="")
    assert f"{tmp_path / 'candidates.csv'}: no such file" in capsys.readouterr().out


def test_interrupting_the_cell_interrupts_the_stage_once(tmp_path: Path) -> None:
    """Jupyter sends the signal to the kernel's whole process group."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom bot.report import notebook\n"
    code += f"notebook.stage('sandbox', '--db', {str(tmp_path / 's')!r})"
    manager, client = start_new_kernel(env={**os.environ, "IPYTHONDIR": str(tmp_path / "ipython")})
    try:
        request = client.execute(code)
        printed = ""
        while "http://127.0.0.1" not in printed or printed.endswith("1:"):
            message = client.get_iopub_msg(timeout=60)
            printed += message["content"].get("text", "")
        manager.interrupt_kernel()
        replies = iter(
            lambda: client.get_shell_msg(timeout=30), None
        )  # on a busy machine, replies to kernel_info requests may arrive first
        content = next(reply["content"] for reply in replies if reply["parent_header"]["msg_id"] == request)
        assert content["ename"] == "KeyboardInterrupt", content
        with pytest.raises(URLError):
            urlopen(re.search(r"http://[\d.:]+", printed)[0], timeout=5)  # type: ignore[index]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_progress_is_redrawn_once_per_second() -> None:
    now = iter(range(100))
    lines = [f"\x1b[2K{n} %\r" for n in range(8)]
    assert [line.split()[0] for line in notebook.thin_progress(lines, clock=lambda: next(now) / 4)] == ["0", "4"]


def test_a_shorter_line_overwrites_a_longer_one_completely() -> None:
    lines = list(notebook.thin_progress(["a long line that is overwritten\r", "done\n", "next\n"]))
    assert lines[1].startswith("done ") and len(lines[1]) > len(lines[0]) and lines[2] == "next\n"


def test_table_does_not_convert_text(tmp_path: Path) -> None:
    rows = [Candidate("t1_a", "007", 3, "?", "NA", "null", None), Candidate("t1_a", "1e5", 4, "?", "", "g", -1.5)]
    schema.write_rows(tmp_path / "c.csv", Candidate, rows)
    table = notebook.table(tmp_path / "c.csv")
    assert table[["candidate_id", "reply", "generator"]].to_numpy().tolist() == [["007", "NA", "null"], ["1e5", "", "g"]]
    assert table["seed"].sum() == 7 and table["log_likelihood"].isna().tolist() == [True, False] and table["log_likelihood"].sum() == -1.5
    schema.write_rows(tmp_path / "c.csv", Candidate, [])
    assert list(notebook.table(tmp_path / "c.csv").columns) == schema.columns_of(Candidate)


def test_table_rejects_text_in_a_number_column(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("comment_id,seed\nt1_a,seven\n")
    with pytest.raises(UserError, match=r"c\.csv: column seed: .*seven"):
        notebook.table(tmp_path / "c.csv")
    with pytest.raises(UserError, match="no such file"):
        notebook.table(tmp_path / "none.csv")


def test_set_up_creates_the_work_folder(tmp_path: Path) -> None:
    assert notebook.set_up(str(tmp_path / "a" / "b")).is_dir()
    with pytest.raises(UserError, match="DRIVE works in Colab only"):
        notebook.set_up(tmp_path, drive=True)


def test_stages_run_in_the_projects_environment_if_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "ROOT", tmp_path)
    assert notebook.python() == sys.executable
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    assert notebook.python() == str(tmp_path / ".venv" / "bin" / "python")


def test_a_page_is_shown_in_a_sandboxed_iframe(tmp_path: Path) -> None:
    (tmp_path / "p.html").write_text('<p title="x">&amp; é</p><script>alert(1)</script>', encoding="utf-8")
    data = notebook.page(tmp_path / "p.html").data
    assert "<iframe sandbox srcdoc=" in data and "<script>" not in data and "&lt;p title=&quot;x&quot;&gt;&amp;amp; é" in data


def test_a_missing_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no trained model; run the training cell first"):
        notebook.card(tmp_path)
