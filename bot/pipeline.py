"""run: start the stages of one run, each in its own process.

Reads  the config, and the inputs of the stages.
Writes RUN: the files of every stage, log.jsonl, metrics.json and summary.txt (see report/journal.py).

    python run_bot.py run --sandbox --limit 10
    python run_bot.py run --post --config my.toml
"""

from __future__ import annotations

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

from bot import config, files, generators, rankers
from bot.cli import Busy, Interrupted, UserError, WrongSettings, as_part_of_parent, stage_command, with_root, without_credentials
from bot.config import Settings
from bot.export import to_ctranslate2
from bot.posting import ledger
from bot.rankers import scoring
from bot.report.journal import Journal
from bot.sandbox.process import sandbox_process, sandbox_settings
from bot.weights import serving

# Back ends that can run both the generator and the rankers.
ENGINES = [name for name in generators.BACK_ENDS if name in rankers.BACK_ENDS]


def run(
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings; see config.example.toml")] = None,
    out: Annotated[Path | None, typer.Option(help="run folder [default: data/runs/YYYYMMDDTHHMMSSZ]; an interrupted run resumes")] = None,
    in_sandbox: Annotated[bool, typer.Option("--sandbox", help="use a local sandbox, started for this run")] = False,
    post: Annotated[bool, typer.Option("--post", help="post the chosen replies where submit.allowed permits it")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="answer at most this many comments")] = None,
    seed: Annotated[int, typer.Option(help="random seed; the same seed gives the same text")] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", help="for cron: print only errors; the rest goes to RUN/log.jsonl")] = False,
    engine: Annotated[
        str | None, typer.Option(help=f"back end of generator and rankers, overrides the config: {', '.join(ENGINES)}")
    ] = None,
) -> None:
    """fetch -> generate -> rank -> choose, and a report. Nothing is posted without --post."""
    folder = out or Path("data/runs") / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    to_resume = f"repeat the command{'' if out else f' with --out {folder}'} to resume"
    try:
        loaded = settings_of(config_file, engine, in_sandbox, post)
        with (
            prepared(folder, loaded.submit.ledger, in_sandbox, post) as environment,
            stages(Journal(folder, quiet), environment, to_resume) as start,
        ):
            for stage, arguments in plan(folder, config_file, loaded, post, limit, seed):
                start(stage, arguments)
    except Busy:
        if quiet:  # cron starts the next run while this one is not finished
            raise typer.Exit(Busy.status) from None
        raise
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {to_resume}") from None


def settings_of(config_file: Path | None, engine: str | None, in_sandbox: bool, post: bool) -> Settings:
    """The settings, checked before anything starts. engine: also set for the stages, in the environment.

    Raises:
        UserError: there is no such engine.
        WrongSettings: a setting is wrong, or a run cannot work with it.
    """
    if engine and engine not in ENGINES:
        raise UserError(f"--engine {engine}: no such engine; choose one of {', '.join(ENGINES)}")
    if engine:
        os.environ |= {"BOT_GENERATE__BACKEND": engine, "BOT_RANK__BACKEND": engine}
    loaded = config.load(config_file)
    scoring.check_weights(loaded.rank)
    if post and not in_sandbox and not loaded.submit.allowed:
        raise WrongSettings("--post: submit.allowed is empty; list each subreddit and who permitted the bot there, see config.example.toml")
    return loaded


