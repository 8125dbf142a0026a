"""TODO: bot.train.realism"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bot import schema, text
from bot.cli import UserError
from bot.schema import RealismRow, sample_rows
from bot.train import tasks
from bot.weights import bases

if TYPE_CHECKING:
    import torch


def train_realism(base: str, data: Path, out: Path, rows: int, epochs: int, batch_tokens: int, learning_rate: float, seed: int) -> None:
    """`main` says what the options are. Raises UserError."""
    folder = bases.base_path(base)
    read = read_realism(data)

    from bot.rankers.transformers import logits
    from bot.train import encoders

    model, tokenizer = encoders.ranker_with_lora(folder, tasks.LORA_RANK, 1, seed)
    task = realism_task(read, tokenizer, lambda pairs: logits(model, tokenizer, pairs)[:, 0], out, rows, epochs, batch_tokens, seed)
    tasks.fit_and_measure(base, data, model, [task], learning_rate, seed)


def read_realism(data: Path) -> dict[str, list[RealismRow]]:
    """By split. Raises UserError where one lacks people's replies or fakes."""
    read = {each: schema.read_rows(data / f"realism_{each}.csv", RealismRow) for each in ("train", "val", "test")}
    for each, found in read.items():
        if {row.label for row in found} != {0, 1}:
            raise UserError(f"{data}/realism_{each}.csv: rows of both labels are needed; make more fakes")
    return read


def realism_task(
    read: dict[str, list[RealismRow]],
    tokenizer: Any,
    logits_of: tasks.Logits,
    out: Path,
    rows: int,
    epochs: int,
    batch_tokens: int,
    seed: int,
) -> tasks.Task:
    """read: see read_realism. logits_of: the output of the model that learns this. The others are `main`'s."""
    import torch

    from bot.rankers.transformers import encode_pair, padded_width
    from bot.train import loop

    train = sample_rows([row for row in read["train"] if text.half_for(row.thread_id) == "rankers"], rows, seed)
    encoded = [encode_pair(tokenizer, row.comment, row.reply) for row in train]
    batches = loop.batches_by_length(range(len(train)), lambda row: padded_width(len(encoded[row][0])), batch_tokens, epochs, seed)

    def loss_of(batch: list[int]) -> torch.Tensor:
        labels = torch.tensor([float(train[row].label) for row in batch], device=loop.device())
        return torch.nn.functional.binary_cross_entropy_with_logits(logits_of([encoded[row] for row in batch]), labels)

    settings: dict[str, Any] = {
        "rows": len(train), "epochs": epochs, "batch_tokens": batch_tokens, "lora_rank": tasks.LORA_RANK,
        "generators": sorted({row.generator for row in train if row.generator}),
    }  # fmt: skip
    sources = {f"realism_{each}.csv": len(found) for each, found in read.items()}
    pairs = [(row.comment, row.reply) for row in read["val"]]
    return tasks.Task(
        "realism", out, settings, sources, batches, loss_of, calibrate=lambda ranker: tasks.calibrated(ranker.logits(pairs), read["val"])
    )
