"""train lm with PyTorch: fine-tune a causal language model to write a reply after `comment [SEP]`.

Reads  DATA/lm_{train,val,test}.csv, or with --imitate DATA/imitate_train.csv instead of lm_train.csv, and a base in models/base/
       (`python run_bot.py models pull NAME`).
Writes OUT: a LoRA adapter (with --method full: the whole model), model.json, losses.csv and replies.npy (see corpus.copies); during
       training, OUT/checkpoint.pt.

    python run_bot.py train lm --base smollm2-135m-instruct --data data/prepared --pairs 24000 --out models/lm
    python run_bot.py train lm --start models/lm --imitate --pairs 8000 --out models/lm-2

The loss covers only the reply and the end token, because the model never has to write the comment.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bot import cli, files, schema
from bot.cli import UserError
from bot.corpus import copies, imitate
from bot.schema import LmRow, LossRow
from bot.train import encoders, loop, processes
from bot.train.card_text import card_text, data_facts
from bot.train.options import Base, Epochs, LearningRate, Out, TrainOptions
from bot.weights import bases, cards, loading, serving

if TYPE_CHECKING:
    import torch

LORA_RANK = 16  # Hu et al. 2021, arXiv:2106.09685


class Method(StrEnum):
    lora = "lora"
    full = "full"


@dataclass(frozen=True, kw_only=True)
class Options(TrainOptions):
    base: Base = "smollm2-135m-instruct"
    out: Out = Path("models/lm")
    method: Annotated[Method, typer.Option(help="lora: train a small adapter; full: train all weights")] = Method.lora
    pairs: Annotated[int, typer.Option(min=1, help="pairs to train on, drawn at random")] = 24_000
    epochs: Epochs = 1
    imitate: Annotated[bool, typer.Option("--imitate", help="train on the replies that `prepare imitate` chose")] = False
    upper_layers: Annotated[
        int | None, typer.Option(min=1, help="lora: adapt only so many layers, from the output; faster [default: all]", show_default=False)
    ] = None
    start: Annotated[Path | None, typer.Option(help="lora: continue from the adapter of this generator, which has the same base")] = None
    max_tokens: Annotated[int, typer.Option(min=16, help="skip rows with more tokens")] = 96
    batch_tokens: Annotated[int, typer.Option(min=16, help="tokens per step, including padding")] = 1024
    learning_rate: LearningRate = 5e-4


Encoded = tuple[list[int], int]  # a row's token ids, and the length of its prompt


def train(options: Options) -> None:
    """Raises UserError if a file or the base is missing, no row is short enough, or an option is only for LoRA."""
    if options.method is Method.full and (options.start or options.upper_layers):
        name = "--start" if options.start else "--upper-layers"
        raise UserError(f"{name}: only for --method lora; leave it out")
    folder = bases.base_path(options.base)
    names = {each: f"lm_{each}.csv" for each in ("train", "val", "test")} | ({"train": imitate.FILE} if options.imitate else {})
    rows = {each: schema.read_rows(options.data / name, LmRow) for each, name in names.items()}
    facts = data_facts(options.data, {name: len(rows[each]) for each, name in names.items()})

    from transformers import AutoTokenizer

    from bot.generators.transformers import has_plain_output

    loading.quiet()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    with cli.waiting("encoding the training rows"):
        encoded, replies = draw_rows(tokenizer, rows["train"], options)
    is_lora = options.method is Method.lora
    model, plain = load_model(folder, options)
    plain_output = has_plain_output(plain)
    settings = {
        "method": options.method.value, "pairs": len(encoded), "epochs": options.epochs, "max_tokens": options.max_tokens,
        "batch_tokens": options.batch_tokens, "learning_rate": options.learning_rate, "seed": options.seed,
        "lora_rank": LORA_RANK if is_lora else None, "upper_layers": options.upper_layers,
        "start": serving.fingerprint(options.start) if options.start else None,
    }  # fmt: skip
    losses, hours = loop.fit(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        loop.batches_by_length(encoded, lambda pair: len(pair[0]), options.batch_tokens, options.epochs, options.seed),
        lambda batch: batch_loss(plain, batch, loop.device(), plain_output),
        options.learning_rate,
        options.out / "checkpoint.pt",
        {**settings, "base": options.base, "data": facts},
        options.seed,
        terms_of=lambda batch: sum(len(ids) - prompt for ids, prompt in batch),
    )
    if not processes.is_first():
        return
    card = cards.ModelCard(
        kind="lm", base=options.base, base_sha256=bases.base_sha256(options.base), format="adapter" if is_lora else "full",
        data=facts, settings=settings, metrics={"train_loss_last_50_steps": loop.mean_of_last(losses)}, hours=hours,
        parameters=encoders.size_of(model), **card_text("lm"),
    )  # fmt: skip
    with files.atomic_folder(options.out) as new:
        if is_lora:
            encoders.save_adapter(model, options.base, new)
        else:
            model.save_pretrained(new)
            tokenizer.save_pretrained(new)
        with cli.waiting("sketching the training replies"):
            copies.write(new, replies, earlier=copies.read(options.start) if options.start else None)
        schema.write_rows(new / "losses.csv", LossRow, [LossRow(step, loss, None) for step, loss in enumerate(losses, 1)])
        cards.write_card(new, card)
    print(f"{options.out}: trained on {len(encoded):,} pairs, train loss {loop.mean_of_last(losses):.3f} over the last 50 steps")


def draw_rows(tokenizer: Any, rows: list[LmRow], options: Options) -> tuple[list[Encoded], list[str]]:
    """Rows drawn at random, encoded, and the replies of people among them. Raises UserError if no row has at most --max-tokens tokens."""
    from bot.generators.transformers import encode_training_row

    drawn = schema.sample_rows(rows, options.pairs * 3, options.seed)
    encoded = [(encode_training_row(tokenizer, row.comment, row.reply, options.max_tokens), row) for row in drawn]
    short = schema.sample_rows([each for each in encoded if len(each[0][0]) <= options.max_tokens], options.pairs, options.seed)
    if not short:
        limit = options.max_tokens
        name = imitate.FILE if options.imitate else "lm_train.csv"
        raise UserError(f"{options.data}/{name}: no row of at most {limit} tokens; raise --max-tokens or prepare more data")
    return [ids for ids, _ in short], [row.reply for _, row in short if not row.reply_id.endswith(imitate.PICKED)]


def load_model(folder: Path, options: Options) -> tuple[Any, Any]:
    """The model to train (with --method lora, the base with an adapter), and the base model in it."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(options.seed)
    plain: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    if options.method is Method.full:
        plain.to(loop.device()).train()
        return plain, plain
    first = max(0, int(plain.config.num_hidden_layers) - options.upper_layers) if options.upper_layers else 0
    if options.start:
        model = continued(plain, options.start, options.base)
        for name, parameter in model.named_parameters():
            if any(f".{layer}." in name for layer in range(first)):
                parameter.requires_grad_(False)
    else:
        upper = {"layers_to_transform": [*range(first, plain.config.num_hidden_layers)]} if first else {}
        model = encoders.with_lora(plain, "CAUSAL_LM", LORA_RANK, **upper)
    loop.cast_frozen_weights(model)
    return model, model.get_base_model()


