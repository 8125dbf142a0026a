"""train realism | upvote | relevance: fine-tune a BERT-like encoder to score (comment, reply) pairs.

Reads  DATA/realism_{train,test}.csv or DATA/upvote_pairs_{train,test}.csv and an encoder in models/base/.
Writes OUT: a LoRA adapter, model.json and losses.csv; while it trains, OUT/checkpoint.pt.

    python -m bot.train_ranker realism --data data/prepared --out models/realism
    python -m bot.train_ranker upvote --data data/prepared --out models/upvote --rows 30000
    python -m bot.train_ranker relevance --data data/prepared                 see train_relevance
    python -m bot.train_ranker upvote --backend tfhub-bert --classes 4        with TensorFlow: see train_tfhub_bert

realism learns label 1 (a person) against 0 (generated). upvote learns on siblings: the loss is -log sigmoid(chosen - rejected)
(Bradley and Terry 1952), so its score orders replies to one comment and is no probability of any karma.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bot import UserError, models, run_command, schema
from bot.schema import LossRow, RealismRow, UpvotePair
from bot.train_lm import choose_rows

if TYPE_CHECKING:
    import torch

LORA_RANK = 32


class Kind(StrEnum):
    realism = "realism"
    upvote = "upvote"
    relevance = "relevance"


class Backend(StrEnum):
    transformers = "transformers"
    tfhub_bert = "tfhub-bert"


class Classes(StrEnum):
    two = "2"
    four = "4"


def check_out(out: Path, backend: Backend) -> None:
    """Raises UserError if the folder holds a model of the other back end, whose files would lie about among the new ones."""
    other, file = (
        (Backend.tfhub_bert, "saved_model.pb") if backend is Backend.transformers else (Backend.transformers, "adapter_config.json")
    )
    if (out / file).exists():
        raise UserError(f"{out} holds a model of back end {other.value} ({file}); give another --out, or remove it")


def main(
    kind: Annotated[Kind, typer.Argument(help="which ranker")],
    base: Annotated[
        str | None,
        typer.Option(
            help="name of an encoder under models/base; for tfhub-bert also a TensorFlow Hub URL or a SavedModel's folder "
            "(default: minilm-l6, or minilm-l6-tfhub)"
        ),
    ] = None,
    data: Annotated[Path, typer.Option(help="folder of prepared files")] = Path("data/prepared"),
    out: Annotated[Path | None, typer.Option(help="model folder to write (default: models/KIND, or models/KIND-tfhub)")] = None,
    rows: Annotated[int, typer.Option(min=1, help="rows (upvote with transformers: pairs) to train on, drawn by chance")] = 30_000,
    epochs: Annotated[int, typer.Option(min=1)] = 1,
    batch_tokens: Annotated[int, typer.Option(min=128, help="tokens a step, padding counted")] = 4096,
    learning_rate: Annotated[float, typer.Option(min=0, help="at its peak")] = 1e-4,
    seed: Annotated[int, typer.Option()] = 1,
    backend: Annotated[Backend, typer.Option(help="transformers: a LoRA adapter; tfhub-bert: every weight, in TensorFlow")] = (
        Backend.transformers
    ),
    classes: Annotated[
        Classes | None, typer.Option(help="upvote with tfhub-bert: 4 classes of karma (<1, 1, 2 to 4, >4) or 2 (>1); 4 unless told")
    ] = None,
) -> None:
    """Fine-tune a ranker (CPU, or a GPU where there is one)."""
    if classes is not None and (backend is not Backend.tfhub_bert or kind is not Kind.upvote):
        raise UserError("--classes goes with `upvote --backend tfhub-bert` only; leave it out")
    out = out or Path("models") / (kind.value if backend is Backend.transformers else f"{kind.value}-tfhub")
    check_out(out, backend)
    if backend is Backend.tfhub_bert:
        if kind is Kind.relevance:
            raise UserError("relevance has no back end tfhub-bert; leave --backend out")
        from bot import train_tfhub_bert

        count = 2 if kind is Kind.realism else int(classes or Classes.four)
        train_tfhub_bert.train(kind.value, base or "minilm-l6-tfhub", data, out, count, rows, epochs, batch_tokens, learning_rate, seed)
        return
    base = base or "minilm-l6"
    if kind is Kind.relevance:
        from bot import train_relevance

        return train_relevance.train(base, data, out, rows, epochs, batch_tokens, learning_rate, seed)
    folder = models.base_path(base)
    row_type: type = RealismRow if kind is Kind.realism else UpvotePair
    stem = "realism" if kind is Kind.realism else "upvote_pairs"
    read: dict[str, list[Any]] = {each: schema.read_rows(data / f"{stem}_{each}.csv", row_type) for each in ("train", "test")}
    for each, found in read.items():
        if not found:
            raise UserError(f"{data}/{stem}_{each}.csv: no rows; prepare more data")
    train = choose_rows(read["train"], rows, seed)

    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from bot import evaluate, training
    from bot.rankers.transformers import Transformers, encode_pair, load_model, logits

    models.quiet()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    torch.manual_seed(seed)  # before the head is made
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, local_files_only=True, dtype=torch.float32)
    lora = LoraConfig(r=LORA_RANK, lora_alpha=2 * LORA_RANK, target_modules="all-linear", task_type="SEQ_CLS")
    model = get_peft_model(model, lora).to(training.device())
    model.train()
    loss_of: Callable[[Any], torch.Tensor]
    items: list[Any]
    if kind is Kind.realism:
        items = [(encode_pair(tokenizer, row.comment, row.reply), row.label) for row in train]
        lengths = [len(pair[0]) for pair, _ in items]

        def loss_of(batch: Any) -> torch.Tensor:
            labels = torch.tensor([float(label) for _, label in batch], device=training.device())
            return torch.nn.functional.binary_cross_entropy_with_logits(logits(model, tokenizer, [pair for pair, _ in batch]), labels)
    else:
        items = [(encode_pair(tokenizer, row.comment, row.chosen), encode_pair(tokenizer, row.comment, row.rejected)) for row in train]
        lengths = [max(len(chosen[0]), len(rejected[0])) * 2 for chosen, rejected in items]

        def loss_of(batch: Any) -> torch.Tensor:
            both = logits(model, tokenizer, [chosen for chosen, _ in batch] + [rejected for _, rejected in batch])
            chosen, rejected = both.chunk(2)
            return -torch.nn.functional.logsigmoid(chosen - rejected).mean()

    order = training.batches_by_length(range(len(items)), lengths.__getitem__, batch_tokens, epochs, seed)
    settings = {
        "rows": len(train), "epochs": epochs, "batch_tokens": batch_tokens, "learning_rate": learning_rate, "seed": seed,
        "lora_rank": LORA_RANK,
    }  # fmt: skip
    card_data = {f"{stem}_{each}.csv": {"rows": len(read[each]), "sha256": schema.sha256_of(data / f"{stem}_{each}.csv")} for each in read}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    checkpoint = out / "checkpoint.pt"
    losses = training.fit(
        parameters, order, lambda batch: loss_of([items[index] for index in batch]), learning_rate, checkpoint,
        {**settings, "kind": kind.value, "base": base, "data": card_data}, seed,
    )  # fmt: skip
    training.save_adapter(model, base, out)
    card = models.ModelCard(
        kind="upvote" if kind is Kind.upvote else "realism", base=base, base_sha256=models.base_sha256(base), format="adapter",
        data=card_data, settings=settings,
        intended_use="Ranks candidate replies to one comment." if kind is Kind.upvote else "Drops candidates that read like a machine's.",
        limits="Orders siblings only; it says nothing about truth, tone or rules." if kind is Kind.upvote
        else "Knows the generators it was trained against; others may pass.",
    )  # fmt: skip
    models.write_card(out, card)
    schema.write_rows(out / "losses.csv", LossRow, [LossRow(step, loss, None) for step, loss in enumerate(losses, 1)])
    ranker = Transformers(load_model(out)[0], tokenizer)  # what was saved is what is measured
    measured = evaluate.evaluate(kind.value, ranker, train, read["test"])
    card.metrics = measured
    models.write_card(out, card)
    checkpoint.unlink()
    evaluate.show(kind.value, measured)


if __name__ == "__main__":
    run_command(main, "python -m bot.train_ranker")
