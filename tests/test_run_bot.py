"""The whole online pipeline with the real PRAW, the sandbox, worker processes and tiny models."""

from __future__ import annotations

import html
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import requests

from bot import sandbox, schema
from bot.__main__ import STAGES, main
from bot.cli import ROOT
from bot.export import to_ctranslate2
from bot.posting import ledger
from bot.sandbox import server
from bot.sandbox.process import sandbox_process
from bot.schema import Candidate, Comment, Scored, Submitted
from tests import tiny

RUN = [sys.executable, str(ROOT / "run_bot.py"), "run", "--sandbox", "--limit", "3"]
THRESHOLD = 0.01  # low, because untrained rankers give arbitrary scores
FILES = ("comments.csv", "context.csv", "skipped.csv", "candidates.csv", "scores.csv", "scored.csv", "chosen.csv", "report.html")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    lm, realism, upvote = tiny.language_model(folder / "lm"), tiny.encoder(folder / "realism"), tiny.encoder(folder / "upvote", seed=5)
    for each in (lm, realism):  # in this process, which has PyTorch loaded; the first run exports the other one
        to_ctranslate2.export(each, "int8")
    path = folder / "config.toml"
    path.write_text(
        f'[generate]\nmodel = "{lm}"\nnum_candidates = 4\nmax_new_tokens = 10\nbatch_size = 1\n'
        f'[rank]\nrealism = "{realism}"\nupvote = "{upvote}"\nrelevance = ""\nchoice = ""\n[rank.weights]\nchoice = 0\nrelevance = 0\n'
        f"[choose]\nminimum_realism = {THRESHOLD}\nminimum_rank = 0.0\nminimum_words = 1\n"
    )
    return path


@pytest.fixture(scope="module")
def whole(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without interruption that posts to the sandbox."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    done = run(config, folder, "--post")
    assert done.returncode == 0 and "models export" in done.stdout, done.stdout + done.stderr
    return folder


def command(config: Path, folder: Path) -> list[str]:
    return [*RUN, "--config", str(config), "--out", str(folder)]


def run(config: Path, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command(config, folder), *more], capture_output=True, text=True, timeout=500, check=False)


def test_a_ranker_with_a_weight_must_be_set_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[rank]\nchoice = ""\n')
    done = run(tmp_path / "c.toml", tmp_path / "run")
    assert done.returncode == 78 and "rank.choice is not set, but rank.weights.choice is" in done.stderr
    assert not (tmp_path / "run").exists()


def test_files_match_their_contracts(whole: Path) -> None:
    comments = schema.read_rows(whole / "comments.csv", Comment)
    candidates = schema.read_rows(whole / "candidates.csv", Candidate)
    scored = schema.read_rows(whole / "scored.csv", Scored)
    assert len(comments) == 3 and len({comment.thread_id for comment in comments}) == 3
    assert Counter(row.comment_id for row in candidates) == {comment.comment_id: 4 for comment in comments}
    assert [row.candidate_id for row in scored] == [row.candidate_id for row in candidates]
    for row in scored:
        assert row.realism_score is not None and 0 <= row.realism_score <= 1
        assert row.upvote_score is not None and 0 <= row.upvote_score <= 1 and row.rank_score is not None
        assert 0 < row.rank_score < 1
        assert row.relevance_score is None
        assert row.verdict in ("chosen", "kept", "refused") and bool(row.reason) == (row.verdict != "chosen")
    chosen = schema.read_rows(whole / "chosen.csv", Scored)
    assert chosen == [row for row in scored if row.verdict == "chosen"] and 0 < len(chosen) <= 3
    assert all((whole / name).exists() for name in FILES)
    page = (whole / "report.html").read_text(encoding="utf-8")
    assert all(html.escape(comment.title) in page or comment.title in page for comment in comments)


def test_chosen_replies_are_posted_once(whole: Path, config: Path) -> None:
    chosen = {row.comment_id: row.reply for row in schema.read_rows(whole / "chosen.csv", Scored)}
    submitted = schema.read_rows(whole / "submitted.csv", Submitted)
    assert {row.comment_id: row.outcome for row in submitted} == dict.fromkeys(chosen, "posted")
    (whole / "submitted.csv").unlink()  # as after a kill between posting and recording
    again = run(config, whole, "--post")
    assert again.returncode == 0, again.stderr
    assert [row.reply_id for row in schema.read_rows(whole / "submitted.csv", Submitted)] == [row.reply_id for row in submitted]
    with server.serve(whole / "sandbox.sqlite") as box:
        own_comments = box.store.comments_by(sandbox.USERNAME)
        assert len(own_comments) == len(chosen) and all("I am a bot" in row["body"] for row in own_comments)


