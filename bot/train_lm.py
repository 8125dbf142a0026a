"""train lm: fine-tune a causal language model to write a reply after `comment [SEP]`.

Reads  DATA/lm_{train,val,test}.csv and a base in models/base/ (`python run_bot.py models pull NAME`).
Writes OUT: a LoRA adapter (or, with --method full, the whole model), model.json and losses.csv; while it trains, OUT/checkpoint.pt.

    python -m bot.train_lm --base smollm2-135m-instruct --data data/prepared --pairs 24000 --out models/lm

Only the reply's tokens and the end token carry loss: the model is never asked to write the comment.
"""

from __future__ import annotations

import math
import random
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bot import UserError, models, run_command, schema
from bot.schema import LmRow, LossRow

if TYPE_CHECKING:
    import torch

LORA_RANK = 16  # Hu et al. 2021, arXiv:2106.09685
EVALUATED_ROWS = 1000  # of val and of test


class Method(StrEnum):
    lora = "lora"
    full = "full"


def choose_rows(rows: list[Any], count: int, seed: int) -> list[Any]:
    """`count` rows by chance (all where there are fewer), in the order they had."""
    if len(rows) <= count:
        return list(rows)
    return [rows[index] for index in sorted(random.Random(seed).sample(range(len(rows)), count))]


def main(
    base: Annotated[str, typer.Option(help="name of a base under models/base")] = "smollm2-135m-instruct",
    data: Annotated[Path, typer.Option(help="folder with lm_train.csv, lm_val.csv, lm_test.csv")] = Path("data/prepared"),
    out: Annotated[Path, typer.Option(help="model folder to write")] = Path("models/lm"),
    method: Annotated[Method, typer.Option(help="lora: a small adapter; full: every weight")] = Method.lora,
    pairs: Annotated[int, typer.Option(min=1, help="pairs to train on, drawn by chance")] = 24_000,
    epochs: Annotated[int, typer.Option(min=1)] = 1,
    max_tokens: Annotated[int, typer.Option(min=16, help="longer rows are left out")] = 96,
    batch_tokens: Annotated[int, typer.Option(min=16, help="tokens a step, padding counted")] = 1024,
    learning_rate: Annotated[float, typer.Option(min=0)] = 5e-4,
    seed: Annotated[int, typer.Option()] = 1,
) -> None:
    """Fine-tune a causal language model on comment -> reply pairs (transformers; CPU, or a GPU where there is one)."""
    folder = models.base_path(base)
    rows = {each: schema.read_rows(data / f"lm_{each}.csv", LmRow) for each in ("train", "val", "test")}

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from bot import training
    from bot.generators.transformers import encode_training_row, load_model

    models.quiet()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    encoded: dict[str, list[tuple[list[int], int]]] = {}
    for each, wanted in (("train", pairs), ("val", EVALUATED_ROWS), ("test", EVALUATED_ROWS)):
        drawn = choose_rows(rows[each], wanted * 3, seed)
        pairs_of_ids = (encode_training_row(tokenizer, row.comment, row.reply, max_tokens) for row in drawn)
        encoded[each] = choose_rows([pair for pair in pairs_of_ids if len(pair[0]) <= max_tokens], wanted, seed)
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
        for parameter in parameters:
            parameter.data = parameter.data.half()  # halves the adapter; merged in float32 when it is loaded
        model.peft_config["default"].base_model_name_or_path = base  # a name that base_path knows, not this machine's folder
    model.save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)  # peft's empty template; model.json is the card
    if method is Method.full:
        tokenizer.save_pretrained(out)
    card = models.ModelCard(
        kind="lm", base=base, base_sha256=models.base_sha256(base), format="adapter" if method is Method.lora else "full",
        data=card_data, settings=settings, metrics={"train_loss_last_50_steps": sum(losses[-50:]) / len(losses[-50:])},
        intended_use="Writes candidate replies that the rankers choose among; not to be posted unranked.",
        limits="A small model: fluent, often wrong about facts. Perplexity is over the reply's tokens of rows within max_tokens.",
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
