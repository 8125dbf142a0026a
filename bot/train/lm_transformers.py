"""TODO: bot.train.lm_transformers"""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bot import files, schema
from bot.cli import UserError
from bot.corpus import copies
from bot.schema import LmRow, LossRow
from bot.weights import bases, cards, loading

if TYPE_CHECKING:
    import torch

LORA_RANK = 16  # Hu et al. 2021, arXiv:2106.09685
EVALUATED_ROWS = 1000  # of val and of test


class Method(StrEnum):
    lora = "lora"
    full = "full"


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
    folder = bases.base_path(base)
    rows = {each: schema.read_rows(data / f"lm_{each}.csv", LmRow) for each in ("train", "val", "test")}

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from bot.generators.transformers import encode_training_row, load_model
    from bot.train import encoders, loop

    loading.quiet()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    encoded: dict[str, list[tuple[list[int], int]]] = {}
    replies: dict[str, list[str]] = {}
    for each, wanted in (("train", pairs), ("val", EVALUATED_ROWS), ("test", EVALUATED_ROWS)):
        drawn = schema.sample_rows(rows[each], wanted * 3, seed)
        both = ((encode_training_row(tokenizer, row.comment, row.reply, max_tokens), row.reply) for row in drawn)
        taken = schema.sample_rows([(pair, reply) for pair, reply in both if len(pair[0]) <= max_tokens], wanted, seed)
        encoded[each], replies[each] = [pair for pair, _ in taken], [reply for _, reply in taken]
        if not encoded[each]:
            raise UserError(f"{data}/lm_{each}.csv: no row of at most {max_tokens} tokens; raise --max-tokens or prepare more data")
    torch.manual_seed(seed)
    device = loop.device()
    model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    model.to(device)
    if method is Method.lora:
        from peft import LoraConfig, get_peft_model

        lora = LoraConfig(r=LORA_RANK, lora_alpha=2 * LORA_RANK, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(model, lora)
        loop.store_frozen_as_computed(model)
    model.train()
    settings = {
        "method": method.value, "pairs": len(encoded["train"]), "epochs": epochs, "max_tokens": max_tokens, "batch_tokens": batch_tokens,
        "learning_rate": learning_rate, "seed": seed, "lora_rank": LORA_RANK if method is Method.lora else None,
    }  # fmt: skip
    card_data = {f"lm_{each}.csv": {"rows": len(rows[each]), "sha256": files.sha256_of(data / f"lm_{each}.csv")} for each in rows}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    batches = loop.batches_by_length(encoded["train"], lambda pair: len(pair[0]), batch_tokens, epochs, seed)
    plain = model.get_base_model() if method is Method.lora else model
    checkpoint = out / "checkpoint.pt"
    run = {**settings, "base": base, "data": card_data}
    losses = loop.fit(parameters, batches, lambda batch: batch_loss(plain, batch, device)[0], learning_rate, checkpoint, run, seed)
    if method is Method.lora:
        encoders.save_adapter(model, base, out)
    else:
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
    copies.write(out, replies["train"])
    card = cards.ModelCard(
        kind="lm", base=base, base_sha256=bases.base_sha256(base), format="adapter" if method is Method.lora else "full",
        data=card_data, settings=settings, metrics={"train_loss_last_50_steps": sum(losses[-50:]) / len(losses[-50:])},
        **cards.words("lm", settings),
    )  # fmt: skip
    cards.write_card(out, card)
    schema.write_rows(out / "losses.csv", LossRow, [LossRow(step, loss, None) for step, loss in enumerate(losses, 1)])
    for suffix, source in (("", out), ("_base", folder)):  # what was saved is what is measured, beside what it started from
        measured = load_model(source)[0].to(device)
        for each in ("val", "test"):
            card.metrics[f"{each}_perplexity{suffix}"] = math.exp(reply_loss(measured, encoded[each], batch_tokens))
    card.metrics |= {f"{each}_rows": len(encoded[each]) for each in ("val", "test")}
    cards.write_card(out, card)
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

    from bot.train import loop

    total, tokens = 0.0, 0
    with torch.inference_mode(), loop.autocast():
        for batch in loop.batches_by_length(rows, lambda pair: len(pair[0]), 2 * batch_tokens, 1, 0):
            loss, count = batch_loss(model, batch, loop.device())
            total, tokens = total + loss.item() * count, tokens + count
    return total / tokens
