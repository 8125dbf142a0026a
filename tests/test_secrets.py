"""Secrets do not leak: into no message, no stage that does not need them, and no module of the working folder."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import praw.config
import pytest

from bot import cli, config, files, pipeline
from bot.__main__ import STAGES
from bot.cli import ROOT, NoPermission, WrongSettings
from bot.config import RedditSettings
from bot.online import answer
from bot.reddit import client as reddit
from bot.report.journal import Journal

SECRET = "hunter2-S3CR3T"
AGENT = 'user_agent = "linux:reply-bot:0.1 (by /u/me_myself)"'


def refusal(path: Path | None) -> str:
    with pytest.raises(WrongSettings) as caught:
        config.load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- the config -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "line", "name"),
    [
        (f'[reddit]\n{AGENT}\npwd = "{SECRET}"\n', 3, "reddit.pwd"),
        (f'[reddit]\n\n# mine\nPasswort = "{SECRET}"\n', 4, "reddit.Passwort"),
        (f'[fetch]\nlisting = "new"\n[reddit]\nauth = "{SECRET}"\n', 4, "reddit.auth"),
        (f'[bot]\nsession_cookie = "{SECRET}"\n', 2, "bot.session_cookie"),
        (f'reddit.bearer = "{SECRET}"\n', 1, "reddit.bearer"),
        (f'[reddit]\n"my key" = "{SECRET}"\n', 2, "reddit.my key"),
        (f'[[submit.allowed]]\nsubreddit = "a"\n[[submit.allowed]]\nsecretToken = "{SECRET}"\n', 4, "submit.allowed.1.secretToken"),
        (f'[reddit]\nurl = "http://me:{SECRET}@127.0.0.1:80"\n', 2, "reddit.url"),
    ],
)
def test_a_credential_is_named_with_file_and_line(tmp_path: Path, content: str, line: int, name: str) -> None:
    path = tmp_path / "my.toml"
    path.write_text(content)
    message = refusal(path)
    assert message.startswith(f"{path}: line {line}: {name} is a credential; ") and SECRET not in message


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (f'[reddit]\nhaslo = "{SECRET}"\n', "line 2 setting reddit.haslo: "),
        (f'[reddit]\ntimeout_seconds = "{SECRET}"\n', "line 2 setting reddit.timeout_seconds: "),
        (f'[fetch]\nlisting = "{SECRET}"\n', "line 2 setting fetch.listing: "),
        (f'[submit]\ndisclosure = "{SECRET}"\n', "line 2 setting submit.disclosure: "),
        (f'[[submit.allowed]]\nsubreddit = "{SECRET}"\npermitted_by = "u/mod"\n', "line 2 setting submit.allowed.0.subreddit: "),
        (f'[generate]\nmin_new_tokens = 90\nbackend = "{SECRET}"\n', "line 1 setting generate: "),
        (f'[bigquery]\nproject = "{SECRET}"\n', "line 2 setting bigquery.project: "),
        (f'reddit = "{SECRET}"\n', "line 1 setting reddit: "),
        (f"[reddit]\npassword {SECRET}\n", "not readable as TOML (line 2, column"),
        (f"[reddit]\nuser_agent = {SECRET}\n", "not readable as TOML (line 2, column"),
        (f'[reddit]\nuser_agent = "{SECRET}\n', "not readable as TOML (line 2, column"),
        (f"[{SECRET}]\n[{SECRET}]\n", "not readable as TOML (line 2, column"),
        (f'x = """{SECRET}', "not readable as TOML ("),
    ],
)
def test_a_value_is_never_repeated(tmp_path: Path, content: str, name: str) -> None:
    path = tmp_path / "my.toml"
    path.write_text(content)
    message = refusal(path)
    assert message.startswith(f"{path}: {name}") and SECRET not in message


@pytest.mark.parametrize(
    ("variable", "value", "start"),
    [
        ("BOT_REDDIT__PWD", SECRET, "environment: BOT_REDDIT__PWD is a credential; "),
        ("BOT_REDDIT__BEARER_TOKEN", SECRET, "environment: BOT_REDDIT__BEARER_TOKEN is a credential; "),
        ("BOT_PASSWORT", SECRET, "environment: BOT_PASSWORT is a credential; "),
        ("BOT_REDDIT__TIMEOUT_SECONDS", SECRET, "BOT_REDDIT__TIMEOUT_SECONDS: setting reddit.timeout_seconds: "),
        ("BOT_REDDIT__HASLO", SECRET, "BOT_REDDIT__HASLO: setting reddit.haslo: "),
        ("BOT_REDDIT", json.dumps({"pwd": SECRET}), "BOT_REDDIT: setting reddit.pwd: "),
        ("BOT_REDDIT", SECRET, 'BOT_REDDIT: not readable as JSON; '),
        ("BOT_FETCH__SUBREDDITS", f'["{SECRET}"', 'BOT_FETCH__SUBREDDITS: not readable as JSON; '),
        (
            "BOT_SUBMIT__ALLOWED", json.dumps([{"subreddit": SECRET, "permitted_by": "u/mod"}]),
            "BOT_SUBMIT__ALLOWED: setting submit.allowed.0.subreddit: ",
        ),
    ],
)  # fmt: skip
def test_a_value_of_the_environment_is_never_repeated(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, start: str) -> None:
    monkeypatch.setenv(variable, value)
    message = refusal(None)
    assert message.startswith(start) and SECRET not in message


