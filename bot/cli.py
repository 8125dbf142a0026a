"""Errors and their exit statuses, progress output, and running a stage as a program.

    cli.run_command(main, "run_bot.py fetch", ["--run", "data/runs/X"])

At import time this module needs only the standard library, because the notebooks use it in Colab's own kernel.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from rich.progress import Progress

ROOT = Path(__file__).resolve().parent.parent


class UserError(Exception):
    """An error that the user can fix. The message is one line: what is wrong, where, and what to do.

    The command line prints it and exits with `status`. Other exceptions are bugs and keep their traceback.
    """

    status = 1


# Exit statuses from sysexits.h: EX_UNAVAILABLE, EX_TEMPFAIL, EX_NOPERM, EX_CONFIG, and EX_IOERR for a full disk.


class Unreachable(UserError):
    """Reddit is unreachable or its response is unusable. A later attempt may succeed."""

    status = 69


class Busy(UserError):
    """Another process holds the lock."""

    status = 75


class NoPermission(UserError):
    """Reddit rejects the credentials, or none are configured."""

    status = 77


class WrongSettings(UserError):
    """The config file or an environment variable is invalid."""

    status = 78


DISK_FULL = 74


def with_root(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for `python -P -m bot` in any working folder: PYTHONPATH has this project and no relative folders, from which another
    module of the same name could be imported.
    """
    others = [part for part in environment.get("PYTHONPATH", "").split(os.pathsep) if Path(part).is_absolute()]
    return {**environment, "PYTHONPATH": os.pathsep.join([str(ROOT), *others]), "PYTHONSAFEPATH": "1"}


# Stages that talk to Reddit; only they get its credentials.
ASKS_REDDIT = frozenset({"run", "inbox", "fetch", "submit", "harvest", "adopt", "purge"})


def without_credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without PRAW's variables, for stages that do not talk to Reddit.

    >>> without_credentials({"PRAW_Password": "x", "praw_client_id": "y", "HOME": "/root"})
    {'HOME': '/root'}
    """
    return {name: value for name, value in environment.items() if not name.lower().startswith("praw_")}


def progress_bar() -> Progress:
    """A progress bar on standard error, removed at the end. Prints nothing if standard error is not a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


class _Interrupted(Exception):
    """Ctrl-C. Typer would exit silently for a KeyboardInterrupt."""


def _interruptible(main: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(main)
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return main(*arguments, **options)
        except KeyboardInterrupt:
            raise _Interrupted from None

    return call


def run_command(main: Callable[..., Any], name: str, arguments: Sequence[str] | None = None) -> None:
    """Run `main`, a function with typer annotations or a typer app, as the program `name`.

    arguments: the command-line arguments without the program name. Default: sys.argv[1:].

    Exits with 0, the status of a `UserError`, 2 (invalid options), 74 (disk full) or 130 (interrupted). Other exceptions keep their
    traceback.
    """
    import typer

    if isinstance(main, typer.Typer):
        app = main
    else:
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command()(_interruptible(main))
    try:
        app(arguments, prog_name=name, standalone_mode=True)
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(error.status)
    except _Interrupted:
        print(f"{name}: interrupted; repeat the command to resume", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            print(f"{name}: {error.filename or 'a file'}: {error.strerror}; grant permission or use another path", file=sys.stderr)
            sys.exit(1)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # EFBIG: the file exceeds `ulimit -f`
            raise
        where = error.filename or "while writing"
        print(f"{name}: the disk is full ({where}); free some space and repeat the command", file=sys.stderr)
        sys.exit(DISK_FULL)


def redirect_messages(out: Path | None) -> AbstractContextManager[Any]:
    """If the table is written to standard output (`-`), redirect printed messages to standard error."""
    return redirect_stdout(sys.stderr) if out == Path("-") else nullcontext()


def standard_output() -> IO[bytes]:
    """The standard output of the process, even while messages are redirected."""
    assert sys.__stdout__ is not None
    return cast("IO[bytes]", sys.__stdout__.buffer)


def first_line(error: BaseException) -> str:
    """The first line of an error message, at most 200 characters, or the name of the class if the message is empty.

    >>> first_line(ValueError("a\\nb")), first_line(ValueError())
    ('a', 'ValueError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def say(text: str) -> None:
    """Print a line to standard error, without wrapping or markup."""
    print(text, file=sys.stderr, flush=True)


def die_with_parent() -> None:
    """For `preexec_fn`: let Linux kill the child when its parent dies, so that no orphan writes into a resumed run."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 = PR_SET_PDEATHSIG, man 2 prctl
