"""What the notebooks call: stages as processes of their own, and their files as tables.

Nothing here loads a model. Beside pandas it needs only what Python brings, so it runs in Colab's own kernel while the stages run in the
project's environment, whose packages are other versions.
"""

from __future__ import annotations

import html
import importlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import time
import typing
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd  # type: ignore[import-untyped]

from bot import schema
from bot.cli import ROOT, UserError
from bot.sandbox.process import sandbox_process

DRIVE_MOUNT = Path("/content/drive")
DRIVE_FOLDER = DRIVE_MOUNT / "MyDrive" / "reply-bot"
COLUMNS = 110  # characters of a line that a cell's output shows whole
REDRAWN_SECONDS = 1.0  # a progress bar draws itself ten times a second; a saved notebook keeps every drawing
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def set_up(work: str | Path, drive: bool = False) -> Path:
    """The folder for all that the notebook makes, there to write into: `work`, or with `drive` reply-bot on the mounted Google Drive.

    Also sets how pandas shows text: long, and with `$` as it stands.

    Raises:
        UserError: drive is asked for outside Colab.
    """
    if drive:
        try:
            google_drive = importlib.import_module("google.colab.drive")
        except ImportError:
            raise UserError("DRIVE works in Colab only; set it to False, and WORK to a folder of this machine") from None
        google_drive.mount(str(DRIVE_MOUNT))
    folder = DRIVE_FOLDER if drive else Path(work)
    folder.mkdir(parents=True, exist_ok=True)
    pd.set_option("display.max_colwidth", 300)
    pd.set_option("display.html.use_mathjax", False)
    return folder


def python() -> str:
    """The Python of the stages: that of the project's `.venv` where one was made, else the one that runs the notebook."""
    own = ROOT / ".venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def stage(*arguments: object, **settings: object) -> None:
    """Run `run_bot.py ARGUMENTS` as a process of its own, showing what it prints as it comes.

    settings: of the config, as `generate__num_candidates=20`; they go before a file given with --config. None leaves a setting alone.

    Raises:
        UserError: the stage failed; what it printed says why.
    """
    told = {f"BOT_{name.upper()}": _setting(value) for name, value in settings.items() if value is not None}
    line = shlex.join(map(str, arguments))
    print(" ".join(["$", *(f"{name}={shlex.quote(value)}" for name, value in told.items()), "python run_bot.py", line]), flush=True)
    # rich draws progress only for what passes for a terminal
    terminal = {"TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "1", "NO_COLOR": "1", "COLUMNS": str(COLUMNS), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [python(), str(ROOT / "run_bot.py"), *map(str, arguments)],
        env={**os.environ, **terminal, **told}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    with process, io.TextIOWrapper(process.stdout, encoding="utf-8", errors="replace", newline="") as printed:
        try:
            show(printed)
        except KeyboardInterrupt:
            show(printed)  # Jupyter interrupts the stage as well, which then keeps what it has done
            raise
    if process.returncode:
        raise UserError(f"`run_bot.py {line}` ended with status {process.returncode}; what it printed above says why")


def show(lines: Iterable[str]) -> None:
    """Print them as they come."""
    for shown in redrawn(lines):
        print(shown, end="", flush=True)


def redrawn(lines: Iterable[str], clock: Callable[[], float] = time.monotonic) -> Iterator[str]:
    """What a cell's output shows of lines for a terminal: no control sequences, and of those that are drawn over (`\\r`) one a second.

    >>> [re.sub(" +", " ", line) for line in redrawn(["\\x1b[2K1 %\\r", "2 %\\r", "3 %\\n", "done\\n"], clock=lambda: 0.0)]
    ['1 %\\r', '3 % \\n', 'done\\n']
    """
    drawn = float("-inf")
    over = False
    for line in lines:
        text = _CONTROL.sub("", line)
        body = text.rstrip("\r\n")
        if text.endswith("\r"):
            now, end = clock(), "\r"
            if now - drawn < REDRAWN_SECONDS:
                continue
            drawn = now
        else:
            end = "\n" if text.endswith("\n") else ""
        yield (body.ljust(COLUMNS) if over else body) + end  # so that nothing of a longer line stays behind
        over = end == "\r"


def _setting(value: object) -> str:
    return json.dumps(value) if isinstance(value, list) else str(value)


def _numeric_columns() -> set[str]:
    """Columns that hold a number in every file that has them."""
    row_types = [each for each in vars(schema).values() if isinstance(each, type) and hasattr(each, "__dataclass_fields__")]
    kinds = [(name, kind) for row_type in row_types for name, kind in typing.get_type_hints(row_type).items()]
    return {name for name, kind in kinds if kind in (int, float, int | None, float | None)}


def table(path: Path) -> pd.DataFrame:
    """A CSV file of the pipeline. Text stays as it stands there (`NA` is text), numbers are numbers, an empty number is NaN.

    Raises:
        UserError: no such file, cut short, changed since it was written, or a cell that should be a number and isn't.
    """
    columns, rows = schema.read_table(path)
    frame = pd.DataFrame(rows, columns=columns, dtype=object)
    for column in _numeric_columns().intersection(columns):
        try:
            frame[column] = pd.to_numeric(frame[column].replace("", None))
        except ValueError as error:
            raise UserError(f"{path}: column {column}: {error}; run the stage that writes it again") from None
    return frame


def card(model: Path) -> dict[str, Any]:
    """What model.json of a trained model says: its base, settings and metrics."""
    try:
        content: dict[str, Any] = json.loads((model / "model.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{model}/model.json is missing, so there is no trained model; run the training cell first") from None
    return content


def sandbox_reddit(folder: Path) -> AbstractContextManager[str]:
    """The local Reddit, for a `with` block: its URL, for the setting reddit.url."""
    folder.mkdir(parents=True, exist_ok=True)
    return sandbox_process(folder, python())


def page(path: Path, height: int = 800) -> Any:
    """An HTML page inside a cell's output, kept apart from the notebook: it runs nothing and loads nothing. height: pixels."""
    from IPython.display import HTML

    content = html.escape(path.read_text(encoding="utf-8"))
    # the <div> keeps IPython from advising an IFrame, which Colab can't show
    return HTML(f'<div><iframe sandbox srcdoc="{content}" style="width: 100%; height: {height}px; border: 1px solid #ccc"></iframe></div>')
