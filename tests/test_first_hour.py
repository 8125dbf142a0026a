"""What a new user meets first: help, version, completion, hints, init, doctor, chat, waits and interruptions."""

from __future__ import annotations

import io
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from bot import cli, config, files, schema
from bot.__main__ import GROUPS, STAGES, version
from bot.cli import ROOT, UserError
from bot.online import chat, doctor, generate
from bot.schema import Candidate
from bot.train import loop
from bot.weights import cards, listing, serving
from tests import lively, tiny

RUN_BOT = [sys.executable, str(ROOT / "run_bot.py")]


def bot(*arguments: str, given: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command line, with 80 columns."""
    environment = {**os.environ, "COLUMNS": "80", **variables}
    return subprocess.run([*RUN_BOT, *arguments], input=given, env=environment, capture_output=True, text=True, check=False, timeout=120)


# --- help -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", ["", *GROUPS])
def test_the_list_of_commands_has_every_name_and_no_cut_text(group: str) -> None:
    shown = bot(*group.split(), "--help").stdout
    names = [name.removeprefix(group).strip() for name in STAGES if (name.split()[0] == group if group else name.split()[0] not in GROUPS)]
    listed = dict(re.findall(r"^  ([a-z-]+(?: [a-z-]+)?)  +(\S.*)$", shown.partition("Commands:")[2], re.MULTILINE))
    assert names and set(names) <= listed.keys() and not [line for line in shown.splitlines() if len(line) > 80]
    assert not [text for text in listed.values() if text.endswith("...")]


def test_version() -> None:
    assert bot("--version").stdout.strip() == version() == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.mark.parametrize(
    ("words", "expected", "unexpected"),
    [
        ("tra", {"train"}, {"run", "extract"}),
        ("train l", {"lm"}, {"realism"}),
        ("train lm --pa", {"--pairs", "--patience"}, {"--data"}),
        ("judge table --", {"--help"}, {"--port"}),
        ("run --s", {"--sandbox", "--seed"}, {"--post"}),
    ],
)
def test_completion(words: str, expected: set[str], unexpected: set[str]) -> None:
    line = f"./run_bot.py {words}"
    offered = set(bot(COMP_WORDS=line, COMP_CWORD=str(len(line.split()) - 1), **{"_RUN_BOT.PY_COMPLETE": "complete_bash"}).stdout.split())
    assert expected <= offered and not unexpected & offered


def test_the_shell_can_complete_the_program_by_its_path() -> None:
    assert os.access(ROOT / "run_bot.py", os.X_OK)
    loaded = subprocess.run(
        ["bash", "--norc", "-c", 'source <("$@" --show-completion bash); complete -p run_bot.py', "-", *RUN_BOT],
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert loaded.stdout.endswith(" run_bot.py\n"), loaded.stderr


@pytest.mark.parametrize(
    ("typed", "meant"), [(["statsu"], "status"), (["train", "realsim"], "realism"), (["run", "--sandbx"], "--sandbox")]
)
def test_a_misspelt_command_or_option(typed: list[str], meant: str) -> None:
    done = bot(*typed)
    assert done.returncode == 2 and meant in done.stderr


# --- init -----------------------------------------------------------------------------------------------------------------


def test_init_asks_until_the_answers_are_valid(tmp_path: Path) -> None:
    answers = ["", "r/a b/c", "r/Books, askhistorians", "x", "u/my_bot", "my bot", "", "y", "?", "u/mod 👍, «mail» of\x7f 1 May", "u/other"]
    done = bot("init", "--out", str(tmp_path / "my.toml"), given="\n".join(answers) + "\n")
    assert done.returncode == 0, done.stderr
    loaded = config.load(tmp_path / "my.toml")
    assert loaded.fetch.subreddits == ["books", "askhistorians"]
    assert re.fullmatch(r"\w+:reply-bot:0\.1 \(by /u/my_bot\)", loaded.reddit.user_agent)
    assert [(each.subreddit, each.permitted_by) for each in loaded.submit.allowed] == [
        ("books", "u/mod 👍, «mail» of\x7f 1 May"),
        ("askhistorians", "u/other"),
    ]
    before = (tmp_path / "my.toml").read_bytes()
    again = bot("init", "--out", str(tmp_path / "my.toml"), given="\n".join(answers))
    assert again.returncode == 1 and "already exists" in again.stderr and (tmp_path / "my.toml").read_bytes() == before


def test_init_for_dry_runs(tmp_path: Path) -> None:
    done = bot("init", "--out", str(tmp_path / "dry.toml"), given="books\nmy_bot\n\nn\n")
    assert config.load(tmp_path / "dry.toml").submit.allowed == [] and "--post" not in done.stdout
    done = bot("init", "--out", str(tmp_path / "half.toml"), given="books\n")
    assert done.returncode == 1 and "nothing was written" in done.stderr and not (tmp_path / "half.toml").exists()


@pytest.mark.usefixtures("cold")
@pytest.mark.parametrize("arguments", [("init", "--out", "i.toml"), ("judge", "scored.csv", "--reader", "ann", "--out", "j.csv")])
def test_closed_and_garbled_standard_input(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    names = ["comment_id", "candidate_id", "comment", "reply", "verdict"]
    rows = [["t1_a", f"t1_a-{n}", "Why? \N{GRINNING FACE}", f"Because {n}.", verdict] for n, verdict in enumerate(("chosen", "kept"))]
    schema.write_table(tmp_path / "scored.csv", names, [dict(zip(names, row, strict=True)) for row in rows])
    command = " ".join(map(shlex.quote, [*RUN_BOT, *arguments]))
    for script, encoding in ((f"{command} <&-", "latin-1:strict"), (f"printf 'b\\377\\n' | {command}", "utf-8:strict")):
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        done = subprocess.run(["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, encoding="latin-1", check=False)
        assert done.returncode in (0, 1) and "Traceback" not in done.stderr, done.stderr
        assert "nothing was written" in done.stderr or "0 of 1 pairs read by ann" in done.stdout


# --- doctor ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory, lively_models: Path) -> Path:
    return lively.write_config(tmp_path_factory.mktemp("config"), lively_models)


def states(config_file: Path | None) -> dict[str, tuple[str, str]]:
    return {check.name: (check.state, check.detail) for check in doctor.checks(config_file)}


def test_doctor_names_what_is_missing(config_file: Path, lively_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "PORT", lively.free_port())
    found = states(config_file)
    assert not [name for name, (state, _) in found.items() if state == doctor.FAIL]
    assert found["generate.model"] == ("ok", str(lively_models / "lm")) and found["rank.upvote"][0] == "note"
    assert found["Reddit"][0] == "note" and "praw_client_id" in found["Reddit"][1]
    assert "none yet" in found["ledger"][1] and found["web"][0] == "ok" and found["may post in"][1].startswith("no subreddit")

    broken = tmp_path / "broken.toml"
    broken.write_text(
        config_file.read_text().replace('/lm"', '/nothing"').replace(str(config_file.parent / "ledger.sqlite"), str(tmp_path))
    )
    found = states(broken)
    assert found["generate.model"][0] == found["ledger"][0] == "FAIL" and "no model here" in found["generate.model"][1]
    with pytest.raises(UserError, match=r"repair first: generate.model, ledger"):
        doctor.main(broken)
    broken.write_text("[generate]\ntemprature = 1\n")
    assert states(broken)["config"][0] == "FAIL" and "did you mean generate.temperature" in states(broken)["config"][1]


def test_doctor_notices_ports_runs_and_packages(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert doctor.port(taken.getsockname()[1]).state == "note"
    runs = tmp_path / "runs"
    assert doctor.runs(runs, time.time()).state == "ok"
    with files.run_folder(runs / "one", make=True):
        pass
    assert doctor.runs(runs, time.time() + 29 * doctor.DAY).state == "ok"
    old = doctor.runs(runs, time.time() + 31 * doctor.DAY)
    assert old.state == "note" and "1 in" in old.detail and "31 days" in old.detail and "prune" in old.detail
    assert doctor.packages("pytest==0.1\nnever-heard-of==1.0\n", doctor.installed_version).detail.startswith(
        f"pytest {pytest.__version__} ("
    )
    assert doctor.packages(f"pytest=={pytest.__version__}\n# a comment\n", doctor.installed_version).state == "ok"


def test_doctor_asks_whether_the_servers_answer(config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    nobody = lively.free_port()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        local.bind("redis.socket")
        local.listen()
        answering = f"127.0.0.1:{server.getsockname()[1]}"
        settings = 'url = "http://ADDRESS/v1"\nmodel = "m"\nprompt = "chat"\n'
        (tmp_path / "served").mkdir()
        missing = f"unix://{tmp_path}/gone.socket"
        for address, redis, state in (
            (answering, f"redis://{answering}/0", "ok"),
            (f"127.0.0.1:{nobody}", missing, "FAIL"),
        ):
            (tmp_path / "served" / "server.toml").write_text(settings.replace("ADDRESS", address), encoding="utf-8")
            monkeypatch.setenv("BOT_GENERATE__BACKEND", "openai-server")
            monkeypatch.setenv("BOT_GENERATE__MODEL", str(tmp_path / "served"))
            monkeypatch.setenv("BOT_WEB__REDIS_URL", redis)
            found = states(config_file)
            assert (found["generator's server"][0], found["Redis"][0]) == (state, state)
            assert address in found["generator's server"][1]
        assert doctor.reachable("Redis", f"unix://{tmp_path}/redis.socket").state == "ok"
    for address in ("http://127.0.0.1:99999/v1", "http://[::1/v1", f"http://127.0.0.1:{nobody}/v1"):
        assert doctor.reachable("x", address).state == "FAIL"


# --- models list ------------------------------------------------------------------------------------------------------------


def test_models_list_shows_trained_models_and_whether_their_exports_are_current(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "ranker"
    cards.write_card(tiny.encoder(folder), cards.ModelCard("upvote", "", "", "full"))
    assert listing.trained(tmp_path) == [folder]
    name, kind, *_, shown, card = listing.row(folder)
    assert (name, kind, shown) == ("ranker", cards.read_card(folder).kind, "none") and card.endswith("ranker/model.json")
    made = serving.serving_folder(folder, "int8")
    made.mkdir(parents=True)
    (made / serving.SERVING_FILE).write_text(f'{{"made_from": {str(serving.origin(folder)).replace(chr(39), chr(34))}}}')
    assert listing.exports(folder) == "int8"
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    assert listing.exports(folder) == "int8 (outdated)"
    (folder / "model.json").write_text("{")
    listing.list_command(tmp_path)
    out = capsys.readouterr().out
    assert "readable)" in out and "minilm-l6" in out  # a long path is wrapped
    with pytest.raises(UserError, match="no such folder"):
        listing.list_command(tmp_path / "none")


# --- generate -------------------------------------------------------------------------------------------------------------


def test_generate_for_one_comment(config_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    options = {"comment": lively.COMMENT, "out": out, "config_file": config_file, "num_candidates": 3}
    generate.main(**options)
    rows = schema.read_rows(out, Candidate)
    assert len(rows) == 3 and {row.comment for row in rows} == {lively.COMMENT} and rows[0].generator.startswith("ctranslate2:")
    generate.main(**options, engine="transformers", temperature=0.01)
    rows = schema.read_rows(out, Candidate)
    assert rows[0].generator.startswith("transformers:") and len({row.reply for row in rows}) == 1
    other = tiny.language_model(tmp_path / "other")
    generate.main(**options, engine="transformers", model=other)
    assert schema.read_rows(out, Candidate)[0].generator == "transformers:other"
    for wrong in ({"comment": "hi", "sources": [out], "out": out}, {}, {"run": tmp_path, "comment": "hi"}, {"sources": [out]}):
        with pytest.raises(UserError, match="give either --run DIR"):
            generate.main(**wrong)
    with pytest.raises(UserError, match="--text: no comment can be answered"):
        generate.main(comment="[deleted]", out=out, config_file=config_file)


# --- chat -----------------------------------------------------------------------------------------------------------------


def test_chat_answers_line_by_line_and_refuses_as_a_run_does(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{lively.COMMENT}\n\n[removed]\ni want to kill myself\n{lively.COMMENT}\n"))
    chat.main(config_file=config_file)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[0].removeprefix("bot: ") != lines[0]
    assert lines[1].startswith("(not answered: ") and lines[2] == lines[3] and "suicide" in lines[2]  # the line before is judged too


def test_what_was_said_before_goes_with_a_line() -> None:
    turns = [chat.Turn(f"line {number}", f"reply {number}" if number % 2 else "") for number in range(30)]
    question = chat.question("Now?", turns)
    assert question.comment == "Now?" and question.above == tuple(f"line {number}" for number in range(25, 30))
    assert question.thread[-1] == "line 29" and len(question.thread) == 20 and "" not in question.own and question.own[-1] == "reply 29"


def test_models_are_checked_before_they_are_loaded(config_file: Path, tmp_path: Path) -> None:
    cards.write_card(tmp_path, cards.ModelCard("upvote", "", "", "full"))
    for wrong, message in ((Path("/none"), "no model here"), (tmp_path, "kind upvote; set --model to a folder of kind lm")):
        with pytest.raises(UserError, match=message):
            chat.main(wrong, config_file)


# --- waits ----------------------------------------------------------------------------------------------------------------


def in_terminal(program: str) -> str:
    """What a Python program prints to a terminal."""
    main, side = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=side, stdout=side, stderr=side, env={**os.environ, "TERM": "xterm"}
    )
    os.close(side)
    shown = b""
    with suppress(OSError):  # the terminal is closed
        while part := os.read(main, 65_536):
            shown += part
    process.wait()
    os.close(main)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


def test_a_wait_shows_what_and_how_long() -> None:
    shown = in_terminal("import time\nfrom bot import cli\nwith cli.waiting('measuring the model'): time.sleep(1.3)")
    assert "measuring the model" in shown and "0:00:01" in shown
    shown = in_terminal("import time\nfrom bot import cli\nfor _ in cli.track([1, 2], 'months'): time.sleep(1.1)")
    assert "months" in shown and "0/2" in shown and "1/2" in shown and "0:00:01" in shown


def test_a_short_wait_shows_nothing_and_nested_ones_have_a_line_each() -> None:
    program = """
import time
from bot import cli
with cli.waiting("short"): time.sleep(0.2)
with cli.waiting("outer"), cli.waiting("inner"): time.sleep(1.4)
"""
    shown = in_terminal(program)
    assert "short" not in shown
    assert re.search(r"outer 0:00:01\s*\n\S inner 0:00:01", shown.replace("\r", ""))


def test_a_wait_prints_nothing_outside_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with cli.waiting("measuring"):
        assert list(cli.track([1, 2], "months")) == [1, 2]
    assert capfd.readouterr() == ("", "")


def test_a_loss_that_is_not_a_number_stops_the_training() -> None:
    losses = [0.5]
    with pytest.raises(UserError, match=r"step 2: the loss is nan; .*lower --learning-rate"):
        loop.run_steps(losses, 3, lambda step: float("nan"), lambda: None)
    assert losses == [0.5]


def test_a_validation_loss_that_is_not_a_number_stops_the_training(tmp_path: Path) -> None:
    run = loop.Run(tmp_path / "checkpoint.npz", "key", [])
    with pytest.raises(UserError, match=r"epoch 1: the validation loss is nan; .*lower --learning-rate"):
        run.fit([2, 2], lambda step: 0.5, lambda: float("nan"), 1, str)
    assert run.losses == [0.5, 0.5] and run.val_losses == {}


# --- interruptions --------------------------------------------------------------------------------------------------------


def has_child(parent: int, stage: str) -> bool:
    """Whether a process has started this stage."""
    try:
        return any(stage in each.cmdline() for each in psutil.Process(parent).children())
    except psutil.Error:  # one that has just ended
        return False


def interrupted(arguments: Sequence[str], folder: Path) -> tuple[int, str]:
    """Press Ctrl-C once the first stage runs. The working folder is `folder`."""
    process = subprocess.Popen(
        [*RUN_BOT, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
        env=lively.cold_environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell ignores it in what it starts in the background
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not has_child(process.pid, "fetch") and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def test_ctrl_c_says_how_to_resume(config_file: Path, tmp_path: Path) -> None:
    call = ["run", "--sandbox", "--limit", "1", "--config", str(config_file)]
    status, errors = interrupted(call, tmp_path)
    (folder,) = (tmp_path / "data" / "runs").iterdir()
    assert status == 130
    assert errors.splitlines()[-1] == f"run_bot.py run: interrupted; repeat the command with --out data/runs/{folder.name} to resume"
    assert errors.count("interrupted") == 1 and "Traceback" not in errors
    (tmp_path / "other").mkdir()
    status, errors = interrupted([*call, "--out", "own"], tmp_path / "other")
    assert status == 130 and errors.splitlines()[-1] == "run_bot.py run: interrupted; repeat the command to resume"


def test_a_command_that_cannot_resume_does_not_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise KeyboardInterrupt

    for resumes, expected in ((True, "x: interrupted; repeat the command to resume\n"), (False, "x: interrupted\n")):
        with pytest.raises(SystemExit) as end:
            cli.run_command(main, "x", [], resumes)
        assert end.value.code == 130 and capsys.readouterr().err == expected


def test_cron_prints_nothing_while_another_run_is_in_progress(tmp_path: Path) -> None:
    with files.run_folder(tmp_path / "r", make=True):
        quiet = bot("run", "--sandbox", "--quiet", "--out", str(tmp_path / "r"))
        loud = bot("run", "--sandbox", "--out", str(tmp_path / "r"))
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (75, "", "")
    assert loud.returncode == 75 and "another run is using" in loud.stderr