@contextmanager
def prepared(folder: Path, ledger_path: Path, in_sandbox: bool, post: bool) -> Iterator[dict[str, str]]:
    """Lock the run folder and, with `post`, the ledger, and start the sandbox if wanted. Yields the environment for the stages."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a terminated run still writes its journal
    with ExitStack() as stack:
        environment = dict(os.environ) | stack.enter_context(files.run_folder(folder, make=True))
        for name in files.RUN_TABLES:
            files.check_output(folder / f"{name}.csv")
        if in_sandbox:
            environment = without_credentials(environment, "generate") | sandbox_settings(
                stack.enter_context(sandbox_process(folder)), folder
            )
            ledger_path = Path(environment["BOT_SUBMIT__LEDGER"])
        if post:  # lock before any request to Reddit; `inbox` and `submit` lock the ledger themselves
            stack.enter_context(ledger.lock(ledger_path.with_suffix(".run")))
            with ledger.held(ledger_path, make=True):
                pass
        yield environment


def plan(
    folder: Path, config_file: Path | None, settings: Settings, post: bool, limit: int | None, seed: int
) -> Iterator[tuple[str, list[str]]]:
    """Yield the stages of a run in order, each with its arguments."""
    with_config = ["--config", str(config_file)] if config_file else []
    with_run = ["--run", str(folder), *with_config]
    if post:
        yield "inbox", with_config
    yield "fetch", [*with_run, *(["--limit", str(limit)] if limit else [])]
    if not all(serving.is_current(source, precision) for source, precision in to_ctranslate2.required_exports(settings)):
        yield "models export", with_config
    yield "generate", [*with_run, "--seed", str(seed)]
    yield "rank", with_run
    yield "choose", with_run
    if post:
        yield "submit", [*with_run, "--post"]
    yield "report", ["--run", str(folder)]


@contextmanager
def stages(
    journal: Journal, environment: Mapping[str, str], to_resume: str = "repeat the command to resume"
) -> Iterator[Callable[[str, list[str]], None]]:
    """Yield a function that runs one stage in its own process and exits with its status if it fails. Closes the journal at the end.

    to_resume: what a person does to resume the run.
    """

    def start(stage: str, arguments: list[str]) -> None:
        began = time.monotonic()
        journal.note("start", stage=stage)
        status, lines = run_stage(stage, arguments, environment, journal)
        seconds = journal.seconds[stage] = round(time.monotonic() - began, 1)
        journal.note("done", stage=stage, status=status, seconds=seconds)
        if not journal.quiet:
            print(step(stage, seconds, lines), flush=True)
        if status:
            reason = f"was killed by signal {-status}" if status < 0 else f"failed with status {status}"
            last = lines[-1:] if journal.quiet else []
            if not (journal.quiet and status == Busy.status):
                print(*last, f"run: {stage} {reason}; nothing is lost; fix this, then {to_resume} from there", sep="\n", file=sys.stderr)
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
    """A stage's name, its duration in seconds, and its output lines.

    >>> step("fetch", 1.24, ["fetch: r/a is left out: private", "3 comments"]).splitlines()
    ['fetch            1.2 s  r/a is left out: private', '                        3 comments']
    """
    text = f"\n{'':24}".join(line.removeprefix(f"{stage}: ") for line in lines)
    return f"{stage:<13} {seconds:6.1f} s  {text}".rstrip()


def run_stage(stage: str, arguments: list[str], environment: Mapping[str, str], journal: Journal) -> tuple[int, list[str]]:
    """Run a stage and return its exit status and output lines. In a quiet run the lines, including errors, go to the journal.

    The process does not import modules from the working folder (-P), and gets only the credentials that the stage needs.

    The output of `report` is the result of the run: it goes to the terminal unchanged and is never logged.
    """
    shown = subprocess.DEVNULL if journal.quiet else None
    out = shown if stage == "report" else subprocess.PIPE
    error = None if not journal.quiet else subprocess.PIPE if stage == "report" else subprocess.STDOUT
    command = stage_command(*stage.split(), *arguments)
    lines = []
    allowed = without_credentials(environment, stage)
    with subprocess.Popen(
        command, env=with_root(allowed), preexec_fn=as_part_of_parent, stdin=shown, stdout=out, stderr=error, text=True, errors="replace"
    ) as process:
        try:
            for line in filter(str.strip, process.stdout or process.stderr or ()):
                lines.append(line.rstrip())
                if journal.quiet:
                    journal.note("output", stage=stage, text=lines[-1])
        except BaseException:
            process.kill()  # otherwise leaving the block would wait for the process to end
            raise
    return process.returncode, lines
