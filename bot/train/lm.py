"""train lm: fine-tune a causal language model to write a reply after `comment [SEP]`.

Reads  DATA/lm_{train,val,test}.csv and a base in models/base/ (`python run_bot.py models pull NAME`).
Writes OUT: a LoRA adapter (or, with --method full, the whole model), model.json, losses.csv and replies.npy (see copies); while it
       trains, OUT/checkpoint.pt.

    python run_bot.py train lm --base smollm2-135m-instruct --data data/prepared --pairs 24000 --out models/lm

Only the reply's tokens and the end token carry loss: the model is never asked to write the comment.
`--backend gpt-2-simple` is train_gpt_2_simple.py's: it reads and writes what that says, and never loads PyTorch.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bot.cli import UserError
from bot.train import lm_transformers
from bot.weights import bases

if TYPE_CHECKING:
    pass


class Backend(StrEnum):
    transformers = "transformers"
    gpt_2_simple = "gpt-2-simple"


class Restore(StrEnum):
    latest = "latest"
    fresh = "fresh"


# The options that a back end has, and their defaults; the others' are refused.
OPTIONS: dict[Backend, dict[str, Any]] = {
    Backend.transformers: {
        "base": "smollm2-135m-instruct", "method": lm_transformers.Method.lora, "pairs": 24_000, "epochs": 1, "max_tokens": 96, "batch_tokens": 1024,
        "learning_rate": 5e-4,
    },
    Backend.gpt_2_simple: {
        "base": "124M", "steps": 1000, "batch_size": 1, "accumulate": 5, "learning_rate": 1e-4, "freeze_embeddings": False,
        "restore": Restore.latest, "sample_interval": 200, "save_interval": 200,
    },
}  # fmt: skip


def chosen_options(backend: Backend, given: dict[str, Any]) -> dict[str, Any]:
    """The back end's options, with what was given (not None) in place of the defaults.

    >>> chosen_options(Backend.gpt_2_simple, {"steps": 20, "pairs": None})["steps"]
    20
    """
    told = {name: value for name, value in given.items() if value is not None}
    if foreign := told.keys() - OPTIONS[backend].keys():
        names = ", ".join("--" + name.replace("_", "-") for name in sorted(foreign))
        raise UserError(f"{names}: not an option of --backend {backend.value}; leave it out, or give the other back end")
    return OPTIONS[backend] | told


def _option(name: str, text: str, **limits: Any) -> Any:
    """A typer option whose default hangs on the back end: its help tells them all."""
    defaults = {backend: options[name] for backend, options in OPTIONS.items() if name in options}
    shown = ", ".join(f"{backend.value}: {default}" for backend, default in defaults.items())
    return typer.Option(help=text, show_default=shown, **limits)


def main(
    backend: Annotated[Backend, typer.Option(help="what trains: PyTorch, or TensorFlow by gpt-2-simple")] = Backend.transformers,
    data: Annotated[Path, typer.Option(help="folder with lm_train.csv (or gpt2_finetune.csv), lm_val.csv, lm_test.csv")] = Path(
        "data/prepared"
    ),
    out: Annotated[Path, typer.Option(help="model folder to write")] = Path("models/lm"),
    seed: Annotated[int, typer.Option()] = 1,
    base: Annotated[str | None, _option("base", "name of a base under models/base")] = None,
    learning_rate: Annotated[float | None, _option("learning_rate", "the highest of the run", min=0)] = None,
    method: Annotated[lm_transformers.Method | None, _option("method", "lora: a small adapter; full: every weight")] = None,
    pairs: Annotated[int | None, _option("pairs", "pairs to train on, drawn by chance", min=1)] = None,
    epochs: Annotated[int | None, _option("epochs", "times that each pair is seen", min=1)] = None,
    max_tokens: Annotated[int | None, _option("max_tokens", "longer rows are left out", min=16)] = None,
    batch_tokens: Annotated[int | None, _option("batch_tokens", "tokens a step, padding counted", min=16)] = None,
    steps: Annotated[int | None, _option("steps", "optimiser's steps in all", min=1)] = None,
    batch_size: Annotated[int | None, _option("batch_size", "windows of 1024 tokens at once", min=1)] = None,
    accumulate: Annotated[int | None, _option("accumulate", "batches whose gradients make one step", min=1)] = None,
    freeze_embeddings: Annotated[bool | None, _option("freeze_embeddings", "train the transformer's layers only")] = None,
    restore: Annotated[Restore | None, _option("restore", "latest: go on with a broken run; fresh: start it again")] = None,
    sample_interval: Annotated[int | None, _option("sample_interval", "steps between printed samples; 0: none", min=0)] = None,
    save_interval: Annotated[int | None, _option("save_interval", "steps between checkpoints, each measured", min=1)] = None,
) -> None:
    """Fine-tune a causal language model on comment -> reply pairs; on CPU, or on a GPU where there is one."""
    given = {name: value for name, value in locals().items() if name not in ("backend", "data", "out", "seed")}
    options = chosen_options(backend, given)
    kind = (bases.read_base(options["base"]) or {}).get("kind")
    if backend is Backend.gpt_2_simple:
        if kind in ("lm", "encoder"):
            raise UserError(f"{options['base']} is a transformers folder; --backend gpt-2-simple trains 124M or 355M")
        from bot.train import lm_gpt_2_simple

        lm_gpt_2_simple.train(data=data, out=out, seed=seed, **options)
    else:
        if kind == "gpt2":
            raise UserError(f"{options['base']} is a checkpoint of gpt-2-simple; give --backend gpt-2-simple, or take the base gpt2")
        lm_transformers.train(data=data, out=out, seed=seed, **options)