def test_after_the_sandbox(whole: Path, tmp_path: Path) -> None:
    """`status`, `harvest` and `sandbox` of a run that has ended."""
    links = [row.reply_id.removeprefix("t1_") for row in schema.read_rows(whole / "submitted.csv", Submitted)]
    base = [sys.executable, str(ROOT / "run_bot.py")]

    def ended(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*base, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)

    status = ended("status", "--run", str(whole))
    assert status.returncode == 0 and f"posted: {len(links)}" in status.stdout and f"sandbox --run {whole}" in status.stdout
    harvest = ended("harvest", "--run", str(whole), "--out", "h.csv")
    assert harvest.returncode == 0 and f"{len(links)} replies are posted; the next measurement is due in " in harvest.stdout, harvest.stderr
    with subprocess.Popen([*base, "sandbox", "--run", str(whole)], stdout=subprocess.PIPE, text=True) as box:
        assert box.stdout is not None
        lines = [box.stdout.readline().strip() for _ in range(2 + len(links))]
        pages = [requests.get(line.removeprefix("posted: "), timeout=10).text for line in lines[2:]]
        box.terminate()
    assert sorted(line.rpartition("/")[2] for line in lines[2:]) == sorted(links)
    assert all("I am a bot" in page for page in pages)
    for arguments in (("status", "--run", "."), ("harvest", "--run", "."), ("sandbox", "--run", ".")):
        assert ended(*arguments).returncode == 1 and not (tmp_path / ".lock").exists()


def test_replies_are_posted_only_where_permitted(whole: Path, tmp_path: Path) -> None:
    """Configured as for Reddit itself: the config has the URL and the permissions. A second sandbox has the same comments."""
    settings = tmp_path / "settings.toml"
    call = [sys.executable, str(ROOT / "run_bot.py"), "submit", "--config", str(settings), "--run", str(tmp_path / "run"), "--post"]
    (tmp_path / "run").mkdir()
    for name in ("comments.csv", "chosen.csv"):
        shutil.copy(whole / name, tmp_path / "run")
    with sandbox_process(tmp_path) as url:
        settings.write_text(
            f'[reddit]\nurl = "{url}"\n[submit]\nledger = "{tmp_path}/ledger.sqlite"\nkill_switch = "{tmp_path}/STOP"\n'
            '[[submit.allowed]]\nsubreddit = "sandbox_home"\npermitted_by = "u/a_moderator"\n'
        )
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    chosen = schema.read_rows(tmp_path / "run" / "chosen.csv", Scored)
    outcomes = [row.outcome for row in schema.read_rows(tmp_path / "run" / "submitted.csv", Submitted)]
    assert outcomes == ["posted" if row.subreddit == "sandbox_home" else "not_allowed" for row in chosen]
    assert set(outcomes) == {"posted", "not_allowed"}


