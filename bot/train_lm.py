"""train lm: fine-tune a causal language model to write a reply after `comment [SEP]`.

Reads  DATA/lm_{train,val,test}.csv and a base in models/base/ (`python run_bot.py models pull NAME`).
Writes OUT: a LoRA adapter (or, with --method full, the whole model), model.json, losses.csv and replies.npy (see copies); while it
       trains, OUT/checkpoint.pt.

    python -m bot.train_lm --base smollm2-135m-instruct --data data/prepared --pairs 24000 --out models/lm

Only the reply's tokens and the end token carry loss: the model is never asked to write the comment.
`--backend gpt-2-simple` is train_gpt_2_simple.py's: it reads and writes what that says, and never loads PyTorch.
"""

from __future__ import annotations

import math
import random
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bot import UserError, cards, copies, models, run_command, schema
from bot.schema import LmRow, LossRow

if TYPE_CHECKING:
    import torch

LORA_RANK = 16  # Hu et al. 2021, arXiv:2106.09685
EVALUATED_ROWS = 1000  # of val and of test


class Backend(StrEnum):
    transformers = "transformers"
    gpt_2_simple = "gpt-2-simple"


class Method(StrEnum):
    lora = "lora"
    full = "full"


class Restore(StrEnum):
    latest = "latest"
    fresh = "fresh"


