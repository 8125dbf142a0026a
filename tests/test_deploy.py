"""deploy/: the crontab, the systemd units and the image. tests/test_docs.py checks the options of their commands; tests/image.sh builds
the image, where a container engine can be installed."""

from __future__ import annotations

import getpass
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bot.cli import ROOT

DEPLOY = ROOT / "deploy"
SERVICES = sorted(DEPLOY.glob("*.service"))
COMMON = DEPLOY / "reply-bot-.service.d" / "common.conf"


def settings_of(path: Path) -> list[tuple[str, str]]:
    """The settings of a unit file in order."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "=" in line and not line.startswith("#")]
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


def test_the_crontab_has_five_fields_and_a_command() -> None:
    lines = [
        line for line in (DEPLOY / "crontab").read_text(encoding="utf-8").splitlines() if line and not line.startswith(("#", "MAILTO"))
    ]
    commands = [line.split(maxsplit=5)[5] for line in lines]
    assert [re.findall(r"run_bot\.py (\w+)", command) for command in commands] == [["run"], ["harvest"], ["prune"], ["purge"], ["submit"]]
    for line, command in zip(lines, commands, strict=True):
        assert all(re.fullmatch(r"[\d*/]+", field) for field in line.split()[:5])
        assert command.startswith("cd /srv/reply-bot && ") and "%" not in command  # cron takes % for a new line


def test_every_timer_has_its_service() -> None:
    timers = {path.stem for path in DEPLOY.glob("*.timer")}
    assert timers == {"reply-bot-run", "reply-bot-submit", "reply-bot-harvest", "reply-bot-prune"}
    assert {path.stem for path in SERVICES} == {*timers, "reply-bot-web"}
    for path in SERVICES:
        kind = dict(settings_of(path)).get("Type")
        assert (kind == "oneshot") is (path.stem in timers)
        assert path.name.startswith("reply-bot-")  # otherwise systemd would not read COMMON for it


def test_only_stages_that_ask_reddit_get_credentials() -> None:
    with_credentials = {path.stem for path in SERVICES if "EnvironmentFile" in dict(settings_of(path))}
    assert with_credentials == {"reply-bot-run", "reply-bot-submit", "reply-bot-harvest", "reply-bot-prune"}
    assert "/srv/reply-bot/praw.ini" in dict(settings_of(DEPLOY / "reply-bot-web.service"))["InaccessiblePaths"]


def test_only_data_and_models_can_be_written_also_in_a_home() -> None:
    common = dict(settings_of(COMMON))
    assert common["ProtectSystem"] == "strict" and common["ProtectHome"] == "read-only"  # `yes` would hide a folder in a home
    assert common["PrivateTmp"] == common["NoNewPrivileges"] == "yes"
    writable = {path.stem: dict(settings_of(path)).get("ReadWritePaths") for path in [COMMON, *SERVICES]}
    assert writable.pop("common") == "/srv/reply-bot/data" and writable.pop("reply-bot-run") == "/srv/reply-bot/models"
    assert set(writable.values()) == {None}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_units_as_they_are_installed(tmp_path: Path) -> None:
    """The commands of COMMON's comment, up to systemctl, with another folder of systemd."""
    bot, units = tmp_path / "home" / "me" / "bot", tmp_path / "units"
    (bot / ".venv" / "bin").mkdir(parents=True)
    (bot / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (bot / "deploy").symlink_to(DEPLOY)
    units.mkdir()
    comment = "\n".join(line.removeprefix("#   ") for line in COMMON.read_text(encoding="utf-8").splitlines() if line.startswith("#   "))
    commands = comment[: comment.index("sudo systemctl")].replace("sudo ", "").replace("/etc/systemd/system", str(units))
    user = getpass.getuser()
    subprocess.run(["bash", "-euc", commands], cwd=bot, env={"PATH": "/usr/bin:/bin", "USER": user}, check=True)
    texts = {path.name: path.read_text(encoding="utf-8") for path in units.rglob("*") if path.is_file()}
    assert f"ReadWritePaths={bot}/data" in texts["common.conf"] and f"User={user}" in texts["common.conf"]
    assert not [name for name, body in texts.items() if re.search(r"^[^#].*/srv/reply-bot", body, re.MULTILINE)]
    verify = ["systemd-analyze", "verify", *map(str, [*units.glob("*.service"), *units.glob("*.timer")])]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (units / "reply-bot-.service.d" / "common.conf").write_text("[Service]\nProtectHome=maybe\n")  # so the common settings are read
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert "Failed to parse protect home value" in done.stderr


def test_the_linter_finds_nothing_in_the_dockerfile() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, "--no-color", DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_image_has_the_exports_and_no_secrets() -> None:
    lines = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines()
    steps = [line for line in lines if line and not line.startswith("#")]
    assert sum("models export" in step for step in steps) == 1 and steps.index("COPY --chown=1000 . .") < len(steps) - 4
    ignored = set((ROOT / ".dockerignore").read_text(encoding="utf-8").split())
    assert {".git", ".venv*", "data/*", "praw.ini", "*.env", "models/base", "**/.serving"} <= ignored
