"""train lm|realism|upvote|relevance|choice|conduct: parse the options of a trainer (see TRAINERS), run it, then evaluate the model.

    python run_bot.py train lm --base smollm2-135m-instruct --data data/prepared --pairs 24000 --out models/lm
    python run_bot.py train realism --data data/prepared --out models/realism
    python run_bot.py train upvote --backend tfhub-bert --classes 4
    python run_bot.py train upvote --realism-out models/realism --no-evaluate

Reads  the trainer's inputs.
Writes OUT: a model folder with its card (model.json) and losses (losses.csv), replaced as a whole; during training, OUT/checkpoint.*,
       from which the same command resumes. An existing model is replaced only with --overwrite.

Afterwards `evaluate --model OUT --data DATA` measures the model in a separate process and writes the metrics into its card.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import os
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, get_args, get_type_hints

import typer

from bot import cli, files
from bot.cli import UserError
from bot.train import TRAINERS, processes
from bot.train.options import TrainOptions
from bot.weights import bases, cards

PROGRAM = "python run_bot.py"
CHECKPOINT = "checkpoint."  # prefix of the files that an interrupted training run leaves in a model folder


def option_type(task: str, backend: str) -> type[TrainOptions]:
    """The trainer's `Options` class."""
    options: type[TrainOptions] = importlib.import_module(TRAINERS[task][backend].module).Options
    return options


def command(task: str, purpose: str) -> Callable[..., None]:
    """The function behind `train TASK`. Its signature, from which typer builds the command, has a parameter for each trainer's option."""

    def run(backend: str = next(iter(TRAINERS[task])), overwrite: bool = False, evaluate: bool = True, **arguments: Any) -> None:
        options = build_options(task, backend, arguments)
        processes.check()
        if processes.count() > 1 and not TRAINERS[task][backend].is_parallel:
            raise UserError(f"train {task} with {backend} runs in one process; start it without torchrun or accelerate")
        check_base(task, backend, getattr(options, "base", ""))  # a model trained from random weights has none
        for folder in options.folders:
            check_out(folder, options.data, overwrite)
        importlib.import_module(TRAINERS[task][backend].module).train(options)
        processes.disconnect()
        if processes.is_first():
            measure(options.folders, options.data, evaluate)

    names = Literal[tuple(TRAINERS[task])]  # type: ignore[valid-type]
    parameters = {
        "backend": (Annotated[names, typer.Option(help="training framework")], next(iter(TRAINERS[task]))),
        **{name: (annotation, None) for name, annotation in merged_options(task).items()},
        "overwrite": (files.Overwrite, False),
        "evaluate": (Annotated[bool, typer.Option(help="evaluate the model after training and write the metrics into its card")], True),
    }
    kind = inspect.Parameter.KEYWORD_ONLY
    signature = [inspect.Parameter(name, kind, default=default, annotation=each) for name, (each, default) in parameters.items()]
    run.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
    run.__annotations__ = {name: annotation for name, (annotation, _) in parameters.items()}
    run.__doc__ = f"{purpose} Uses a GPU if one is available, otherwise the CPU."
    return run


# --- options ------------------------------------------------------------------------------------------------------------


def merged_options(task: str) -> dict[str, Any]:
    """Option name -> typer annotation, for the fields of every back end of the task. An option that is not set is None.

    The help names the back ends that have the option, unless all have it, and the default, one per back end where they differ.
    """
    merged: dict[str, dict[str, tuple[Any, Any]]] = {}  # name -> back end -> (annotation, default)
    for backend in TRAINERS[task]:
        annotations = get_type_hints(option_type(task, backend), include_extras=True)
        for each in fields(option_type(task, backend)):
            default = each.default if each.default_factory is MISSING else None
            merged.setdefault(each.name, {})[backend] = annotations[each.name], default
    return {name: _merged_annotation(by_backend, list(TRAINERS[task])) for name, by_backend in merged.items()}


