"""Errors and their exit statuses, what is printed while a stage works, and how a stage is run as a program.

    cli.run_command(main, "run_bot.py fetch", ["--run", "data/runs/X"])

Imports only the standard library at the start: the notebooks use it in Colab's own kernel.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from rich.progress import Progress

ROOT = Path(__file__).resolve().parent.parent


class UserError(Exception):
    """What is wrong, where, and what to do, in one line. The command line prints it and exits with `status`; bugs keep their traceback."""

    status = 1


# The statuses are those of sysexits.h: EX_UNAVAILABLE, EX_TEMPFAIL, EX_NOPERM, EX_CONFIG; EX_IOERR for a full disk.


class Unreachable(UserError):
    """Reddit is not reachable, or its answer is not usable. A later try may succeed."""

    status = 69


class Busy(UserError):
    """Another process holds the lock."""

    status = 75


class NoPermission(UserError):
    """Reddit refuses the credentials, or there are none."""

    status = 77


class WrongSettings(UserError):
    """The config file or an environment variable is wrong."""

    status = 78


DISK_FULL = 74


def with_root(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for `python -P -m bot` in any working folder: this project is on PYTHONPATH, and no folder that depends on where the
    command is typed, from which somebody else's module could be imported.
    """
    others = [part for part in environment.get("PYTHONPATH", "").split(os.pathsep) if Path(part).is_absolute()]
    return {**environment, "PYTHONPATH": os.pathsep.join([str(ROOT), *others]), "PYTHONSAFEPATH": "1"}


# Stages that speak to Reddit; the others have no business with its credentials.
ASKS_REDDIT = frozenset({"run", "inbox", "fetch", "submit", "harvest", "adopt", "purge"})


def without_credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without PRAW's variables, for what doesn't speak to Reddit.

    >>> without_credentials({"PRAW_Password": "x", "praw_client_id": "y", "HOME": "/root"})
    {'HOME': '/root'}
    """
    return {name: value for name, value in environment.items() if not name.lower().startswith("praw_")}


def progress_bar() -> Progress:
    """A bar with the remaining time in a terminal, removed at the end; elsewhere nothing, not even an empty line."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def run_command(main: Callable[..., Any], name: str, arguments: Sequence[str] | None = None) -> None:
    """Run `main` (a function whose typer annotations are its options, or a typer app) as the program `name`.

    arguments: those after the name (None: sys.argv[1:]).

    Exits 0, the status of a `UserError`, 2 (bad options), 74 (disk full) or 130 (interrupted); any other exception keeps its traceback.
    """
    import typer

    if isinstance(main, typer.Typer):
        app = main
    else:
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command()(main)
    try:
        app(arguments, prog_name=name, standalone_mode=True)
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(error.status)
    except KeyboardInterrupt:
        print(f"{name}: interrupted; the same command resumes where it stopped", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            print(f"{name}: {error.filename or 'a file'}: {error.strerror}; give the permission, or another path", file=sys.stderr)
            sys.exit(1)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # the last: past `ulimit -f`
            raise
        where = error.filename or "while writing"
        print(f"{name}: the disk is full ({where}); free some space and run the same command again", file=sys.stderr)
        sys.exit(DISK_FULL)


def messages_beside(out: Path | None) -> AbstractContextManager[Any]:
    """Where the table goes to standard output (`-`), what is printed meanwhile goes to standard error."""
    return redirect_stdout(sys.stderr) if out == Path("-") else nullcontext()


def standard_output() -> IO[bytes]:
    """The process's own, also while messages are redirected."""
    assert sys.__stdout__ is not None
    return cast("IO[bytes]", sys.__stdout__.buffer)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, at most 200 characters; its class where it has none.

    >>> first_line(ValueError("a\\nb")), first_line(ValueError())
    ('a', 'ValueError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def say(text: str) -> None:
    """Print a line to standard error, unwrapped and without markup."""
    print(text, file=sys.stderr, flush=True)
