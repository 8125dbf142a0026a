"""The command line. `python run_bot.py STAGE …` and `python -m bot STAGE …` do exactly the same.

    python run_bot.py run --sandbox                  the whole online pipeline, dry, against the local sandbox
    python run_bot.py STAGE --help                   the options of one stage

Exit status: 0 success, 1 error (reported in one line), 2 invalid options, 69 Reddit is unreachable, 74 the disk is full, 75 another run
has locked the run folder or the ledger, 77 Reddit rejects the credentials, 78 invalid configuration, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import os
import sys


def leave_working_folder() -> None:
    """Remove the working folder from the module path, unless it is the project's. `python -m` and empty parts of PYTHONPATH add it."""
    try:
        folder = os.path.realpath(os.curdir)
    except OSError:  # the folder was deleted
        return
    if folder != os.path.dirname(os.path.dirname(os.path.realpath(__file__))):  # noqa: PTH120 (pathlib could be a file in that folder)
        sys.path[:] = [part for part in sys.path if os.path.realpath(part) != folder]


leave_working_folder()  # before all other imports

import importlib  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from typing import Any, NamedTuple  # noqa: E402

from bot import cli  # noqa: E402


class Stage(NamedTuple):
    """A command: a function in a module. The function's typer annotations define its options."""

    module: str
    function: str
    help: str


# `run_bot.py NAME …` calls the function. To add a stage, add a line here. A module is imported only when its stage is called, so a process
# loads at most one framework.
STAGES = {
    "run": Stage("bot.pipeline", "run", "fetch, generate, rank, choose, report; with --post also submit"),
    "extract": Stage("bot.corpus.extract", "main", "monthly dumps or BigQuery -> reply pairs"),
    "prepare": Stage("bot.corpus.prepare", "main", "reply pairs -> cleaned, split training files"),
    "prepare realism": Stage("bot.corpus.prepare", "realism_command", "training files and generated replies -> the realism files"),
    "prepare imitate": Stage("bot.corpus.imitate", "main", "replies worth imitating, for `train lm --imitate`"),
    "prepare ranked": Stage("bot.corpus.prepare", "ranked_command", "replies in Reddit's own order -> weak pairs for the upvote ranker"),
    "train lm": Stage("bot.train.command", "lm", "fine-tune the generator"),
    "train realism": Stage("bot.train.command", "realism", "fine-tune the realism ranker"),
    "train upvote": Stage("bot.train.command", "upvote", "fine-tune the upvote ranker"),
    "train relevance": Stage("bot.train.command", "relevance", "fine-tune the relevance ranker"),
    "train choice": Stage("bot.train.command", "choice", "fine-tune the ranker that learns from graded candidates"),
    "train conduct": Stage("bot.train.command", "conduct", "fine-tune a classifier of comments or replies"),
    "train weights": Stage("bot.train.rank_weights", "main", "fit how much each ranker counts in rank_score"),
    "train sketches": Stage("bot.train.sketches", "main", "sketch a generator's training replies, so that `choose` can refuse near-copies"),
    "evaluate": Stage("bot.evaluate.evaluate", "main", "measure the rankers on the test split, next to their baselines"),
    "judge": Stage(
        "bot.web.judge", "main", "people read the pick beside another candidate, blind: terminal, page or sheet -> judgements.csv"
    ),
    "judge table": Stage("bot.evaluate.judge", "table_command", "what people answered: how often the pick is better, and acceptable"),
    "models pull": Stage("bot.weights.pull", "pull_command", "download base weights to models/base"),
    "models list": Stage("bot.weights.bases", "list_command", "list the known bases and show which are installed"),
    "models card": Stage("bot.train.card_text", "card_command", "rewrite the texts of a trained model's card"),
    "models convert": Stage("bot.export.to_transformers", "convert_command", "a gpt-2-simple checkpoint -> a transformers folder"),
    "models export": Stage("bot.export.to_ctranslate2", "export_command", "trained models -> serving folders for CTranslate2"),
    "models export-tfhub": Stage("bot.export.to_tfhub", "export_tfhub_command", "a BERT -> a TensorFlow Hub SavedModel"),
    "fetch": Stage("bot.online.fetch", "main", "comments to answer -> RUN/comments.csv"),
    "generate": Stage("bot.online.generate", "main", "comments -> candidates"),
    "rank": Stage("bot.online.rank", "main", "RUN/candidates.csv -> RUN/scores.csv"),
    "score": Stage("bot.rankers.scoring", "main", "any CSV with comment,reply -> the same CSV with scores"),
    "perplexity": Stage("bot.generators.perplexity", "main", "how well a generator predicts held-out replies -> JSON"),
    "check": Stage("bot.online.check", "main", "any CSV of comments and replies -> the same CSV with the reasons against them"),
    "choose": Stage("bot.online.choose", "main", "RUN/scores.csv -> RUN/scored.csv and RUN/chosen.csv"),
    "submit": Stage("bot.online.submit", "main", "RUN/chosen.csv -> replies on Reddit, each once (with --post)"),
    "report": Stage("bot.report.report", "main", "a run as a table and as RUN/report.html"),
    "sandbox": Stage("bot.sandbox.program", "main", "a local Reddit for demos and tests"),
    "adopt": Stage("bot.online.adopt", "main", "add replies that exist on Reddit but not in the ledger"),
    "inbox": Stage("bot.online.inbox", "main", "obey !stop and !delete, withdraw unwanted replies; a posting run begins with it"),
    "harvest": Stage("bot.online.harvest", "main", "karma, replies and removal of the bot's own replies -> data/harvest.csv"),
    "pause": Stage("bot.posting.operate", "pause_command", "stop posting until `resume`"),
    "resume": Stage("bot.posting.operate", "resume_command", "start posting again"),
    "unbench": Stage("bot.posting.operate", "unbench_command", "unbench SUBREDDIT: allow replies there again"),
    "forget": Stage("bot.posting.operate", "forget_command", "forget USER: delete all data about a user and never reply to them again"),
    "status": Stage("bot.posting.operate", "status_command", "show what was posted, refused, parked and capped, and why"),
    "resolve": Stage("bot.posting.operate", "resolve_command", "record the outcome of replies that may have been posted"),
    "purge": Stage("bot.posting.purge", "purge_command", "remove every trace of deleted comments: purge --ids FILE, or --gone"),
    "prune": Stage("bot.posting.prune", "prune_command", "remove old run folders: prune --older-than 30d"),
}
GROUPS = {"train": "Fine-tune a model.", "models": "Base weights, exports and cards."}


