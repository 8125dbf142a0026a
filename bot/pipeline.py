"""run: the stages of one run, each as a process of its own.

Reads  the config, and what the stages read.
Writes RUN: the files of every stage, log.jsonl, metrics.json and summary.txt (see report/journal.py).

    python run_bot.py run --sandbox --limit 10
    python run_bot.py run --post --config my.toml
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from bot import config, files, generators, rankers, sandbox
from bot.cli import UserError, with_root
from bot.export import to_ctranslate2
from bot.posting import ledger
from bot.report.journal import Journal
from bot.sandbox.process import sandbox_process
from bot.weights import serving

# Back ends that run both the generator and the rankers.
ENGINES = [name for name in generators.BACK_ENDS if name in rankers.BACK_ENDS]


def run(
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings; config.example.toml says them all")] = None,
    out: Annotated[Path | None, typer.Option(help="the run folder [default: data/runs/YYYYMMDDTHHMMSSZ]; a broken run goes on")] = None,
    in_sandbox: Annotated[bool, typer.Option("--sandbox", help="against the local sandbox, started for this run")] = False,
    post: Annotated[bool, typer.Option("--post", help="post what is chosen, where submit.allowed permits it")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="answer at most so many comments")] = None,
    seed: Annotated[int, typer.Option(help="the same seed gives the same text")] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", help="for cron: print only what went wrong; the rest goes into RUN/log.jsonl")] = False,
    engine: Annotated[
        str | None, typer.Option(help=f"back end of generator and rankers instead of the config's: {', '.join(ENGINES)}")
    ] = None,
) -> None:
    """fetch -> generate -> rank -> choose, and a report; nothing is sent without --post."""
    if engine and engine not in ENGINES:
        raise UserError(f"--engine {engine}: no such engine; one of {', '.join(ENGINES)}")
    if engine:
        os.environ |= {"BOT_GENERATE__BACKEND": engine, "BOT_RANK__BACKEND": engine}
    loaded = config.load(config_file)  # a wrong setting stops it before anything starts
    rules = loaded.submit
    if post and not in_sandbox and not rules.allowed:
        raise UserError("--post: submit.allowed is empty; name each subreddit and who permitted the bot there, see config.example.toml")
    folder = out or Path("data/runs") / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    settings = ["--config", str(config_file)] if config_file else []
    here = ["--run", str(folder), *settings]
    environment = dict(os.environ)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a run that is stopped leaves its journal; its stage dies with it
    with ExitStack() as stack:
        environment |= stack.enter_context(files.run_folder(folder, make=True))
        for name in files.RUN_TABLES:
            files.check_output(folder / f"{name}.csv")
        if in_sandbox:
            environment["BOT_REDDIT__URL"] = stack.enter_context(sandbox_process(folder))
            environment["BOT_FETCH__SUBREDDITS"] = json.dumps(sandbox.SUBREDDITS)
            environment["BOT_SUBMIT__ALLOWED"] = json.dumps([{"subreddit": each, "permitted_by": "nobody"} for each in sandbox.SUBREDDITS])
            environment["BOT_SUBMIT__LEDGER"] = str(folder / "ledger.sqlite")
            environment["BOT_SUBMIT__MINIMUM_PAUSE_SECONDS"] = "0"
        elif post:  # before anything is asked of Reddit; `submit` holds the ledger itself
            stack.enter_context(ledger.lock(rules.ledger.with_suffix(".run")))
            with ledger.lock(rules.ledger):
                pass
        start = stack.enter_context(stages(Journal(folder, quiet), environment))
        if post:
            start("inbox", settings)
        start("fetch", [*here, *(["--limit", str(limit)] if limit else [])])
        if not all(serving.is_current(source, precision) for source, precision in to_ctranslate2.wanted(loaded)):
            start("models export", settings)
        start("generate", [*here, "--seed", str(seed)])
        start("rank", here)
        start("choose", here)
        if post:
            start("submit", [*here, "--post"])
        start("report", ["--run", str(folder)])


@contextmanager
def stages(journal: Journal, environment: dict[str, str]) -> Iterator[Callable[[str, list[str]], None]]:
    """Yields what runs one stage as a process of its own, and exits with its status if that isn't 0; the journal is written at the end."""

    def start(stage: str, arguments: list[str]) -> None:
        began = time.monotonic()
        if not journal.quiet:
            print(f"--- {stage}", flush=True)
        journal.note("start", stage=stage)
        status, last = run_stage(stage, arguments, environment, journal if journal.quiet else None)
        journal.seconds[stage] = round(time.monotonic() - began, 1)
        journal.note("done", stage=stage, status=status, seconds=journal.seconds[stage])
        if status:
            why = f"was killed by signal {-status}" if status < 0 else f"failed with status {status}"
            for line in filter(None, [last, f"run: {stage} {why}; nothing is lost, the same command goes on there"]):
                print(line, file=sys.stderr)
            raise typer.Exit(1 if status < 0 else status)
        if not journal.quiet:
            print(f"    {journal.seconds[stage]:.1f} s", flush=True)

    status = 0
    try:
        yield start
    except typer.Exit as stopped:
        status = stopped.exit_code
        raise
    except KeyboardInterrupt:
        status = 130
        raise
    except SystemExit:
        status = 143
        raise
    except BaseException:
        status = 1
        raise
    finally:
        journal.close(status)


def run_stage(stage: str, arguments: list[str], environment: dict[str, str], journal: Journal | None) -> tuple[int, str]:
    """The stage's exit status; with a journal, what it prints goes there, and the last line comes back.

    What `report` prints is the run's text, which belongs into no log.
    """
    command = [sys.executable, "-m", "bot", *stage.split(), *arguments]
    options: dict[str, Any] = {"env": with_root(environment), "preexec_fn": _die_with_parent}
    if journal is None:
        return subprocess.run(command, check=False, **options).returncode, ""
    last = ""
    options |= {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL if stage == "report" else subprocess.PIPE}
    options |= {"stderr": subprocess.PIPE if stage == "report" else subprocess.STDOUT, "text": True, "errors": "replace"}
    with subprocess.Popen(command, **options) as process:
        for line in process.stdout or process.stderr or ():
            if line.strip():
                last = line.rstrip()
                journal.note("said", stage=stage, text=last)
    return process.returncode, last


def _die_with_parent() -> None:
    """In the child, before it starts: have Linux kill it when this process is killed, so that no orphan writes into a run that goes on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 = PR_SET_PDEATHSIG, man 2 prctl
