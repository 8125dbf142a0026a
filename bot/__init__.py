"""A Reddit reply bot that generates, then ranks. Every stage is a program of its own: `python -m bot.STAGE --help`."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class UserError(Exception):
    """What is wrong, where, and what to do, in one line. The command line prints it and exits with `status`; bugs keep their traceback."""

    status = 1


class Busy(UserError):
    """Another process is at it."""

    status = 75  # EX_TEMPFAIL in sysexits.h


def run_command(main: Callable[..., Any], name: str) -> None:
    """Run `main` (a function whose typer annotations are its options, or a typer app) as the program `name`.

    Exits 0, 1 (`UserError`, disk full), 75 (`Busy`), 2 (bad options) or 130 (interrupted); any other exception keeps its traceback.
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
        sys.exit(error.status)
    except KeyboardInterrupt:
        print(f"{name}: interrupted; the same command goes on where it stopped", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # the last: past `ulimit -f`
            raise
        where = error.filename or "while writing"
        print(f"{name}: the disk is full ({where}); free some space and run the same command again", file=sys.stderr)
        sys.exit(1)
