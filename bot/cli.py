"""Errors and their exit statuses, progress output, and running a stage as a program.

    cli.run_command(main, "run_bot.py fetch", ["--run", "data/runs/X"])

At import time this module needs only the standard library, because the notebooks use it in Colab's own kernel.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import io
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

Item = TypeVar("Item")
ROOT = Path(__file__).resolve().parent.parent


class UserError(Exception):
    """An error that the user can fix. The message is one line: what is wrong, where, and what to do.

    The command line prints it and exits with `status`. Other exceptions are bugs and keep their traceback.
    """

    status = 1


# Exit statuses from sysexits.h: EX_UNAVAILABLE, EX_TEMPFAIL, EX_NOPERM, EX_CONFIG, and EX_IOERR for a full disk.


class Unreachable(UserError):
    """Reddit or a generator's server is unreachable, or its response is unusable. A later attempt may succeed."""

    status = 69


class Busy(UserError):
    """Another process holds the lock."""

    status = 75


class NoPermission(UserError):
    """Reddit or a generator's server rejects the credentials, or none are configured."""

    status = 77


class WrongSettings(UserError):
    """The config file or an environment variable is invalid."""

    status = 78


DISK_FULL = 74
SHOWN_AFTER_SECONDS = 1.0  # for `waiting`


