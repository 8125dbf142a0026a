"""doctor: check what a run needs, in one table: packages, config, models, credentials, ledger, disk, browser and server.

Reads  the config, the models, the ledger and, if there are credentials, the account's name from Reddit. Writes nothing.

    python run_bot.py doctor
    python run_bot.py doctor --config my.toml

Exit status 1 if something must be repaired first. A "note" is something that only some commands need.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import socket
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Annotated, NamedTuple
from urllib.parse import unquote, urlsplit

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bot import cli, config, files, generators, rankers, text
from bot.cli import ROOT, UserError
from bot.config import Settings
from bot.online import answer
from bot.posting import database, ledger
from bot.rankers import scoring
from bot.reddit import client as reddit
from bot.weights import bases, cards, servers, serving

OK, NOTE, FAIL = "ok", "note", "FAIL"
RUNS = Path("data/runs")
PORT = 8000  # the default of `web`
FREE_GB = 2  # of the disk: exports, runs and the ledger
DAY = 86_400


class Check(NamedTuple):
    """state: OK, NOTE or FAIL. detail: what there is, or what is wrong and what to do."""

    name: str
    state: str
    detail: str


def packages(requirements: str, installed: Callable[[str], str | None]) -> Check:
    """Compare the pinned versions with those that are installed. installed: name -> version, None if missing.

    >>> packages("a==1.0\\nb==2.0", {"a": "1.0", "b": "3.0"}.get)
    Check(name='packages', state='FAIL', detail='b 3.0 (pinned 2.0); run `make setup`')
    """
    pins = re.findall(r"^([\w.-]+)(?:\[[^]]*])?==([^\s;+]+)", requirements, re.MULTILINE)
    present = {name: installed(name) for name, _ in pins}
    wrong = [f"{name} {present[name] or 'missing'} (pinned {pin})" for name, pin in pins if (present[name] or "").partition("+")[0] != pin]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        return Check("packages", FAIL, f"{', '.join(wrong[:3])}{more}; run `make setup`")
    return Check("packages", OK, f"{len(pins)}, in the pinned versions")


def installed_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Check("Python", OK, version)
    return Check("Python", FAIL, f"{version}; use 3.11, 3.12 or 3.13: `make setup PYTHON=python3.12`")


def model(name: str, folder: Path, kind: cards.Kind, is_exported: bool, precision: config.Precision) -> Check:
    """A model that a run loads: its card, its base, and its export."""
    try:
        answer.check_model(folder, name, kind, is_exported)
        if is_exported and not serving.is_current(folder, precision):
            return Check(name, NOTE, f"{folder}, not exported yet; the first run does it, in about a minute")
    except UserError as error:
        return Check(name, FAIL, str(error))
    return Check(name, OK, str(folder))


def models(settings: Settings) -> Iterator[Check]:
    generate, rank, conduct = settings.generate, settings.rank, settings.conduct
    yield model("generate.model", generate.model, "lm", generators.back_end(generate.backend).exported, generate.precision)
    exported = rankers.back_end(rank.backend).exported
    for kind in scoring.RANKERS:
        folder = getattr(rank, kind)
        yield model(f"rank.{kind}", folder, kind, exported, rank.precision) if folder else Check(f"rank.{kind}", NOTE, "not set")
    for side in ("comment", "reply"):
        name = f"conduct.{side}_classifier"
        folder = getattr(conduct, f"{side}_classifier")
        yield model(name, folder, "conduct", True, "int8") if folder else Check(name, NOTE, "not set; only patterns are checked")
    missing = [name for name in bases.DEFAULTS if bases.read_base(name) is None]
    state = f"{', '.join(missing)} not installed; run `python run_bot.py models pull --defaults`" if missing else ", ".join(bases.DEFAULTS)
    yield Check("base weights", NOTE if missing else OK, state)


def account(settings: Settings) -> Check:
    """Whether Reddit accepts the credentials. Sends a request only if there are some."""
    try:
        client = reddit.connect(settings.reddit)
    except UserError as error:
        return Check("Reddit", NOTE, f"{error}; `run --sandbox` works without")
    try:
        name = reddit.account_name(client)
    except UserError as error:
        return Check("Reddit", FAIL, str(error))
    return Check(
        "Reddit", OK, f"u/{name} at {reddit.site(client)}" if name else f"read-only at {reddit.site(client)}; posting needs an account"
    )


def subreddits(settings: Settings) -> Iterator[Check]:
    read, allowed = settings.fetch.subreddits, [each.subreddit for each in settings.submit.allowed]
    yield Check("reads", OK if read else NOTE, f"r/{', r/'.join(read)}" if read else "fetch.subreddits is empty; `init` asks for them")
    yield Check("may post in", OK, f"r/{', r/'.join(allowed)}, with --post" if allowed else "no subreddit; every run is dry")


def ledger_of(path: Path) -> Check:
    if not path.exists():
        return Check("ledger", OK, f"{path}: none yet; the first run with --post creates it")
    try:
        with closing(database.open_to_read(path)) as db:
            paused = ledger.paused(db)
            owner, sent = ledger.account(db), len(ledger.in_state(db, ledger.State.POSTED))
    except UserError as error:
        return Check("ledger", FAIL, str(error))
    if paused:
        return Check("ledger", NOTE, f"{path}: {owner}, paused ({paused}); `resume` ends it")
    return Check("ledger", OK, f"{path}: {owner}, {sent} posted")


def disk(folder: Path) -> Check:
    """The disk of the working folder, under which runs and the ledger are written."""
    free = shutil.disk_usage(folder).free / 1e9
    try:
        files.check_output(folder / "data" / "doctor")
    except UserError as error:
        return Check("disk", FAIL, str(error))
    return Check(
        "disk", OK if free >= FREE_GB else FAIL, f"{free:,.0f} GB free" + ("" if free >= FREE_GB else f"; {FREE_GB} GB are needed")
    )


def runs(folder: Path, now: float) -> Check:
    """How many run folders there are, and the age of the oldest. They contain names and texts of people. now: epoch seconds."""
    kept = [each for each in folder.iterdir() if each.is_dir() and files.is_run(each)] if folder.is_dir() else []
    if not kept:
        return Check("runs", OK, f"none in {folder}")
    days = int((now - min(each.stat().st_mtime for each in kept)) / DAY)
    detail = f"{len(kept)} in {folder}, the oldest {days} days old"
    if days < 30:
        return Check("runs", OK, detail)
    return Check("runs", NOTE, f"{detail}; they contain people's texts: `python run_bot.py prune --older-than 30d`")


def browser() -> Check:
    """Whether this machine can show pages."""
    try:
        return Check("browser", OK, webbrowser.get().name)
    except webbrowser.Error:
        return Check("browser", NOTE, "none; copy report.html to another machine, and see docs/web.md for the pages of `web`")


def port(number: int) -> Check:
    """Whether `web` can listen on its port."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError as error:
            return Check("web", NOTE, f"port {number} is not available ({error.strerror}); give `web` another --port")
    return Check("web", OK, f"port {number} is free")


