"""train relevance with PyTorch: fine-tune a dual encoder to tell whether a reply belongs to a comment.

Reads  DATA/relevance_{train,val,test}.csv and a sentence encoder in models/base/.
Writes OUT: a LoRA adapter, model.json and losses.csv; while it trains, OUT/checkpoint.pt.

    python run_bot.py train relevance --data data/prepared --out models/relevance

A batch is of one subreddit. Each comment must find its own reply among all replies of the batch, and each reply its comment (van den Oord
et al. 2018, arXiv:1807.03748; for replies Henderson et al. 2017, arXiv:1705.00652): so what fits anywhere in the subreddit gains nothing.
The rows with label 0 serve to fit the probability, on the validation split.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bot import schema, text
from bot.cli import UserError
from bot.schema import LabelledRow, sample_rows
from bot.train import encoders, loop
from bot.train.options import Out, RankerOptions
from bot.weights import bases

if TYPE_CHECKING:
    import torch

TEMPERATURE = 0.05  # of the softmax over cosines, as sentence encoders are trained
EMBEDDED = 32  # texts at once
FEWEST_IN_BATCH = 8  # replies to tell apart; smaller rests of a subreddit are left out
GENERIC, GENERIC_IN_BATCH = 256, 16  # replies that most comments got word for word, wrong for every comment that didn't


@dataclass(frozen=True, kw_only=True)
class Options(RankerOptions):
    out: Out = Path("models/relevance")


def train(options: Options) -> None:
    """Raises UserError: a file or the base is missing, or there is too little to learn from."""
    folder = bases.base_path(options.base)
    read = {each: schema.read_rows(options.data / f"relevance_{each}.csv", LabelledRow) for each in ("train", "val", "test")}
    for each, rows in read.items():
        if {row.label for row in rows} != {0, 1}:
            raise UserError(f"{options.data}/relevance_{each}.csv: rows of both labels are needed; prepare more data")
    to_learn = [row for row in read["train"] if row.label == 1 and text.half_for(row.thread_id) == "rankers"]
    belongs = sample_rows(to_learn, options.rows, options.seed)

    import torch
    from transformers import AutoModel

    from bot.rankers.transformers import encode_text

    torch.manual_seed(options.seed)
    plain, tokenizer = encoders.encoder_to_train(AutoModel, folder)
    model = encoders.with_lora(plain, "FEATURE_EXTRACTION", encoders.LORA_RANK)
    encoded = [(encode_text(tokenizer, row.comment), encode_text(tokenizer, row.reply)) for row in belongs]
    lengths = [sum(map(len, pair)) for pair in encoded]
    batches = batches_of_subreddits(belongs, lengths, options.batch_tokens, options.epochs, options.seed)
    if not batches:
        raise UserError(
            f"{options.data}/relevance_train.csv: no subreddit has {FEWEST_IN_BATCH} replies; prepare more data, or raise --rows"
        )
    generic = {reply: encode_text(tokenizer, reply) for reply in most_given([row.reply for row in to_learn], GENERIC)}
    settings: dict[str, Any] = {
        "architecture": "dual encoder", "rows": len(belongs), "epochs": options.epochs, "batch_tokens": options.batch_tokens,
        "temperature": TEMPERATURE,
    }  # fmt: skip
    pairs = [(row.comment, row.reply) for row in read["val"]]
    task = encoders.Task(
        "relevance", options.out, settings, {f"relevance_{each}.csv": len(rows) for each, rows in read.items()}, batches,
        loss_of=lambda batch: batch_loss(model, tokenizer, batch, belongs, encoded, generic),
        calibrate=lambda ranker: encoders.calibrated(ranker.cosines(pairs).tolist(), read["val"]),
    )  # fmt: skip
    encoders.fit(options, model, [task])


def batch_loss(
    model: Any, tokenizer: Any, batch: list[int], rows: list[LabelledRow], encoded: list[tuple[list[int], list[int]]],
    generic: dict[str, list[int]],
) -> torch.Tensor:  # fmt: skip
    """Mean loss (nats) of a batch, numbers of rows. encoded: comment and reply of each row; generic: encoded, by reply."""
    import torch

    from bot.rankers.transformers import embed

    drawn = random.Random(batch[0]).sample(list(generic), min(GENERIC_IN_BATCH, len(generic)))
    texts = [encoded[row][side] for side in (0, 1) for row in batch] + [generic[reply] for reply in drawn]
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))  # those of like length together, so that little is padded
    parts = [order[start : start + EMBEDDED] for start in range(0, len(order), EMBEDDED)]
    padding = int(tokenizer.pad_token_id or 0)
    vectors = torch.cat([embed(model, [texts[place] for place in part], padding) for part in parts])
    vectors = vectors[torch.tensor(order, device=vectors.device).argsort()]
    comments, replies = vectors[: len(batch)], vectors[len(batch) :]
    return contrastive_loss(comments @ replies.T, [rows[row] for row in batch], drawn)


def batches_of_subreddits(rows: list[LabelledRow], lengths: list[int], batch_tokens: int, epochs: int, seed: int) -> list[list[int]]:
    """Numbers of rows, each batch of one subreddit and at most `batch_tokens` (longest row times rows); all batches in random order."""
    by_subreddit: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        by_subreddit[row.subreddit.lower()].append(number)
    result: list[list[int]] = []
    for epoch in range(epochs):
        batches = [
            batch
            for numbers in by_subreddit.values()
            for batch in loop.batches_by_length(numbers, lengths.__getitem__, batch_tokens, 1, seed + epoch)
            if len(batch) >= FEWEST_IN_BATCH
        ]
        random.Random(seed + epoch).shuffle(batches)
        result += batches
    return result


def most_given(replies: Sequence[str], count: int) -> list[str]:
    """Up to `count` replies that stand most often in the list, but for case and ends, at least three times: «thank you», «this».

    >>> most_given(["Thanks!", "thanks! ", "why", "thanks!"], 5)
    ['thanks!']
    """
    return [reply for reply, times in Counter(reply.strip().lower() for reply in replies).most_common(count) if times >= 3]


def contrastive_loss(cosines: torch.Tensor, rows: list[LabelledRow], generic: Sequence[str] = ()) -> torch.Tensor:
    """Mean cross-entropy (nats) of finding the right reply for each comment and the right comment for each reply.

    cosines: (comments, replies and then the generic ones). Pairs of the same thread, or with the same reply, are no negatives: they may
    well belong.
    """
    import torch

    threads = [row.thread_id for row in rows]
    own = [row.reply.strip().lower() for row in rows]
    alike = torch.tensor(
        [
            [i != j and (threads[i] == threads[j] or own[i] == own[j]) for j in range(len(rows))] + [own[i] == reply for reply in generic]
            for i in range(len(rows))
        ]
    ).to(cosines.device)
    logits = (cosines / TEMPERATURE).masked_fill(alike, -torch.inf)
    right = torch.arange(len(rows), device=cosines.device)
    by_comment: torch.Tensor = torch.nn.functional.cross_entropy(logits, right)
    return (by_comment + torch.nn.functional.cross_entropy(logits[:, : len(rows)].T, right)) / 2