@pytest.mark.parametrize("settings", [{"url": SECRET}, {"user_agent": SECRET}, {"url": f"https://{SECRET}"}])
def test_the_client_never_repeats_a_value(settings: dict[str, str]) -> None:
    with pytest.raises(WrongSettings, match=f"reddit.{next(iter(settings))}: ") as caught:
        reddit.connect(RedditSettings(**settings))  # type: ignore[arg-type]
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("permitted_by", ["", "   ", "\t\n ", "...", "- -", " a ", "??????"])
def test_an_empty_permission_is_refused(monkeypatch: pytest.MonkeyPatch, permitted_by: str) -> None:
    monkeypatch.setenv("BOT_SUBMIT__ALLOWED", json.dumps([{"subreddit": "books", "permitted_by": permitted_by}]))
    assert "submit.allowed.0.permitted_by" in refusal(None)


# --- praw.ini -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f"[DEFAULT]\nclient_id=abc\npassword {SECRET}\n".encode(), "praw.ini: line 3 is not `name=value`"),
        (f"password={SECRET}\n".encode(), "praw.ini: line 1 is not in a section; begin with [DEFAULT]"),
        (f"[DEFAULT]\npassword={SECRET}\npassword={SECRET}\n".encode(), "praw.ini: line 3 repeats an earlier name"),
        (f"[{SECRET}]\n[{SECRET}]\n".encode(), "praw.ini: line 2 repeats an earlier name"),
        (f"[DEFAULT]\npassword={SECRET}\n".encode("utf-16"), "praw.ini: not UTF-8"),
        (f"[DEFAULT]\npassword={SECRET}é\n".encode("latin-1"), "praw.ini: not UTF-8"),
        (f"[DEFAULT]\nclient_id=a\nclient_secret=b\ntimeout={SECRET}\n".encode(), "a value of the wrong type (ValueError)"),
    ],
)
def test_a_malformed_praw_ini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.setattr(praw.config.Config, "CONFIG", None)
    Path("praw.ini").write_bytes(content)
    with pytest.raises(NoPermission) as caught:
        reddit.connect(RedditSettings(user_agent="linux:reply-bot:0.1 (by /u/me_myself)"))
    assert words in str(caught.value) and SECRET not in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.status == 77


# --- stages with access -----------------------------------------------------------------------------------------------------------

PRAW = {"praw_password": SECRET, "PRAW_CLIENT_SECRET": SECRET}


@pytest.fixture
def shows_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, str]]:
    """A function that starts a stage like `run`, but with a program that prints its environment, which is returned."""
    program = tmp_path / "program"
    program.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "import json, os, sys; print(json.dumps([sys.argv, dict(os.environ)]))" "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))

    def show(stage: str) -> dict[str, str]:
        environment = {**os.environ, **PRAW, "PYTHONPATH": f":/else:.:{os.pathsep}sub"}
        status, lines = pipeline.run_stage(stage, [], environment, Journal(tmp_path))
        arguments, given = json.loads(lines[0])
        assert status == 0 and arguments[1:4] == ["-P", "-m", "bot"]
        return given

    return show


@pytest.mark.parametrize("stage", ["generate", "rank", "choose", "models export"])
def test_a_stage_that_does_not_connect_to_reddit_has_no_credentials(shows_environment: Callable[[str], dict[str, str]], stage: str) -> None:
    given = shows_environment(stage)
    assert SECRET not in given.values()
    assert given["PYTHONPATH"] == f"{ROOT}{os.pathsep}/else" and given["PYTHONSAFEPATH"] == "1"


@pytest.mark.parametrize("stage", ["inbox", "fetch", "submit"])
def test_a_stage_that_connects_to_reddit_has_credentials(shows_environment: Callable[[str], dict[str, str]], stage: str) -> None:
    assert {name: value for name, value in shows_environment(stage).items() if value == SECRET} == PRAW


