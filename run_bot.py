"""The command line of the bot: it parses, starts the stages as processes of their own, and prints.

    python run_bot.py run --sandbox                  the whole online pipeline, dry, against the local sandbox
    python run_bot.py STAGE --help                   one stage alone; `python -m bot.STAGE` is the same

Exit status: 0 done, 1 something is wrong (one line says what), 2 wrong options, 69 Reddit can't be reached, 74 the disk is full, 75
another run holds the run folder or the ledger, 77 Reddit doesn't take the credentials, 78 a setting is wrong, 130 interrupted, 143 stopped.
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
from typing import Annotated, Any, Literal

import typer
from filelock import FileLock, Timeout

from bot import Busy, UserError, config, export_ct2, ledger, run_command, sandbox, with_root
from bot.journal import Journal

# `run_bot.py NAME …` starts `python -m MODULE …`. A new stage is one line here.
STAGES = {
    "extract": ("bot.extract", "monthly dumps or BigQuery -> reply pairs"),
    "prepare": ("bot.prepare", "reply pairs -> cleaned, split training files"),
    "train lm": ("bot.train_lm", "fine-tune the generator"),
    "train realism": ("bot.train_ranker", "fine-tune the realism ranker"),
    "train upvote": ("bot.train_ranker", "fine-tune the upvote ranker"),
    "train relevance": ("bot.train_ranker", "fine-tune the relevance ranker"),
    "train weights": ("bot.train_weights", "fit how much each ranker counts in rank_score"),
    "evaluate": ("bot.evaluate", "measure the rankers on the test split, beside their baselines"),
    "models": ("bot.models", "base weights: pull NAME, list; convert, export, export-tfhub"),
    "fetch": ("bot.fetch", "comments to answer -> RUN/comments.csv"),
    "generate": ("bot.generate", "comments -> candidates"),
    "rank": ("bot.rank", "candidates -> RUN/scored.csv"),
    "score": ("bot.rank", "any CSV with comment,reply -> the same with scores"),
    "choose": ("bot.choose", "RUN/scored.csv -> RUN/chosen.csv"),
    "submit": ("bot.submit", "RUN/chosen.csv -> replies on Reddit, each once (with --post)"),
    "report": ("bot.report", "a run as a table and as RUN/report.html"),
    "sandbox": ("bot.sandbox", "a local Reddit for demos and tests"),
    "inbox": ("bot.inbox", "obey !stop and !delete, withdraw what nobody wanted; a posting run begins with it"),
    "harvest": ("bot.harvest", "karma, replies and removal of own replies -> data/harvest.csv"),
    "pause": ("bot.operate", "post nothing until resume"),
    "resume": ("bot.operate", "post again"),
    "forget": ("bot.operate", "forget USER: remove what is known of a person, never reply to them again"),
    "status": ("bot.operate", "what was posted, refused, parked and capped, and why"),
    "resolve": ("bot.operate", "say what became of replies that may have been posted and can't be found"),
    "purge": ("bot.operate", "remove every trace of deleted comments: purge --ids FILE"),
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
train = typer.Typer(no_args_is_help=True, help="Fine-tune a model.")
app.add_typer(train, name="train")


@app.callback()
def about() -> None:
    """A Reddit reply bot that generates, then ranks. Every command is a process of its own; COMMAND --help tells its options."""


@app.command()
def run(
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings; config.example.toml says them all")] = None,
    out: Annotated[Path | None, typer.Option(help="the run folder [default: data/runs/YYYYMMDDTHHMMSSZ]; a broken run goes on")] = None,
    in_sandbox: Annotated[bool, typer.Option("--sandbox", help="against the local sandbox, started for this run")] = False,
    post: Annotated[bool, typer.Option("--post", help="post what is chosen, where submit.allowed permits it")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="answer at most so many comments")] = None,
    seed: Annotated[int, typer.Option(help="the same seed gives the same text")] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", help="for cron: print only what went wrong; the rest goes into RUN/log.jsonl")] = False,
    engine: Annotated[
        Literal["ctranslate2", "transformers"] | None,
        typer.Option(help="back end of generator and rankers, instead of the config's; transformers is the reference"),
    ] = None,
) -> None:
    """fetch -> generate -> rank -> choose, and a report; nothing is sent without --post."""
    if engine:
        os.environ |= {"BOT_GENERATE__BACKEND": engine, "BOT_RANK__BACKEND": engine}
    loaded = config.load(config_file)  # a wrong setting is told before anything starts
    rules = loaded.submit
    if post and not in_sandbox and not rules.allowed:
        raise UserError("--post: submit.allowed is empty; name each subreddit and who permitted the bot there, see config.example.toml")
    folder = out or Path("data/runs") / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: not a folder; --out names the run folder")
    folder.mkdir(parents=True, exist_ok=True)
    settings = ["--config", str(config_file)] if config_file else []
    here = ["--run", str(folder), *settings]
    environment = dict(os.environ)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a run that is stopped leaves its journal; its stage dies with it
    with ExitStack() as stack:
        try:
            stack.enter_context(FileLock(folder / ".lock", blocking=False))
        except Timeout:
            raise Busy(f"another run holds {folder}; wait for it or give another --out") from None
        if in_sandbox:
            environment["BOT_REDDIT__URL"] = stack.enter_context(sandbox.process(folder))
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
        if not all(export_ct2.is_current(source, precision) for source, precision in export_ct2.wanted(loaded)):
            start("models", ["export", *settings])
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
    command = [sys.executable, "-m", STAGES[stage][0], *arguments]
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


def _add(name: str, module: str, help_text: str) -> None:
    """A command that hands everything after its name, --help included, to the stage's own process."""
    group, _, last = name.rpartition(" ")
    first = [last] if module in ("bot.train_ranker", "bot.operate") else []  # one module, several commands

    @(train if group else app).command(
        last, help=help_text, add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True}
    )
    def command(context: typer.Context) -> None:
        call = [sys.executable, "-m", module, *first, *context.args]
        os.execve(sys.executable, call, with_root(os.environ))


for _name, (_module, _help) in STAGES.items():
    _add(_name, _module, _help)

if __name__ == "__main__":
    run_command(app, "run_bot.py")