def with_root(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for `python -P -m bot` in any working folder: PYTHONPATH has this project and no relative folders, from which another
    module of the same name could be imported.
    """
    others = [part for part in environment.get("PYTHONPATH", "").split(os.pathsep) if Path(part).is_absolute()]
    return {**environment, "PYTHONPATH": os.pathsep.join([str(ROOT), *others]), "PYTHONSAFEPATH": "1"}


# Stages that talk to Reddit; only they get its credentials.
ASKS_REDDIT = frozenset({"run", "inbox", "fetch", "submit", "harvest", "adopt", "purge", "reply", "doctor"})
# `generate`, which may ask a server for candidates, and the stages that start it; only they get the key of the server.
ASKS_GENERATOR = frozenset({"run", "generate", "reply", "chat", "web", "leaderboard fill"})
SERVER_KEY = "OPENAI_API_KEY"  # the name that clients of servers with the OpenAI interface use
_CREDENTIALS = {"praw_": ASKS_REDDIT, SERVER_KEY.lower(): ASKS_GENERATOR}  # beginning of the variables' names -> stages that need them


def without_credentials(environment: Mapping[str, str], stage: str = "") -> dict[str, str]:
    """The environment without the credentials that a stage does not need. stage: empty for a program that needs none.

    >>> environment = {"PRAW_Password": "x", "praw_client_id": "y", "OPENAI_API_KEY": "z", "HOME": "/root"}
    >>> without_credentials(environment), without_credentials(environment, "generate")
    ({'HOME': '/root'}, {'OPENAI_API_KEY': 'z', 'HOME': '/root'})
    """
    removed = tuple(beginning for beginning, stages in _CREDENTIALS.items() if stage not in stages)
    return {name: value for name, value in environment.items() if not name.lower().startswith(removed)}


def progress_bar() -> Progress:
    """A progress bar on standard error, with the time that passed and the time left, removed at the end. Prints nothing if standard error
    is not a terminal.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    text = TextColumn("{task.description}")
    return _progress(SpinnerColumn(), text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())


def _progress(*columns: ProgressColumn) -> Progress:
    from rich.progress import Progress

    return Progress(*columns, console=_console(), transient=True, disable=not _console().is_terminal)


@functools.cache
def _console() -> Console:
    """Shared, so that the lines of nested blocks are shown one below the other."""
    from rich.console import Console

    return Console(stderr=True)


def track(items: Sequence[Item], what: str) -> Iterator[Item]:
    """Yield the items, with a progress bar. what: what is done with them."""
    with progress_bar() as progress:
        yield from progress.track(items, description=what)


_waits: list[Progress] = []  # of the `waiting` blocks that are active, outermost first


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show what the block does and how long it has taken, for work whose end cannot be predicted. As `progress_bar` otherwise, but only
    after SHOWN_AFTER_SECONDS.
    """
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    progress = _progress(SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    if progress.disable:
        yield
        return
    progress.add_task(what, total=None)
    outer = list(_waits)

    def show() -> None:
        for each in [*(each for each in outer if each in _waits), progress]:  # rich needs the outer ones first
            each.start()  # does nothing the second time

    timer = threading.Timer(SHOWN_AFTER_SECONDS, show)
    timer.daemon = True
    _waits.append(progress)
    try:
        timer.start()
        yield
    finally:
        timer.cancel()
        try:
            timer.join()
        finally:
            _waits.remove(progress)
            progress.stop()


class Interrupted(UserError):
    """Ctrl-C. Typer would exit silently for a KeyboardInterrupt."""

    status = 130


def _interruptible(main: Callable[..., Any], resumes: bool) -> Callable[..., Any]:
    @functools.wraps(main)
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return main(*arguments, **options)
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted{'; repeat the command to resume' if resumes else ''}") from None

    return call


def run_command(main: Callable[..., Any], name: str, arguments: Sequence[str] | None = None, resumes: bool = False) -> None:
    """Run `main`, a function with typer annotations or a typer app, as the program `name`.

    arguments: the command-line arguments without the program name. Default: sys.argv[1:]. resumes: the same command resumes where an
    interrupted one stopped.

    Exits with 0, the status of a `UserError`, 2 (invalid options), 74 (disk full) or 130 (interrupted). Other exceptions keep their
    traceback.
    """
    import typer

    _forgive_streams()
    if isinstance(main, typer.Typer):
        app = main
    else:
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        app.command()(_interruptible(main, resumes))
    try:
        app(arguments, prog_name=name, standalone_mode=True)
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(error.status)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            print(f"{name}: {error.filename or 'a file'}: {error.strerror}; grant permission or use another path", file=sys.stderr)
            sys.exit(1)
        if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP):
            print(f"{name}: {error.filename or 'a path'}: {error.strerror}; use another path", file=sys.stderr)
            sys.exit(1)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # EFBIG: the file exceeds `ulimit -f`
            raise
        where = error.filename or "while writing"
        print(f"{name}: the disk is full ({where}); free some space and repeat the command", file=sys.stderr)
        sys.exit(DISK_FULL)


def _forgive_streams() -> None:
    """Letters that a terminal cannot show or that somebody typed in another encoding become question marks, and closed input is at its end.

    Tables on standard input and output are read and written as bytes, so they do not change.
    """
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115  # for the whole process
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


class Clock:
    """How long work takes, and the peak memory of the process, for manifests.

    >>> Clock().facts(pairs=0)["pairs"]
    0
    """

    def __init__(self) -> None:
        self.started = time.monotonic()

    def facts(self, **counts: int) -> dict[str, float]:
        """counts: what was done since the start. seconds: since then. peak_mb: of the whole process, in 10^6 bytes."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000 * 1.024  # Linux reports KiB
        return {**counts, "seconds": round(time.monotonic() - self.started, 3), "peak_mb": round(peak, 1)}


def redirect_messages(out: Path | None) -> AbstractContextManager[Any]:
    """If the table is written to standard output (`-`), redirect printed messages to standard error."""
    return redirect_stdout(sys.stderr) if out == Path("-") else nullcontext()


def standard_output() -> IO[bytes]:
    """The standard output of the process, even while messages are redirected."""
    if sys.__stdout__ is None:
        raise UserError("standard output is closed; give --out FILE")
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


def stage_command(*arguments: str) -> list[str]:
    """The command that runs a stage in a process of its own. Modules in the working folder are not imported (-P).

    >>> stage_command("rank", "--run", "x")[1:]
    ['-P', '-m', 'bot', 'rank', '--run', 'x']
    """
    return [sys.executable, "-P", "-m", "bot", *arguments]


def as_part_of_parent() -> None:
    """For `preexec_fn`: let Ctrl-C in the terminal reach only the parent, which ends the child; and `die_with_parent`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()


def die_with_parent() -> None:
    """For `preexec_fn`: let Linux kill the child when its parent dies, so that no orphan writes into a resumed run."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 = PR_SET_PDEATHSIG, man 2 prctl
