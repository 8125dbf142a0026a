"""train choice with PyTorch: the probability that a reader accepts a generated reply as an answer to the comment.

Reads  GRADED, candidates that readers graded (train/graded.py), and an encoder in models/base/.
Writes OUT: a LoRA adapter or layers, model.json and losses.csv; during training, OUT/checkpoint.pt.

    python run_bot.py train choice --method layers
    python run_bot.py train choice --graded data/choice/graded.csv --graded mine.csv

The other rankers learn from people's replies only; this one sees candidates with the faults of a generator. A grade is a target between 0
and 1 of the cross-entropy (TARGETS). Two kinds of wrong answers are added for each accepted reply, because they look relevant or fluent:
the beginning of the comment itself, and an accepted reply to another comment.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bot import files, text
from bot.schema import Graded, sample_rows
from bot.train import encoders, graded, loop
from bot.train.options import EncoderOptions, Method, Out
from bot.weights import bases

if TYPE_CHECKING:
    import torch

TARGETS = (0.02, 0.2, 0.85, 0.98)  # by grade: readers do not always agree
ECHO_TARGET, MISPLACED_TARGET = 0.02, 0.1  # a misplaced reply may fit at random
ECHO_WORDS = (4, 14)  # length of an echo


@dataclass(frozen=True, kw_only=True)
class Options(EncoderOptions):
    out: Out = Path("models/choice")
    graded: Annotated[list[Path], typer.Option(help="CSV of graded candidates; repeatable")] = field(default_factory=lambda: [graded.FILE])
    method: Annotated[Method, typer.Option(help="lora: train a small adapter; layers: train all weights except the embeddings")] = "layers"
    epochs: Annotated[int, typer.Option(min=1, help="passes over the training rows")] = 3
    batch_tokens: Annotated[int, typer.Option(min=128, help="tokens per step, including padding")] = 2048


@dataclass(frozen=True)
class Example:
    comment: str
    reply: str
    target: float


def train(options: Options) -> None:
    """Raises UserError if a file or the base is missing, or there are too few graded candidates."""
    folder = bases.base_path(options.base)
    parts = graded.read(options.graded)
    drawn = sample_rows(examples(parts["train"], options.seed), options.rows, options.seed)
    rows = [replace(row, comment=text.clean(row.comment), reply=text.clean(row.reply)) for row in drawn]

    import torch

    from bot.rankers.transformers import encode_pair, logits

    model, tokenizer = encoders.ranker_to_train(folder, 1, options.seed, options.method)
    encoded = [encode_pair(tokenizer, row.comment, row.reply) for row in rows]
    batches = loop.batches_by_length(
        range(len(rows)), lambda row: len(encoded[row][0]), options.batch_tokens, options.epochs, options.seed
    )  # fmt: skip

    def loss_of(batch: list[int]) -> torch.Tensor:
        targets = torch.tensor([rows[row].target for row in batch], device=loop.device())
        outputs = logits(model, tokenizer, [encoded[row] for row in batch])[:, 0]
        return torch.nn.functional.binary_cross_entropy_with_logits(outputs, targets)

    settings: dict[str, Any] = {
        "rows": len(rows), "epochs": options.epochs, "batch_tokens": options.batch_tokens,
        "graded": {str(path): files.sha256_of(path) for path in options.graded},
    }  # fmt: skip
    task = encoders.Task("choice", options.out, settings, {}, batches, loss_of, calibrate=lambda ranker: (1.0, 0.0))
    encoders.fit(options, model, [task])


def examples(rows: Sequence[Graded], seed: int) -> list[Example]:
    """The graded candidates and, for each accepted one, an echo of the comment and an accepted reply to another comment."""
    draw = random.Random(seed)
    accepted = [row for row in rows if row.grade >= graded.ACCEPTABLE]
    result = [Example(row.comment, row.reply, TARGETS[row.grade]) for row in rows]
    for row in accepted:
        result.append(Example(row.comment, " ".join(row.comment.split()[: draw.randint(*ECHO_WORDS)]), ECHO_TARGET))
        other = draw.choice(accepted)
        if other.comment_id != row.comment_id:
            result.append(Example(row.comment, other.reply, MISPLACED_TARGET))
    return result