def continued(plain: Any, start: Path, base: str) -> Any:
    """The base with the adapter in `start`, to train on. Raises UserError if it is not an adapter of this base and LORA_RANK."""
    from peft import PeftModel

    card = cards.read_card(start)
    if (card.kind, card.base, card.format, card.settings.get("lora_rank")) != ("lm", base, "adapter", LORA_RANK):
        raise UserError(f"--start {start}: not a LoRA generator of rank {LORA_RANK} on {base}; leave --start out")
    model: Any = PeftModel.from_pretrained(plain, start, is_trainable=True).float().to(loop.device())
    model.train()
    return model


def batch_loss(model: Any, batch: list[Encoded], device: Any, plain: bool) -> torch.Tensor:
    """Mean cross-entropy (nats) over the reply's tokens. plain: see generators.transformers.has_plain_output."""
    import torch

    from bot.generators.transformers import logits_at

    width = max(len(ids) for ids, _ in batch)
    inputs = torch.zeros(len(batch), width, dtype=torch.long)
    mask = torch.zeros(len(batch), width, dtype=torch.long)
    in_reply = torch.zeros(len(batch), width, dtype=torch.bool)
    for row, (ids, prompt_length) in enumerate(batch):
        inputs[row, : len(ids)] = torch.tensor(ids)
        mask[row, : len(ids)] = 1
        in_reply[row, prompt_length : len(ids)] = True
    inputs, mask, in_reply = inputs.to(device), mask.to(device), in_reply.to(device)
    before_reply = torch.zeros_like(in_reply)
    before_reply[:, :-1] = in_reply[:, 1:]
    logits = logits_at(model, inputs, mask, before_reply, plain)
    return torch.nn.functional.cross_entropy(logits.float(), inputs[:, 1:][in_reply[:, 1:]])
