"""train lm | realism | upvote | relevance: what is typed becomes the `Options` of the task's trainer (see TRAINERS), which is started.

    python run_bot.py train lm --base smollm2-135m-instruct --data data/prepared --pairs 24000 --out models/lm
    python run_bot.py train realism --data data/prepared --out models/realism
    python run_bot.py train upvote --backend tfhub-bert --classes 4
    python run_bot.py train upvote --realism-out models/realism --no-evaluate

Reads  what the trainer reads.
Writes OUT: a model folder with its card (model.json) and losses (losses.csv), whole, in the place of what was there; while it trains,
       OUT/checkpoint.*, from which the same command resumes. A trained model is replaced with --overwrite alone.

In the end `evaluate --model OUT --data DATA` measures the model, in a process of its own, and writes the metrics of its card.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, get_args, get_type_hints

import typer

from bot import cli, files
from bot.cli import UserError
from bot.train import TRAINERS
from bot.train.options import TrainOptions
from bot.weights import bases, cards

PROGRAM = "python run_bot.py"
CHECKPOINT = "checkpoint."  # what begins so in a model folder is left by a training that was interrupted


def option_type(task: str, backend: str) -> type[TrainOptions]:
    """The data class of the trainer's options."""
    options: type[TrainOptions] = importlib.import_module(TRAINERS[task][backend].module).Options
    return options


def command(task: str, purpose: str) -> Callable[..., None]:
    """The function that `train TASK` calls: its signature, of which typer makes the options, has a field for each of the trainers'."""

    def run(backend: str = next(iter(TRAINERS[task])), overwrite: bool = False, evaluate: bool = True, **given: Any) -> None:
        options = chosen_options(task, backend, given)
        check_base(task, backend, options.base)
        for folder in options.folders:
            check_out(folder, options.data, overwrite)
        importlib.import_module(TRAINERS[task][backend].module).train(options)
        measure(options.folders, options.data, evaluate)

    names = Literal[tuple(TRAINERS[task])]  # type: ignore[valid-type]
    parameters = {
        "backend": (Annotated[names, typer.Option(help="what trains")], next(iter(TRAINERS[task]))),
        **{name: (annotation, None) for name, annotation in options_of(task).items()},
        "overwrite": (files.Overwrite, False),
        "evaluate": (Annotated[bool, typer.Option(help="measure the model in the end, for its card")], True),
    }
    kind = inspect.Parameter.KEYWORD_ONLY
    signature = [inspect.Parameter(name, kind, default=default, annotation=each) for name, (each, default) in parameters.items()]
    run.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
    run.__annotations__ = {name: annotation for name, (annotation, _) in parameters.items()}
    run.__doc__ = f"{purpose} On CPU, or on a GPU where there is one."
    return run


# --- options ------------------------------------------------------------------------------------------------------------


def options_of(task: str) -> dict[str, Any]:
    """By name, the option of each field that any back end of the task has, as typer reads it; not given, it is None.

    Its help tells the default, by back end where they differ; an option that not every back end has stands under those that have it.
    """
    merged: dict[str, dict[str, tuple[Any, Any]]] = {}  # name -> back end -> (annotation, default)
    for backend in TRAINERS[task]:
        kinds = get_type_hints(option_type(task, backend), include_extras=True)
        for each in fields(option_type(task, backend)):
            default = each.default if each.default_factory is MISSING else None
            merged.setdefault(each.name, {})[backend] = kinds[each.name], default
    return {name: _annotation(by_backend, list(TRAINERS[task])) for name, by_backend in merged.items()}


def _annotation(by_backend: Mapping[str, tuple[Any, Any]], backends: Sequence[str]) -> Any:
    (first, _), *_ = by_backend.values()
    kind, option = get_args(first)
    option = copy.copy(option)
    helps = {get_args(annotation)[1].help: backend for backend, (annotation, _) in by_backend.items()}
    if len(helps) > 1:
        option.help = "; ".join(f"{backend}: {text}" for text, backend in helps.items())
    defaults = {backend: str(getattr(default, "value", default)) for backend, (_, default) in by_backend.items() if default is not None}
    alike = len({*defaults.values()}) == 1
    option.show_default = next(iter(defaults.values())) if alike else ", ".join(map(": ".join, defaults.items())) or False
    if len(by_backend) < len(backends):
        option.rich_help_panel = f"With --backend {' or '.join(by_backend)}"
    return Annotated[Optional[kind], option]  # noqa: UP045


def chosen_options(task: str, backend: str, given: Mapping[str, Any]) -> TrainOptions:
    """The back end's options, with what was given (not None) in place of the defaults. Raises UserError for one that it doesn't have."""
    typed = {name: value for name, value in given.items() if value is not None and value != []}
    if foreign := typed.keys() - {each.name for each in fields(option_type(task, backend))}:
        names = ", ".join("--" + name.replace("_", "-") for name in sorted(foreign))
        raise UserError(f"{names}: not an option of --backend {backend}; leave it out, or give the other back end")
    return option_type(task, backend)(**typed)


# --- checks -------------------------------------------------------------------------------------------------------------


def check_base(task: str, backend: str, base: str) -> None:
    """Raises UserError where the base is here and of a kind that the back end doesn't train."""
    wanted = TRAINERS[task][backend].bases
    kind = (bases.read_base(base) or {}).get("kind") if wanted else None
    if kind and kind not in wanted:
        other = next((name for name, trainer in TRAINERS[task].items() if kind in trainer.bases), "")
        remedy = f"give --backend {other}, or another --base" if other else "give another --base"
        raise UserError(f"{base} is a base of kind {kind}, and --backend {backend} trains {' and '.join(wanted)}; {remedy}")


def check_out(out: Path, data: Path, overwrite: bool) -> None:
    """Raises UserError if no model can be written there, or one is there that may not be replaced."""
    is_model = (out / cards.CARD_FILE).exists()
    left_by_training = lambda folder: all(each.name.startswith(CHECKPOINT) for each in folder.iterdir())  # noqa: E731
    files.check_output_folder(out, [data], overwrite or not is_model, lambda folder: is_model or left_by_training(folder))


# --- the end ------------------------------------------------------------------------------------------------------------


def measure(folders: Sequence[Path], data: Path, start: bool) -> None:
    """Print the command that measures each model, and start it.

    Raises UserError where one fails; all models stay as they are.
    """
    failed = []
    for folder in folders:
        arguments = ["evaluate", "--model", str(folder), "--data", str(data)]
        print(f"{PROGRAM} {shlex.join(arguments)}", flush=True)
        if start:
            status = subprocess.run([sys.executable, "-m", "bot", *arguments], env=cli.with_root(os.environ), check=False).returncode
            failed += [f"{folder} (status {status})"] if status else []
    if failed:
        raise UserError(f"trained and saved, but not measured: {', '.join(failed)}; what is printed above says why")


lm = command("lm", "Fine-tune a causal language model on comment -> reply pairs.")
realism = command("realism", "Fine-tune a ranker that tells people's replies from generated ones.")
upvote = command("upvote", "Fine-tune a ranker that tells which of two replies to a comment gets more karma.")
relevance = command("relevance", "Fine-tune a ranker that tells whether a reply belongs to a comment.")