# The options that a back end has, and their defaults; the others' are refused.
OPTIONS: dict[Backend, dict[str, Any]] = {
    Backend.transformers: {
        "base": "smollm2-135m-instruct", "method": Method.lora, "pairs": 24_000, "epochs": 1, "max_tokens": 96, "batch_tokens": 1024,
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


def choose_rows(rows: list[Any], count: int, seed: int) -> list[Any]:
    """`count` rows by chance (all where there are fewer), in the order they had."""
    if len(rows) <= count:
        return list(rows)
    return [rows[index] for index in sorted(random.Random(seed).sample(range(len(rows)), count))]


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
    method: Annotated[Method | None, _option("method", "lora: a small adapter; full: every weight")] = None,
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
    kind = (models.read_base(options["base"]) or {}).get("kind")
    if backend is Backend.gpt_2_simple:
        if kind in ("lm", "encoder"):
            raise UserError(f"{options['base']} is a transformers folder; --backend gpt-2-simple trains 124M or 355M")
        from bot import train_gpt_2_simple

        train_gpt_2_simple.train(data=data, out=out, seed=seed, **options)
    else:
        if kind == "gpt2":
            raise UserError(f"{options['base']} is a checkpoint of gpt-2-simple; give --backend gpt-2-simple, or take the base gpt2")
        train(data=data, out=out, seed=seed, **options)


def train(
    base: str,
    data: Path,
    out: Path,
    method: Method,
    pairs: int,
    epochs: int,
    max_tokens: int,
    batch_tokens: int,
    learning_rate: float,
    seed: int,
) -> None:
    """Back end transformers; `main` says what the options are. Raises UserError."""
    folder = models.base_path(base)
    rows = {each: schema.read_rows(data / f"lm_{each}.csv", LmRow) for each in ("train", "val", "test")}

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from bot import training
    from bot.generators.transformers import encode_training_row, load_model

    models.quiet()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    encoded: dict[str, list[tuple[list[int], int]]] = {}
    replies: dict[str, list[str]] = {}
    for each, wanted in (("train", pairs), ("val", EVALUATED_ROWS), ("test", EVALUATED_ROWS)):
        drawn = choose_rows(rows[each], wanted * 3, seed)
        both = ((encode_training_row(tokenizer, row.comment, row.reply, max_tokens), row.reply) for row in drawn)
        taken = choose_rows([(pair, reply) for pair, reply in both if len(pair[0]) <= max_tokens], wanted, seed)
        encoded[each], replies[each] = [pair for pair, _ in taken], [reply for _, reply in taken]
        if not encoded[each]:
            raise UserError(f"{data}/lm_{each}.csv: no row of at most {max_tokens} tokens; raise --max-tokens or prepare more data")
    torch.manual_seed(seed)
    device = training.device()
    model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    model.to(device)
    if method is Method.lora:
        from peft import LoraConfig, get_peft_model

        lora = LoraConfig(r=LORA_RANK, lora_alpha=2 * LORA_RANK, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(model, lora)
        training.store_frozen_as_computed(model)
    model.train()
    settings = {
        "method": method.value, "pairs": len(encoded["train"]), "epochs": epochs, "max_tokens": max_tokens, "batch_tokens": batch_tokens,
        "learning_rate": learning_rate, "seed": seed, "lora_rank": LORA_RANK if method is Method.lora else None,
    }  # fmt: skip
    card_data = {f"lm_{each}.csv": {"rows": len(rows[each]), "sha256": schema.sha256_of(data / f"lm_{each}.csv")} for each in rows}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    batches = training.batches_by_length(encoded["train"], lambda pair: len(pair[0]), batch_tokens, epochs, seed)
    plain = model.get_base_model() if method is Method.lora else model
    checkpoint = out / "checkpoint.pt"
    run = {**settings, "base": base, "data": card_data}
    losses = training.fit(parameters, batches, lambda batch: batch_loss(plain, batch, device)[0], learning_rate, checkpoint, run, seed)
    if method is Method.lora:
        training.save_adapter(model, base, out)
    else:
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
    copies.write(out, replies["train"])
    card = models.ModelCard(
        kind="lm", base=base, base_sha256=models.base_sha256(base), format="adapter" if method is Method.lora else "full",
        data=card_data, settings=settings, metrics={"train_loss_last_50_steps": sum(losses[-50:]) / len(losses[-50:])},
        **cards.words("lm", settings),
    )  # fmt: skip
    models.write_card(out, card)
    schema.write_rows(out / "losses.csv", LossRow, [LossRow(step, loss, None) for step, loss in enumerate(losses, 1)])
    for suffix, source in (("", out), ("_base", folder)):  # what was saved is what is measured, beside what it started from
        measured = load_model(source)[0].to(device)
        for each in ("val", "test"):
            card.metrics[f"{each}_perplexity{suffix}"] = math.exp(reply_loss(measured, encoded[each], batch_tokens))
    card.metrics |= {f"{each}_rows": len(encoded[each]) for each in ("val", "test")}
    models.write_card(out, card)
    checkpoint.unlink()
    print(", ".join(f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}" for name, value in card.metrics.items()))


def batch_loss(model: Any, batch: list[tuple[list[int], int]], device: Any) -> tuple[torch.Tensor, int]:
    """Mean cross-entropy (nats) over the reply's tokens of (ids, prompt length) rows, and their number.

    The output layer, a fifth of a small model's work, is run at the reply's positions only.
    """
    import torch

    width = max(len(ids) for ids, _ in batch)
    inputs = torch.zeros(len(batch), width, dtype=torch.long)
    mask = torch.zeros(len(batch), width, dtype=torch.long)
    carries_loss = torch.zeros(len(batch), width, dtype=torch.bool)
    for row, (ids, prompt_length) in enumerate(batch):
        inputs[row, : len(ids)] = torch.tensor(ids)
        mask[row, : len(ids)] = 1
        carries_loss[row, prompt_length : len(ids)] = True
    inputs, mask, carries_loss = inputs.to(device), mask.to(device), carries_loss.to(device)
    hidden = getattr(model, model.base_model_prefix)(input_ids=inputs, attention_mask=mask).last_hidden_state  # (batch, time, width)
    logits = model.get_output_embeddings()(hidden[:, :-1][carries_loss[:, 1:]])
    targets = inputs[:, 1:][carries_loss[:, 1:]]
    return torch.nn.functional.cross_entropy(logits.float(), targets), len(targets)


def reply_loss(model: Any, rows: list[tuple[list[int], int]], batch_tokens: int) -> float:
    """Mean cross-entropy (nats) per reply token over all rows."""
    import torch

    from bot import training

    total, tokens = 0.0, 0
    with torch.inference_mode(), training.autocast():
        for batch in training.batches_by_length(rows, lambda pair: len(pair[0]), 2 * batch_tokens, 1, 0):
            loss, count = batch_loss(model, batch, training.device())
            total, tokens = total + loss.item() * count, tokens + count
    return total / tokens


if __name__ == "__main__":
    run_command(main, "python -m bot.train_lm")
