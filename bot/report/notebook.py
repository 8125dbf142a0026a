"""Functions for the notebooks: run stages as separate processes, and read their files as tables.

Nothing here loads a model. Only packages that Colab has are imported (pandas, matplotlib, typer), so this runs in Colab's own kernel, while
the stages run in the project's environment with its pinned versions.
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

from bot import files, schema
from bot.cli import ROOT, UserError
from bot.sandbox.process import sandbox_process

DRIVE_MOUNT = Path("/content/drive")
DRIVE_FOLDER = DRIVE_MOUNT / "MyDrive" / "reply-bot"
COLUMNS = 110  # width of a cell's output in characters
REDRAW_SECONDS = 1.0  # progress bars redraw ten times a second, and a saved notebook keeps every redraw
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def set_up(work: str | Path, drive: bool = False) -> Path:
    """Create and return the folder for the notebook's files: `work`, or with `drive` the folder reply-bot on Google Drive.

    Also sets pandas to show long text, and `$` literally instead of as TeX.

    Raises:
        UserError: `drive` is set outside Colab.
    """
    if drive:
        try:
            google_drive = importlib.import_module("google.colab.drive")
        except ImportError:
            raise UserError("DRIVE works in Colab only; set it to False, and WORK to a local folder") from None
        google_drive.mount(str(DRIVE_MOUNT))
    folder = DRIVE_FOLDER if drive else Path(work)
    folder.mkdir(parents=True, exist_ok=True)
    pd.set_option("display.max_colwidth", 300)
    pd.set_option("display.html.use_mathjax", False)
    return folder


def python() -> str:
    """The Python that runs the stages: the one in the project's `.venv` if it exists, otherwise the notebook's own."""
    own = ROOT / ".venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def stage(*arguments: object, **settings: object) -> None:
    """Run `run_bot.py ARGUMENTS` as a separate process and print its output as it arrives.

    settings: config settings such as `generate__num_candidates=20`. They override a file given with --config. None: not set.

    Raises:
        UserError: the stage failed; its output says why.
    """
    variables = {f"BOT_{name.upper()}": _setting(value) for name, value in settings.items() if value is not None}
    line = shlex.join(map(str, arguments))
    print(" ".join(["$", *(f"{name}={shlex.quote(value)}" for name, value in variables.items()), "python run_bot.py", line]), flush=True)
    # rich draws progress bars only on a terminal
    terminal = {"TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "1", "NO_COLOR": "1", "COLUMNS": str(COLUMNS), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [python(), str(ROOT / "run_bot.py"), *map(str, arguments)],
        env={**os.environ, **terminal, **variables}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    with process, io.TextIOWrapper(process.stdout, encoding="utf-8", errors="replace", newline="") as output:
        try:
            show(output)
        except KeyboardInterrupt:
            show(output)  # Jupyter interrupts the stage too; wait until it has saved its work
            raise
    if process.returncode:
        raise UserError(f"`run_bot.py {line}` failed with status {process.returncode}; see its output above")


def show(lines: Iterable[str]) -> None:
    """Print lines as they arrive, with progress bars thinned out."""
    for line in thin_progress(lines):
        print(line, end="", flush=True)


def thin_progress(lines: Iterable[str], clock: Callable[[], float] = time.monotonic) -> Iterator[str]:
    """Terminal output for a cell: without control sequences, and at most one redraw (a line ending in `\\r`) per second.

    >>> [re.sub(" +", " ", line) for line in thin_progress(["\\x1b[2K1 %\\r", "2 %\\r", "3 %\\n", "done\\n"], clock=lambda: 0.0)]
    ['1 %\\r', '3 % \\n', 'done\\n']
    """
    last_redraw = float("-inf")
    overwrites = False
    for line in lines:
        text = _CONTROL.sub("", line)
        body = text.rstrip("\r\n")
        if text.endswith("\r"):
            now, end = clock(), "\r"
            if now - last_redraw < REDRAW_SECONDS:
                continue
            last_redraw = now
        else:
            end = "\n" if text.endswith("\n") else ""
        yield (body.ljust(COLUMNS) if overwrites else body) + end  # padded, so that nothing remains of a longer line
        overwrites = end == "\r"


def _setting(value: object) -> str:
    return json.dumps(value) if isinstance(value, list) else str(value)


def _numeric_columns() -> set[str]:
    """Names of the columns that are numbers."""
    row_types = [each for each in vars(schema).values() if isinstance(each, type) and hasattr(each, "__dataclass_fields__")]
    kinds = [(name, kind) for row_type in row_types for name, kind in typing.get_type_hints(row_type).items()]
    return {name for name, kind in kinds if kind in (int, float, int | None, float | None)}


def table(path: Path) -> pd.DataFrame:
    """Read a CSV file of the pipeline. Text is never converted (`NA` is text), number columns are numeric, an empty number is NaN.

    Raises:
        UserError: the file is missing, truncated or modified, or a number column contains something else.
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
    """The card (model.json) of a trained model: base, settings, metrics and more."""
    try:
        content: dict[str, Any] = json.loads((model / "model.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{model}/model.json: no trained model; run the training cell first") from None
    return content


def sandbox_reddit(folder: Path) -> AbstractContextManager[str]:
    """Context manager that runs the local Reddit; its value is the URL for the setting reddit.url."""
    with files.run_folder(folder, make=True):  # marks it as a run folder before the sandbox writes into it
        pass
    return sandbox_process(folder, python())


def page(path: Path, height: int = 800) -> Any:
    """An HTML page as cell output, in a sandboxed iframe that runs no scripts. height: pixels."""
    from IPython.display import HTML

    content = html.escape(path.read_text(encoding="utf-8"))
    # without the <div>, IPython warns to use IFrame, which does not work in Colab
    return HTML(f'<div><iframe sandbox srcdoc="{content}" style="width: 100%; height: {height}px; border: 1px solid #ccc"></iframe></div>')