def command_of(stage: str) -> Callable[..., Any]:
    """Import and return the function of a stage."""
    command: Callable[..., Any] = getattr(importlib.import_module(STAGES[stage].module), STAGES[stage].function)
    return command


def find(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Split the arguments into the name of a stage (empty if there is none) and the remaining arguments.

    >>> find(["train", "lm", "--seed", "2"]), find(["--help"])
    (('train lm', ['--seed', '2']), ('', ['--help']))
    """
    for words in (2, 1):
        if (name := " ".join(arguments[:words])) in STAGES:
            return name, list(arguments[words:])
    return "", list(arguments)


def overview() -> Any:
    """A typer app that lists the stages and rejects unknown ones."""
    import typer

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
    groups = {name: typer.Typer(no_args_is_help=True, help=text) for name, text in GROUPS.items()}
    app.callback(help="A Reddit reply bot that generates candidates and ranks them. COMMAND --help shows its options.")(lambda: None)
    for name, each in groups.items():
        app.add_typer(each, name=name)
    for name, stage in STAGES.items():
        group, _, last = name.rpartition(" ")
        within, shown = (groups[group], last) if group in groups else (app, name)
        within.command(shown, help=stage.help)(lambda: None)
    return app


def main(program: str = "python -m bot") -> None:
    """Run the command line. program: the command as typed, for usage lines and errors."""
    stage, arguments = find(sys.argv[1:])
    try:
        import typer  # noqa: F401
    except ModuleNotFoundError:
        start_in_environment(program)
    if stage:
        if stage not in cli.ASKS_REDDIT:
            for name in os.environ.keys() - cli.without_credentials(os.environ).keys():
                del os.environ[name]
        cli.run_command(command_of(stage), f"{program} {stage}", arguments)
    else:
        cli.run_command(overview(), program, arguments)


def start_in_environment(program: str) -> None:
    """Restart the command with the Python of .venv. Exits with one line if there is no usable .venv."""
    python = cli.ROOT / ".venv" / "bin" / "python"
    if python.exists() and os.environ.get("BOT_RESTARTED") != str(os.getpid()):
        os.environ["BOT_RESTARTED"] = str(os.getpid())  # exec keeps the process id, so this cannot loop
        call = [str(python), *(["-P", "-m", "bot"] if program == "python -m bot" else [str(cli.ROOT / "run_bot.py")]), *sys.argv[1:]]
        os.execve(call[0], call, cli.with_root(os.environ))
    sys.exit(f"{program}: the packages in requirements.txt are not installed; run `make setup` in {cli.ROOT}, then repeat the command")


if __name__ == "__main__":
    main()