def reachable(name: str, url: str) -> Check:
    """Whether something listens at this address (http, https, redis, rediss or unix). Nothing is sent."""
    place = "the address"
    try:
        parts = urlsplit(url)
        if parts.scheme == "unix":
            place = unquote(parts.path)
            with closing(socket.socket(socket.AF_UNIX)) as probe:
                probe.settimeout(5)
                probe.connect(place)
        else:
            host, port = parts.hostname or "localhost", parts.port
            if port is None:
                port = {"https": 443, "http": 80}.get(parts.scheme, 6379)
            place = f"{host}:{port}"
            socket.create_connection((host, port), timeout=5).close()
    except (OSError, ValueError) as error:  # ValueError: no such port, or an invalid host name
        why = getattr(error, "strerror", None) or type(error).__name__
        return Check(name, FAIL, f"nothing answers at {place} ({why}); start the server, or correct the address")
    return Check(name, OK, f"{place} answers")


def checks(config_file: Path | None) -> Iterator[Check]:
    yield python()
    yield packages((ROOT / "requirements.txt").read_text(encoding="utf-8"), installed_version)
    yield disk(Path.cwd())
    yield runs(RUNS, time.time())
    yield browser()
    yield port(PORT)
    try:
        settings = config.load(config_file)
        scoring.check_weights(settings.rank)
    except UserError as error:
        yield Check("config", FAIL, str(error))
        return
    yield Check("config", OK, str(config_file or "defaults, and the environment"))
    yield from models(settings)
    if generators.back_end(settings.generate.backend).asks_server:
        with suppress(UserError):  # a missing or invalid server.toml is reported for generate.model
            yield reachable("generator's server", servers.read(settings.generate.model).url)
    if settings.web.redis_url:
        yield reachable("Redis", settings.web.redis_url)
    yield from subreddits(settings)
    with cli.waiting("asking Reddit"):
        yield account(settings)
    yield ledger_of(settings.submit.ledger)


def main(config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None) -> None:
    """Check what a run needs: packages, config, models, credentials, ledger, disk, browser and server."""
    table = Table("check", "state", "detail", box=None, pad_edge=False)
    rows = [*checks(config_file)]
    colours = {OK: "green", NOTE: "yellow", FAIL: "bold red"}
    for each in rows:
        table.add_row(each.name, Text(each.state, style=colours[each.state]), Text(text.printable(each.detail)))
    Console(highlight=False).print(table)
    if failed := [each.name for each in rows if each.state == FAIL]:
        raise UserError(f"repair first: {', '.join(failed)}")