def test_the_stages_with_credentials_exist() -> None:
    assert STAGES.keys() > cli.ASKS_REDDIT and STAGES.keys() > cli.ASKS_GENERATOR


@pytest.mark.parametrize("stage", sorted(STAGES.keys() - {"report"}))  # its output is never read
def test_only_stages_that_need_it_have_the_key_of_a_server(
    shows_environment: Callable[[str], dict[str, str]], monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.setenv(cli.SERVER_KEY, "key of a server")
    given = {name for name, value in shows_environment(stage).items() if value == "key of a server"}
    assert given == ({cli.SERVER_KEY} if stage in ("generate", "run", "reply", "chat", "web", "leaderboard fill") else set())


@pytest.mark.usefixtures("cold")
def test_the_workers_of_the_pages_have_no_key_but_the_one_that_generates(
    shows_environment: Callable[[str], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """shows_environment: for the program that prints its environment."""
    monkeypatch.setenv(cli.SERVER_KEY, "key of a server")
    for name, value in PRAW.items():
        monkeypatch.setenv(name, value)
    for stage in answer.STAGES:
        process = answer.Process(stage, config.Settings()).start()
        assert process.stdout is not None
        _, given = json.loads(process.stdout.readline())
        process.kill()
        with process:
            pass
        assert (cli.SERVER_KEY in given) == (stage == "generate") and not PRAW.keys() & given.keys()


def test_a_command_without_need_for_credentials_removes_them(tmp_path: Path) -> None:
    """If a shell has credentials, the processes and modules of a command that does not need them cannot see them."""
    code = (
        "import os, sys\nfrom bot import __main__\nsys.argv = ['run_bot.py', sys.argv[1], '--help']\n"
        "try: __main__.main()\nexcept SystemExit: pass\nprint(sorted(name for name in os.environ if 'praw' in name.lower()))"
    )
    for stage, expected in (("choose", "[]"), ("web", "[]"), ("chat", "[]"), ("submit", "['PRAW_CLIENT_SECRET', 'praw_password']")):
        done = subprocess.run(
            [sys.executable, "-c", code, stage], cwd=ROOT, env={**os.environ, **PRAW}, capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == expected


# --- import path ------------------------------------------------------------------------------------------------------------------

NAMES = ("typer", "filelock", "praw", "json", "sqlite3", "pydantic", "importlib", "pathlib", "bot")


@pytest.mark.parametrize("python_path", [None, "", ":", ":/nowhere", ".", "relative:"])
@pytest.mark.parametrize("call", [[str(ROOT / "run_bot.py")], ["-m", "bot"]])
def test_no_module_is_taken_from_the_working_folder(tmp_path: Path, call: list[str], python_path: str | None) -> None:
    home = tmp_path / "home"
    home.mkdir()
    names = (
        NAMES if call != ["-m", "bot"] else ("typer", "filelock", "praw", "sqlite3", "pydantic")
    )  # Python imports the others itself, before the check
    for name in names:
        (home / f"{name}.py").write_text(f"open({str(home / 'PWNED')!r}, 'a').write({name!r})\nraise SystemExit(0)\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if python_path is not None:
        environment["PYTHONPATH"] = python_path
    if call == ["-m", "bot"]:
        environment["PYTHONPATH"] = f"{python_path or ''}{os.pathsep}{ROOT}"
    done = subprocess.run([sys.executable, *call, "status"], cwd=home, env=environment, capture_output=True, text=True, check=False)
    assert not (home / "PWNED").exists(), (home / "PWNED").read_text()
    assert done.returncode == 1 and f"{home}/data/ledger.sqlite: no such ledger" in done.stderr


# --- permissions -------------------------------------------------------------------------------------------------------------------


def test_only_the_owner_can_read_a_run_folder_and_its_log(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        with files.run_folder(tmp_path / "runs" / "run", make=True):
            journal = Journal(tmp_path / "runs" / "run")
            journal.note("start")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "runs" / "run").stat().st_mode) == 0o700
    log = tmp_path / "runs" / "run" / "log.jsonl"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    log.chmod(0o644)  # as in older versions
    journal.note("end")
    assert stat.S_IMODE(log.stat().st_mode) == 0o600 and log.read_text().count("\n") == 2


def test_git_ignores_what_docker_ignores() -> None:
    wanted = {line.removeprefix("**/").rstrip("/") for line in (ROOT / ".dockerignore").read_text().split() if line[0] != "!"}
    ignored = {line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split()}
    assert {"praw.ini", "*.env"} <= wanted - {".git", "data/*"} <= ignored
