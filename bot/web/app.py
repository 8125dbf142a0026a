"""web: pages for the person who runs the bot, and for those who try it.

Reads  the run folders under --runs, or one run folder (--run).
Writes RUN/approvals.csv, data/judgements.csv, and the files of web.state and web.chat. It never posts; `submit` does.

    python run_bot.py web                                          http://127.0.0.1:8000/, for this machine only
    python run_bot.py web --run data/runs/X                        one run
    python run_bot.py web --host 0.0.0.0                           for other machines too; prints a URL with a token

See docs/web.md for a server behind nginx.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated

import typer
from flask import Blueprint

from bot import config
from bot.cli import UserError
from bot.config import Settings
from bot.evaluate import judge as judging
from bot.evaluate.judge import Reading
from bot.schema import BlindPair
from bot.web import approve, chat, judge, runs, server, trial
from bot.web.checking import Checker
from bot.web.hub import open_hub
from bot.web.runs import Runs, Version
from bot.web.workers import Desk

OTHERS = (("approve.show", "Approve"), ("judge.show", "Judge"))  # pages about one run


def parts(shown: Runs, settings: Settings, config_file: Path | None, judgements: Path = judging.JUDGEMENTS) -> list[Blueprint]:
    """The pages about runs."""

    @lru_cache(maxsize=16)
    def pairs(folder: Path, version: Version) -> list[BlindPair]:
        return judging.read_pairs([folder / "scored.csv"], judging.VERDICT, seed=1)[0]

    def reading_of(run: str) -> Reading:
        folder = shown.folder(run)
        return Reading(pairs(folder, runs.version_of(folder)[3:4]), judgements, server.person())

    judge_pages = judge.make_pages(reading_of, shown.with_candidates)
    judge_pages.url_prefix = "/judge"
    return [runs.make_pages(shown, OTHERS), approve.make_pages(shown, settings, config_file, Checker(settings)), judge_pages]


def live_parts(settings: Settings, config_file: Path | None) -> list[Blueprint]:
    """The pages Try and Chat. Starts the worker processes."""
    hub = open_hub(settings.web)
    desk = Desk(settings)
    hub.on_cancel = desk.cancel
    return [trial.make_pages(desk, hub, settings, config_file), chat.make_pages(chat.Room(desk, hub))]


def main(
    run: Annotated[Path | None, typer.Option(help="show only this run folder")] = None,
    folder: Annotated[Path, typer.Option("--runs", help="the folder with the run folders")] = Path("data/runs"),
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None,
    host: Annotated[str, typer.Option(help="address to serve at; visitors of any address but 127.0.0.1 need a token")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="port to serve at; 0 for any free one")] = 8000,
) -> None:
    """Serve the pages until Ctrl-C."""
    settings = config.load(config_file)
    shown = Runs(folder, run, settings.submit.ledger)
    if run is not None and not shown.folders():
        raise UserError(f"{run}: not a run folder; give the --out of a run")
    listening = server.listen(port, host)
    pages = [*parts(shown, settings, config_file), *live_parts(settings, config_file)]
    access, token = server.read_access(settings.web.state, host, settings.web.url)  # last, because a new token is shown only once
    server.serve(server.make_app(*pages, access=access), listening, host, token)