@pytest.mark.usefixtures("cold")
def test_kill_9_of_each_stage_and_the_same_command_again(config: Path, whole: Path, tmp_path: Path) -> None:
    """The worker that starts when a file appears is killed. The last run gives the same result as an uninterrupted one."""
    folder = tmp_path / "run"
    for stage, sign in (("generate", "comments.csv"), ("rank", "candidates.csv"), ("choose", "scores.csv")):
        process = subprocess.Popen(command(config, folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120
        killed = False
        while not killed and process.poll() is None and time.monotonic() < deadline:
            if (folder / sign).exists() and (worker := child(process.pid, f"bot\0{stage}")):
                os.kill(worker, signal.SIGKILL)
                killed = True
            time.sleep(0.02)
        _, errors = process.communicate(timeout=60)
        assert killed and process.returncode == 1, errors
        assert f"{stage} was killed by signal 9" in errors
    done = run(config, folder)
    assert done.returncode == 0, done.stderr
    for name in ("candidates.csv", "scores.csv", "scored.csv", "chosen.csv"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    # a dry run posts nothing and prints a table
    assert "models export" not in done.stdout  # already exported by the first run
    with server.serve(folder / "sandbox.sqlite") as box:
        assert box.store.comments_by(sandbox.USERNAME) == []
    assert not (folder / "submitted.csv").exists()
    assert str(folder) in done.stdout.replace("\n", "") and "realism" in done.stdout.lower()


def child(parent: int, name: str) -> int | None:
    """The child process of `parent` whose command line contains `name`."""
    for entry in Path("/proc").iterdir():
        try:
            if not entry.name.isdigit() or name.encode() not in (entry / "cmdline").read_bytes():
                continue
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                return int(entry.name)
        except (OSError, ValueError):
            continue
    return None


@pytest.mark.usefixtures("cold")
def test_kill_9_of_a_run_leaves_no_orphan(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = subprocess.Popen(command(config, folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (worker := child(process.pid, "bot\0fetch")) and time.monotonic() < deadline:
        time.sleep(0.02)
    box = child(process.pid, "bot\0sandbox")
    assert worker and box
    process.kill()
    process.wait()
    for left in (worker, box):
        while Path(f"/proc/{left}").exists() and "Z" not in Path(f"/proc/{left}/stat").read_text().rpartition(")")[2].split()[0]:
            assert time.monotonic() < deadline, "a worker survived the run"
            time.sleep(0.05)


def test_posting_needs_a_permission(tmp_path: Path) -> None:
    call = [sys.executable, str(ROOT / "run_bot.py"), "run", "--post", "--out", str(tmp_path / "r")]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 78 and "submit.allowed is empty" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("held", ["ledger.run", "ledger.sqlite"])
def test_a_second_posting_run_sends_no_request_to_reddit(tmp_path: Path, held: str) -> None:
    """Another run folder with the same ledger, while the first run is starting or submitting."""
    settings = tmp_path / "settings.toml"
    settings.write_text(
        f'[reddit]\nurl = "http://127.0.0.1:9"\n[fetch]\nsubreddits = ["books"]\n[submit]\nledger = "{tmp_path}/ledger.sqlite"\n'
        '[[submit.allowed]]\nsubreddit = "books"\npermitted_by = "u/a_moderator"\n'
    )
    call = [sys.executable, str(ROOT / "run_bot.py"), "run", "--post", "--config", str(settings), "--out", str(tmp_path / "r")]
    with ledger.lock(tmp_path / held):
        done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 75 and "another run is using" in done.stderr and done.stderr.count("\n") == 1
    assert "fetch" not in done.stdout


def test_the_transformers_engine_writes_the_same_kinds_of_files(whole: Path, config: Path, tmp_path: Path) -> None:
    done = run(config, tmp_path / "r", "--engine", "transformers")
    assert done.returncode == 0, done.stderr
    names = [{row.generator for row in schema.read_rows(each / "candidates.csv", Candidate)} for each in (whole, tmp_path / "r")]
    assert names == [{"ctranslate2:lm-int8"}, {"transformers:lm"}]
    by_hand = {row.candidate_id: row for row in schema.read_rows(tmp_path / "r" / "scored.csv", Scored)}
    assert len(by_hand) == 12 and "models export" not in done.stdout
    shown = subprocess.run([*command(config, tmp_path / "x"), "--engine", "magic"], capture_output=True, text=True, check=False)
    assert shown.returncode == 1 and "magic: no such engine; choose one of ctranslate2, transformers" in shown.stderr


def test_a_second_run_in_the_same_folder_fails(config: Path, tmp_path: Path) -> None:
    from filelock import FileLock

    (tmp_path / "r").mkdir()
    with FileLock(tmp_path / "r" / ".lock"):
        done = run(config, tmp_path / "r")
    assert done.returncode == 75 and "another run is using" in done.stderr
    assert not (tmp_path / "r" / "comments.csv").exists()


def test_a_failing_stage_gives_one_line_and_its_status(config: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text(config.read_text().replace("num_candidates = 4", "num_candidates = 0"))
    done = run(bad, tmp_path / "r")
    assert done.returncode == 78 and "generate.num_candidates" in done.stderr and done.stderr.count("\n") == 1
    bad.write_text(config.read_text().replace('model = "', 'model = "/nowhere'))
    done = run(bad, tmp_path / "r")
    assert done.returncode == 1 and "no model here" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.usefixtures("cold")
def test_help_and_fetch_load_no_framework() -> None:
    """Only the workers that need TensorFlow or PyTorch import them."""
    check = (
        "import sys; sys.argv = ['run_bot.py', '--help']\nimport runpy\n"
        "try: runpy.run_path('run_bot.py', run_name='__main__')\nexcept SystemExit: pass\n"
        "import bot.online.fetch, bot.online.choose, bot.online.submit, bot.online.generate, bot.online.rank\n"
        "import bot.pipeline, bot.report.report, bot.sandbox.server\n"
        "loaded = {'torch', 'tensorflow', 'transformers', 'keras'} & sys.modules.keys()\nassert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "generate" in done.stdout


@pytest.mark.parametrize("stage", list(STAGES))
def test_help_of_every_stage_shows_its_options_and_the_typed_command(
    stage: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["run_bot.py", *stage.split(), "--help"])
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        main("run_bot.py")
    out = capsys.readouterr().out
    assert end.value.code == 0 and f"Usage: run_bot.py {stage} " in out
    assert not [line for line in out.splitlines() if len(line) > 80]
    assert "<bool>" not in out and not re.search(r"--[\w-]*…", out)  # a flag takes no value, and no name is cut


def test_python_m_bot_is_the_same() -> None:
    shown = []
    for call in (["-m", "bot"], ["run_bot.py"]):
        for arguments in (
            ["--help"],
            ["score", "--help"],
            ["score", "--nonsense"],
            ["train"],
            ["nonsense"],
            ["status", "--config", "none.toml"],
        ):
            done = subprocess.run([sys.executable, *call, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
            shown.append((done.returncode, *(each.replace("python -m bot", "run_bot.py") for each in (done.stdout, done.stderr))))
    half = len(shown) // 2
    assert [code for code, _, _ in shown[:half]] == [0, 0, 2, 2, 2, 78]
    assert [(code, out.split(), error.split()) for code, out, error in shown[:half]] == [
        (code, out.split(), error.split()) for code, out, error in shown[half:]
    ]


def test_the_error_outside_the_environment_suggests_a_remedy(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "bot", tmp_path / "bot", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run_bot.py", tmp_path)
    call = [
        sys._base_executable, "-S", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['run_bot.py', 'status']\n"
        "from bot.__main__ import main; main('run_bot.py')",
    ]  # type: ignore[attr-defined]  # fmt: skip
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "run `make setup`" in done.stderr
