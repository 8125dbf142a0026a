"""The command line. `python run_bot.py STAGE …` and `python -m bot STAGE …` do exactly the same.

    python run_bot.py run --sandbox                  the whole online pipeline, dry, against the local sandbox
    python run_bot.py STAGE --help                   the options of one stage
    python run_bot.py --version
    python run_bot.py --install-completion           for bash, zsh or fish: completes commands and options after ./run_bot.py

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
import tomllib  # noqa: E402
from collections.abc import Callable, Mapping, Sequence  # noqa: E402
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
    "init": Stage("bot.online.init", "main", "ask a few questions and write a config"),
    "doctor": Stage("bot.online.doctor", "main", "check packages, models, credentials, ledger, disk"),
    "run": Stage("bot.pipeline", "run", "fetch, generate, rank, choose, report (and submit)"),
    "extract": Stage("bot.corpus.extract", "main", "monthly dumps, BigQuery or dialogues -> reply pairs"),
    "prepare": Stage("bot.corpus.prepare", "main", "reply pairs -> cleaned, split training files"),
    "prepare realism": Stage("bot.corpus.prepare", "realism_command", "training files and candidates -> the realism files"),
    "prepare imitate": Stage("bot.corpus.imitate", "main", "replies worth imitating, for `train lm --imitate`"),
    "prepare picked": Stage("bot.train.picked", "main", "a generator's own best candidates, to learn from"),
    "prepare ranked": Stage("bot.corpus.prepare", "ranked_command", "replies in Reddit's own order -> weak pairs"),
    "train lm": Stage("bot.train.command", "lm", "fine-tune the generator"),
    "train realism": Stage("bot.train.command", "realism", "fine-tune the realism ranker"),
    "train upvote": Stage("bot.train.command", "upvote", "fine-tune the upvote ranker"),
    "train relevance": Stage("bot.train.command", "relevance", "fine-tune the relevance ranker"),
    "train choice": Stage("bot.train.command", "choice", "fine-tune the ranker of graded candidates"),
    "train conduct": Stage("bot.train.command", "conduct", "fine-tune a classifier of comments or replies"),
    "train weights": Stage("bot.train.rank_weights", "main", "fit how much each ranker counts in rank_score"),
    "train sketches": Stage("bot.train.sketches", "main", "sketch training replies, to refuse near-copies"),
    "evaluate": Stage("bot.evaluate.evaluate", "main", "measure rankers on the test split, with baselines"),
    "judge": Stage("bot.web.judge", "main", "compare picks with other candidates, blind"),
    "leaderboard": Stage("bot.evaluate.leaderboard.command", "main", "all generators and rankers in one table"),
    "leaderboard fill": Stage("bot.evaluate.leaderboard.fill", "fill_command", "run the models where a file is missing"),
    "leaderboard retrieve": Stage("bot.evaluate.leaderboard.retrieval", "main", "baseline: the reply to the nearest comment"),
    "judge table": Stage("bot.evaluate.judge", "table_command", "what people answered in `judge`, as a table"),
    "models pull": Stage("bot.weights.pull", "pull_command", "download base weights to models/base"),
    "models list": Stage("bot.weights.listing", "list_command", "trained models, their exports and cards, and bases"),
    "models card": Stage("bot.train.card_text", "card_command", "rewrite the texts of a trained model's card"),
    "models convert": Stage("bot.export.to_transformers", "convert_command", "a gpt-2-simple checkpoint -> transformers"),
    "models export": Stage("bot.export.to_ctranslate2", "export_command", "trained models -> folders for CTranslate2"),
    "models export-tfhub": Stage("bot.export.to_tfhub", "export_tfhub_command", "a BERT -> a TensorFlow Hub SavedModel"),
    "fetch": Stage("bot.online.fetch", "main", "comments to answer -> RUN/comments.csv"),
    "generate": Stage("bot.online.generate", "main", "comments -> candidates"),
    "rank": Stage("bot.online.rank", "main", "RUN/candidates.csv -> RUN/scores.csv"),
    "score": Stage("bot.rankers.scoring", "main", "any CSV with comment,reply -> the same with scores"),
    "perplexity": Stage("bot.generators.perplexity", "main", "how well a generator predicts replies -> JSON"),
    "chat": Stage("bot.online.chat", "main", "talk with the bot in the terminal; Ctrl-D ends it"),
    "reply": Stage("bot.online.reply", "main", "try one comment in the terminal; nothing is posted"),
    "check": Stage("bot.online.check", "main", "any CSV with comment,reply -> reasons against them"),
    "choose": Stage("bot.online.choose", "main", "RUN/scores.csv -> RUN/scored.csv, RUN/chosen.csv"),
    "submit": Stage("bot.online.submit", "main", "RUN/chosen.csv -> replies on Reddit (with --post)"),
    "web": Stage("bot.web.app", "main", "pages to approve, judge, try the bot, and chat"),
    "report": Stage("bot.report.report", "main", "a run as a table and as RUN/report.html"),
    "sandbox": Stage("bot.sandbox.program", "main", "a local Reddit for demos and tests"),
    "adopt": Stage("bot.online.adopt", "main", "add replies on Reddit that the ledger lacks"),
    "inbox": Stage("bot.online.inbox", "main", "obey !stop and !delete, withdraw unwanted replies"),
    "harvest": Stage("bot.online.harvest", "main", "karma, replies, removal of own replies -> CSV"),
    "pause": Stage("bot.posting.operate", "pause_command", "stop posting until `resume`"),
    "resume": Stage("bot.posting.operate", "resume_command", "start posting again"),
    "unbench": Stage("bot.posting.operate", "unbench_command", "allow replies in a subreddit again"),
    "forget": Stage("bot.posting.operate", "forget_command", "delete a person's data, never reply to them again"),
    "status": Stage("bot.posting.operate", "status_command", "what was posted, refused, parked and capped"),
    "resolve": Stage("bot.posting.operate", "resolve_command", "settle replies that may have been posted"),
    "purge": Stage("bot.posting.purge", "purge_command", "remove every trace of deleted comments"),
    "prune": Stage("bot.posting.prune", "prune_command", "remove old run folders"),
}
# These, interrupted and repeated, resume where they stopped. `run` says itself how to resume.
RESUMES = frozenset({
    "extract", "train lm", "train realism", "train upvote", "train relevance", "train choice", "train conduct", "evaluate", "judge",
    "leaderboard fill", "models pull", "models export", "generate", "rank", "score", "harvest",
})  # fmt: skip
GROUPS = {"train": "fine-tune a model", "models": "base weights, exports and cards"}


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


def version() -> str:
    """The version in pyproject.toml."""
    return str(tomllib.loads((cli.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def overview(stage: str = "") -> Any:
    """A typer app that lists the stages and rejects unknown ones. stage: a stage to add with its options, for shell completion."""
    import typer

    def show_version(wanted: bool) -> None:
        if wanted:
            print(version())
            raise typer.Exit

    def callback(
        version: bool = typer.Option(False, "--version", help="print the version", callback=show_version, is_eager=True),
    ) -> None: ...

    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, no_args_is_help=True)
    groups = {name: typer.Typer(no_args_is_help=True, help=text, rich_markup_mode=None) for name, text in GROUPS.items()}
    app.callback(help="A Reddit reply bot that generates candidates and ranks them. COMMAND --help shows its options.")(callback)
    for name, app_of_group in groups.items():
        app.add_typer(app_of_group, name=name)
    for name, each in STAGES.items():
        group, _, last = name.rpartition(" ")
        within, shown = (groups[group], last) if group in groups else (app, name)
        within.command(shown, help=each.help)(lambda: None)
    if stage:
        group, _, last = stage.rpartition(" ")
        within, shown = (groups[group], last) if group in groups else (app, stage.split()[0])
        within.command(shown)(command_of(stage))
    return app


def completed_words(environment: Mapping[str, str]) -> list[str]:
    """The words of the command line that the shell asks to complete, without the program; empty if it does not ask.

    >>> completed_words({"_RUN_BOT.PY_COMPLETE": "complete_bash", "COMP_WORDS": "./run_bot.py train lm --p"})
    ['train', 'lm', '--p']
    """
    if not any(name.startswith("_") and name.endswith("_COMPLETE") for name in environment):
        return []
    return (environment.get("COMP_WORDS") or environment.get("_TYPER_COMPLETE_ARGS", "")).split()[1:]


def main(program: str = "python -m bot") -> None:
    """Run the command line. program: the command as typed, for usage lines and errors."""
    try:
        run(program)
    except KeyboardInterrupt:  # while the modules of a stage are imported
        print(f"{program}: interrupted", file=sys.stderr)
        sys.exit(130)


def run(program: str) -> None:
    stage, arguments = find(sys.argv[1:])
    try:
        import typer  # noqa: F401
    except ModuleNotFoundError:
        start_in_environment(program)
    if stage:
        for name in os.environ.keys() - cli.without_credentials(os.environ, stage).keys():
            del os.environ[name]
        cli.run_command(command_of(stage), f"{program} {stage}", arguments, stage in RESUMES and "-" not in arguments)
    else:
        cli.run_command(overview(find(completed_words(os.environ))[0]), program, arguments)


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
