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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from bot import config, files, generators, rankers, sandbox
from bot.cli import ASKS_REDDIT, UserError, with_root, without_credentials
from bot.config import Settings
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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a run that is stopped leaves its journal; its stage dies with it
    with ExitStack() as stack:
        environment = dict(os.environ) | stack.enter_context(files.run_folder(folder, make=True))
        for name in files.RUN_TABLES:
            files.check_output(folder / f"{name}.csv")
        path = rules.ledger
        if in_sandbox:
            environment = without_credentials(environment) | sandbox_settings(stack.enter_context(sandbox_process(folder)), folder)
            path = Path(environment["BOT_SUBMIT__LEDGER"])
        if post:  # before anything is asked of Reddit; `inbox` and `submit` hold the ledger themselves
            stack.enter_context(ledger.lock(path.with_suffix(".run")))
            with ledger.held(path, make=True):
                pass
        start = stack.enter_context(stages(Journal(folder, quiet), environment))
        for stage, arguments in plan(folder, config_file, loaded, post, limit, seed):
            start(stage, arguments)


def sandbox_settings(url: str, folder: Path) -> dict[str, str]:
    """Environment variables that turn every stage to the sandbox at `url`: it may be posted to, with a ledger in the run's folder."""
    return {
        "BOT_REDDIT__URL": url,
        "BOT_FETCH__SUBREDDITS": json.dumps(sandbox.SUBREDDITS),
        "BOT_SUBMIT__ALLOWED": json.dumps([{"subreddit": each, "permitted_by": "nobody"} for each in sandbox.SUBREDDITS]),
        "BOT_SUBMIT__LEDGER": str(folder / "ledger.sqlite"),
        "BOT_SUBMIT__MINIMUM_PAUSE_SECONDS": "0",
    }


def plan(
    folder: Path, config_file: Path | None, settings: Settings, post: bool, limit: int | None, seed: int
) -> Iterator[tuple[str, list[str]]]:
    """The stages of a run, in their order, and their arguments."""
    with_config = ["--config", str(config_file)] if config_file else []
    here = ["--run", str(folder), *with_config]
    if post:
        yield "inbox", with_config
    yield "fetch", [*here, *(["--limit", str(limit)] if limit else [])]
    if not all(serving.is_current(source, precision) for source, precision in to_ctranslate2.wanted(settings)):
        yield "models export", with_config
    yield "generate", [*here, "--seed", str(seed)]
    yield "rank", here
    yield "choose", here
    if post:
        yield "submit", [*here, "--post"]
    yield "report", ["--run", str(folder)]


@contextmanager
def stages(journal: Journal, environment: Mapping[str, str]) -> Iterator[Callable[[str, list[str]], None]]:
    """Yields what runs one stage as a process of its own, and exits with its status if that isn't 0; the journal is written at the end."""

    def start(stage: str, arguments: list[str]) -> None:
        began = time.monotonic()
        journal.note("start", stage=stage)
        status, lines = run_stage(stage, arguments, environment, journal)
        seconds = journal.seconds[stage] = round(time.monotonic() - began, 1)
        journal.note("done", stage=stage, status=status, seconds=seconds)
        if not journal.quiet:
            print(step(stage, seconds, lines), flush=True)
        if status:
            why = f"was killed by signal {-status}" if status < 0 else f"failed with status {status}"
            last = lines[-1:] if journal.quiet else []
            print(*last, f"run: {stage} {why}; nothing is lost, the same command goes on there", sep="\n", file=sys.stderr)
            raise typer.Exit(1 if status < 0 else status)

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


def step(stage: str, seconds: float, lines: Sequence[str]) -> str:
    """A stage's name, its seconds, and what it printed.

    >>> step("fetch", 1.24, ["fetch: r/a is left out: private", "3 comments"]).splitlines()
    ['fetch            1.2 s  r/a is left out: private', '                        3 comments']
    """
    printed = f"\n{'':24}".join(line.removeprefix(f"{stage}: ") for line in lines)
    return f"{stage:<13} {seconds:6.1f} s  {printed}".rstrip()


def run_stage(stage: str, arguments: list[str], environment: Mapping[str, str], journal: Journal) -> tuple[int, list[str]]:
    """The stage's exit status, and the lines that it printed. Of a quiet run they are noted in the journal, errors too.

    Its Python takes no module from the working folder (-P), and only a stage that speaks to Reddit has PRAW's variables.

    What `report` prints is the run's text: a terminal gets it as it is, and no log does.
    """
    shown = subprocess.DEVNULL if journal.quiet else None
    out = shown if stage == "report" else subprocess.PIPE
    error = None if not journal.quiet else subprocess.PIPE if stage == "report" else subprocess.STDOUT
    command = [sys.executable, "-P", "-m", "bot", *stage.split(), *arguments]
    lines = []
    allowed = environment if stage in ASKS_REDDIT else without_credentials(environment)
    with subprocess.Popen(
        command, env=with_root(allowed), preexec_fn=_die_with_parent, stdin=shown, stdout=out, stderr=error, text=True, errors="replace"
    ) as process:
        try:
            for line in filter(str.strip, process.stdout or process.stderr or ()):
                lines.append(line.rstrip())
                if journal.quiet:
                    journal.note("said", stage=stage, text=lines[-1])
        except BaseException:
            process.kill()  # or leaving would wait for its end
            raise
    return process.returncode, lines


def _die_with_parent() -> None:
    """In the child, before it starts: have Linux kill it when this process is killed, so that no orphan writes into a run that goes on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 = PR_SET_PDEATHSIG, man 2 prctl
