"""A Reddit reply bot that generates, then ranks. Every stage is a program of its own: `python -m bot.STAGE --help`."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress

ROOT = Path(__file__).resolve().parent.parent


class UserError(Exception):
    """What is wrong, where, and what to do, in one line. The command line prints it and exits 1; bugs keep their traceback."""


def progress_bar() -> Progress:
    """A bar with the time that is left in a terminal, which goes away when it is done; nothing elsewhere, not even an empty line."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console()
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def run_command(main: Callable[..., Any], name: str) -> None:
    """Run `main` (a function whose typer annotations are its options, or a typer app) as the program `name`.

    Exits 0, 1 (`UserError`, disk full), 2 (bad options) or 130 (interrupted); any other exception keeps its traceback.
    """
    import typer

    if isinstance(main, typer.Typer):
        app = main
    else:
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command()(main)
    try:
        app(prog_name=name, standalone_mode=True)
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{name}: interrupted; the same command goes on where it stopped", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = error.filename or "while writing"
        print(f"{name}: the disk is full ({where}); free some space and run the same command again", file=sys.stderr)
        sys.exit(1)
