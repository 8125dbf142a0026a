"""prune: remove run folders that are no longer needed.

    python run_bot.py prune --older-than 30d
    python run_bot.py prune --older-than 12h --runs /elsewhere/runs

Removes folders in data/runs (or --runs) if every file in them belongs to a run, nothing has changed for this long, and no run is in
progress. Folders with any other file, and the folder with the ledger (submit.ledger), are kept and listed. Links are also kept.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from bot import config, files
from bot.cli import Busy, UserError

UNIT_SECONDS = {"h": 3600, "d": 86_400, "w": 7 * 86_400}


def parse_age(age: str) -> int:
    """Seconds.

    >>> parse_age("30d"), parse_age("12h"), parse_age("2w")
    (2592000, 43200, 1209600)
    """
    match = re.fullmatch(r"([0-9]{1,5})([hdw])", age)
    if not match:
        raise UserError(f"--older-than {age[:40]}: give a number and h, d or w: 12h, 30d, 4w")
    return int(match[1]) * UNIT_SECONDS[match[2]]


def last_change(folder: Path) -> float:
    """When the newest file of a folder was written, epoch seconds."""
    return max(path.lstat().st_mtime for path in [folder, *folder.iterdir()])


def candidates(runs: Path, older_than: float, ledger: Path) -> Iterator[tuple[Path, str]]:
    """The old folders in `runs`, each with the reason to keep it, empty if it can be removed. older_than: epoch seconds."""
    for folder in sorted(runs.iterdir()):
        if folder.is_symlink() or not folder.is_dir() or last_change(folder) > older_than:
            continue
        foreign = files.foreign_in_run(folder)
        if not files.is_run(folder):
            yield folder, "not a run folder"
        elif foreign:
            yield folder, f"contains {foreign.name}, which is not a file of a run"
        elif ledger.resolve().parent == folder.resolve():
            yield folder, "contains the ledger"
        else:
            yield folder, ""


def remove_run(folder: Path) -> None:
    """Remove a run folder. The lock is deleted last, so that after a kill the folder is still a run folder.

    Raises:
        Busy: a run is in progress in it.
    """
    with files.run_folder(folder):
        for path in folder.iterdir():
            if path.name != files.RUN_LOCK:
                files.remove(path)
        files.remove(folder / files.RUN_LOCK)
    folder.rmdir()


def prune_command(
    older_than: Annotated[str, typer.Option(metavar="AGE", help="remove folders that were not changed for this long: 12h, 30d, 4w")],
    runs: Annotated[Path, typer.Option(metavar="DIR", help="folder that contains the run folders")] = Path("data/runs"),
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None,
) -> None:
    """Remove old run folders."""
    if not runs.is_dir():
        raise UserError(f"{runs.absolute()}: no such folder; give the one that contains the run folders with --runs")
    count = 0
    before = time.time() - parse_age(older_than)
    for folder, why in candidates(runs, before, config.load(config_file).submit.ledger):
        try:
            if not why:
                remove_run(folder)
                count += 1
        except Busy:
            why = "a run is in progress"
        if why:
            print(f"{folder} is kept: {why}")
    print(f"{count} run folders removed from {runs.absolute()}")
