"""train realism with PyTorch: classify replies as human-written (label 1) or generated (label 0).

Reads  DATA/realism_{train,val,test}.csv (of the training split only the rankers' half, see text.half_for) and an encoder in
       models/base/.
Writes OUT: a LoRA adapter, model.json and losses.csv; during training, OUT/checkpoint.pt.

    python run_bot.py train realism --data data/prepared --rows 30000 --epochs 3 --learning-rate 5e-4 --out models/realism
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bot import schema, text
from bot.cli import UserError
from bot.schema import RealismRow, sample_rows
from bot.train import encoders, loop
from bot.train.options import EncoderOptions, Out
from bot.weights import bases

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Options(EncoderOptions):
    out: Out = Path("models/realism")


def train(options: Options) -> None:
    """Raises UserError if a file or the base is missing, or a split lacks one of the labels."""
    folder = bases.base_path(options.base)
    read = read_rows(options.data)

    from bot.rankers.transformers import logits

    model, tokenizer = encoders.ranker_to_train(folder, 1, options.seed, options.method)
    encoders.fit(options, model, [realism_task(options, read, tokenizer, lambda pairs: logits(model, tokenizer, pairs)[:, 0])])


def read_rows(data: Path) -> dict[str, list[RealismRow]]:
    """Split -> rows. Raises UserError if a split lacks human or generated replies."""
    read = {each: schema.read_rows(data / f"realism_{each}.csv", RealismRow) for each in ("train", "val", "test")}
    for each, rows in read.items():
        if {row.label for row in rows} != {0, 1}:
            raise UserError(f"{data}/realism_{each}.csv: needs rows of both labels; run `prepare realism` with more generated replies")
    return read


def realism_task(options: EncoderOptions, read: dict[str, list[RealismRow]], tokenizer: Any, logits_of: encoders.Logits) -> encoders.Task:
    """The realism task. read: rows from read_rows. logits_of: the model output that is trained on it."""
    import torch

    from bot.rankers.transformers import encode_pair, padded_width

    train = sample_rows([row for row in read["train"] if text.half_for(row.thread_id) == "rankers"], options.rows, options.seed)
    encoded = [encode_pair(tokenizer, row.comment, row.reply) for row in train]
    widths = [padded_width(len(ids)) for ids, _ in encoded]
    batches = loop.batches_by_length(range(len(train)), widths.__getitem__, options.batch_tokens, options.epochs, options.seed)

    def loss_of(batch: list[int]) -> torch.Tensor:
        labels = torch.tensor([float(train[row].label) for row in batch], device=loop.device())
        return torch.nn.functional.binary_cross_entropy_with_logits(logits_of([encoded[row] for row in batch]), labels)

    settings: dict[str, Any] = {
        "rows": len(train), "epochs": options.epochs, "batch_tokens": options.batch_tokens,
        "generators": sorted({row.generator for row in train if row.generator}),
    }  # fmt: skip
    sources = {f"realism_{each}.csv": len(rows) for each, rows in read.items()}
    pairs = [(row.comment, row.reply) for row in read["val"]]
    return encoders.Task(
        "realism", options.out, settings, sources, batches, loss_of, lambda ranker: encoders.calibrated(ranker.logits(pairs), read["val"])
    )