def _merged_annotation(by_backend: Mapping[str, tuple[Any, Any]], backends: Sequence[str]) -> Any:
    (first, _), *_ = by_backend.values()
    value_type, option = get_args(first)
    option = copy.copy(option)
    helps: dict[str, list[str]] = {}
    for backend, (annotation, _) in by_backend.items():
        helps.setdefault(get_args(annotation)[1].help, []).append(backend)
    is_named = len(helps) > 1
    if is_named:
        option.help = "; ".join(f"{' and '.join(names)}: {text}" for text, names in helps.items())
    if len(by_backend) < len(backends) and not is_named:
        option.help = f"{' and '.join(by_backend)}: {option.help}"
    shown = {backend: _shown_default(default) for backend, (_, default) in by_backend.items() if default not in (None, False)}
    if shown:
        same = len({*shown.values()}) == 1
        default = next(iter(shown.values())) if same else ", ".join(map(": ".join, shown.items()))
        option.help = f"{option.help or ''} [default: {default}]".strip()
    option.show_default = False
    return Annotated[Optional[value_type], option]  # noqa: UP045


def _shown_default(default: Any) -> str:
    return (
        "yes" if default is True else ", ".join(map(str, default)) if isinstance(default, list) else str(getattr(default, "value", default))
    )


def build_options(task: str, backend: str, arguments: Mapping[str, Any]) -> TrainOptions:
    """The back end's options; arguments that are None keep their default. Raises UserError for an option that the back end lacks."""
    given = {name: value for name, value in arguments.items() if value is not None and value != []}
    if unknown := given.keys() - {each.name for each in fields(option_type(task, backend))}:
        names = ", ".join("--" + name.replace("_", "-") for name in sorted(unknown))
        raise UserError(f"{names}: not an option of --backend {backend}; remove it or choose another back end")
    return option_type(task, backend)(**given)


# --- checks -------------------------------------------------------------------------------------------------------------


def check_base(task: str, backend: str, base: str) -> None:
    """Raises UserError if the base exists but is of a kind that the back end cannot train."""
    supported = TRAINERS[task][backend].bases
    kind = (bases.read_base(base) or {}).get("kind") if supported else None
    if kind and kind not in supported:
        other = next((name for name, trainer in TRAINERS[task].items() if kind in trainer.bases), "")
        remedy = f"use --backend {other} or another --base" if other else "use another --base"
        raise UserError(f"{base} is a base of kind {kind}, but --backend {backend} trains {' and '.join(supported)}; {remedy}")


def check_out(out: Path, data: Path, overwrite: bool) -> None:
    """Raises UserError if `out` cannot be written, or holds a model and `overwrite` is False."""
    is_model = (out / cards.CARD_FILE).exists()

    def is_unfinished(folder: Path) -> bool:
        return all(each.name.startswith((CHECKPOINT, f".{CHECKPOINT}")) for each in folder.iterdir())  # the latter: while it is written

    files.check_output_folder(out, [data], overwrite or not is_model, lambda folder: is_model or is_unfinished(folder))


# --- evaluation ---------------------------------------------------------------------------------------------------------


def measure(folders: Sequence[Path], data: Path, run: bool) -> None:
    """Print the command that evaluates each model and, with `run`, run it.

    Raises UserError if an evaluation fails; the models are kept.
    """
    failed = []
    for folder in folders:
        arguments = ["evaluate", "--model", str(folder), "--data", str(data)]
        print(f"{PROGRAM} {shlex.join(arguments)}", flush=True)
        if run:
            command = cli.stage_command(*arguments)
            try:
                status = subprocess.run(
                    command, env=cli.with_root(processes.without_group(os.environ)), check=False, preexec_fn=cli.as_part_of_parent
                ).returncode
            except KeyboardInterrupt:
                raise cli.Interrupted("interrupted: trained and saved, but not measured; the command above measures the model") from None
            failed += [f"{folder} (status {status})"] if status else []
    if failed:
        raise UserError(f"trained and saved, but not evaluated: {', '.join(failed)}; see the error above")


lm = command("lm", "Fine-tune a causal language model on comment -> reply pairs.")
realism = command("realism", "Fine-tune a ranker that separates human-written replies from generated ones.")
upvote = command("upvote", "Fine-tune a ranker that predicts which of two replies to a comment gets more karma.")
conduct = command("conduct", "Fine-tune a classifier of what is not answered, or not said.")
choice = command("choice", "Fine-tune a ranker that predicts whether a reader accepts a generated reply.")
relevance = command("relevance", "Fine-tune a ranker that predicts whether a reply belongs to a comment.")
