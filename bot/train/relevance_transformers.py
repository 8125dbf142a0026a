"""train relevance with PyTorch: fine-tune a dual encoder to predict whether a reply belongs to a comment.

Reads  DATA/relevance_{train,val,test}.csv and a sentence encoder in models/base/.
Writes OUT: a LoRA adapter, model.json and losses.csv; during training, OUT/checkpoint.pt.

    python run_bot.py train relevance --data data/prepared --out models/relevance

Each batch comes from one subreddit. The contrastive loss matches each comment with its reply among all replies of the batch, and each
reply with its comment (van den Oord et al. 2018, arXiv:1807.03748; for replies Henderson et al. 2017, arXiv:1705.00652). A reply that
would fit anywhere in the subreddit therefore gains nothing. Rows with label 0 are only used for calibration, on the validation split.
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
from bot.train.options import EncoderOptions, Out
from bot.weights import bases

if TYPE_CHECKING:
    import torch

TEMPERATURE = 0.05  # of the softmax over cosines, the usual value for sentence encoders
EMBED_BATCH = 32  # texts per forward pass
DISTRACTORS = 9  # of the shortest lists that `evaluate` makes
MIN_BATCH_ROWS = 8  # smaller remainders of a subreddit are dropped
GENERIC, GENERIC_IN_BATCH = 256, 16  # most frequent replies, used as negatives for comments that did not get them


@dataclass(frozen=True, kw_only=True)
class Options(EncoderOptions):
    out: Out = Path("models/relevance")


def train(options: Options) -> None:
    """Raises UserError if a file or the base is missing, or there is too little training data."""
    if options.method != "lora":
        raise UserError(f"--method {options.method}: a dual encoder is trained with LoRA only; leave it out")
    folder = bases.base_path(options.base)
    read = {each: schema.read_rows(options.data / f"relevance_{each}.csv", LabelledRow) for each in ("train", "val", "test")}
    for each, rows in read.items():
        if {row.label for row in rows} != {0, 1}:
            raise UserError(f"{options.data}/relevance_{each}.csv: needs rows of both labels; prepare more data")
    if not has_lists(read["test"]):
        raise UserError(
            f"{options.data}/relevance_test.csv: no comment has {DISTRACTORS} replies of other threads of its subreddit, so nothing can be "
            "measured; prepare more data"
        )
    positives = [row for row in read["train"] if row.label == 1 and text.half_for(row.thread_id) == "rankers"]
    rows = sample_rows(positives, options.rows, options.seed)

    import torch
    from transformers import AutoModel

    from bot.rankers.transformers import encode_text

    torch.manual_seed(options.seed)
    plain, tokenizer = encoders.encoder_to_train(AutoModel, folder)
    model = encoders.with_lora(plain, "FEATURE_EXTRACTION", encoders.LORA_RANK)
    encoded = [(encode_text(tokenizer, row.comment), encode_text(tokenizer, row.reply)) for row in rows]
    lengths = [sum(map(len, pair)) for pair in encoded]
    batches = batches_by_subreddit(rows, lengths, options.batch_tokens, options.epochs, options.seed)
    if not batches:
        raise UserError(
            f"{options.data}/relevance_train.csv: no subreddit has {MIN_BATCH_ROWS} replies; prepare more data, or raise --rows"
        )
    generic = {reply: encode_text(tokenizer, reply) for reply in most_frequent([row.reply for row in positives], GENERIC)}
    settings: dict[str, Any] = {
        "architecture": "dual encoder", "rows": len(rows), "epochs": options.epochs, "batch_tokens": options.batch_tokens,
        "temperature": TEMPERATURE,
    }  # fmt: skip
    pairs = [(row.comment, row.reply) for row in read["val"]]
    task = encoders.Task(
        "relevance", options.out, settings, {f"relevance_{each}.csv": len(own) for each, own in read.items()}, batches,
        loss_of=lambda batch: batch_loss(model, tokenizer, batch, rows, encoded, generic),
        calibrate=lambda ranker: encoders.calibrated(ranker.cosines(pairs).tolist(), read["val"]),
    )  # fmt: skip
    encoders.fit(options, model, [task])


def has_lists(rows: Sequence[LabelledRow]) -> bool:
    """True if `evaluate` can make a list of one comment's reply and DISTRACTORS replies of other threads of its subreddit."""
    replies: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))  # subreddit -> thread -> replies
    for row in rows:
        if row.label == 1:
            replies[row.subreddit.lower()][row.thread_id].add(row.reply)
    for by_thread in replies.values():
        for thread, own in by_thread.items():
            others = set().union(*(each for other, each in by_thread.items() if other != thread))
            if any(len(others - {reply}) >= DISTRACTORS for reply in own):
                return True
    return False


def batch_loss(
    model: Any, tokenizer: Any, batch: list[int], rows: list[LabelledRow], encoded: list[tuple[list[int], list[int]]],
    generic: dict[str, list[int]],
) -> torch.Tensor:  # fmt: skip
    """Mean loss (nats) of a batch. batch: row indices. encoded: token ids of each row's comment and reply. generic: reply -> token ids."""
    import torch

    from bot.rankers.transformers import embed

    drawn = random.Random(batch[0]).sample(list(generic), min(GENERIC_IN_BATCH, len(generic)))
    texts = [encoded[row][side] for side in (0, 1) for row in batch] + [generic[reply] for reply in drawn]
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))  # similar lengths together, for less padding
    parts = [order[start : start + EMBED_BATCH] for start in range(0, len(order), EMBED_BATCH)]
    vectors = torch.cat([embed(model, tokenizer, [texts[index] for index in part]) for part in parts])
    vectors = vectors[torch.tensor(order, device=vectors.device).argsort()]
    comments, replies = vectors[: len(batch)], vectors[len(batch) :]
    return contrastive_loss(comments @ replies.T, [rows[row] for row in batch], drawn)


def batches_by_subreddit(rows: list[LabelledRow], lengths: list[int], batch_tokens: int, epochs: int, seed: int) -> list[list[int]]:
    """Batches of row indices in random order. Each is of one subreddit and has at most `batch_tokens` (longest row times rows)."""
    by_subreddit: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        by_subreddit[row.subreddit.lower()].append(index)
    result: list[list[int]] = []
    for epoch in range(epochs):
        batches = [
            batch
            for indices in by_subreddit.values()
            for batch in loop.batches_by_length(indices, lengths.__getitem__, batch_tokens, 1, seed + epoch)
            if len(batch) >= MIN_BATCH_ROWS
        ]
        random.Random(seed + epoch).shuffle(batches)
        result += batches
    return result


def most_frequent(replies: Sequence[str], count: int) -> list[str]:
    """The up to `count` most frequent replies that occur at least three times, such as "thank you"; lower-cased and stripped.

    >>> most_frequent(["Thanks!", "thanks! ", "why", "thanks!"], 5)
    ['thanks!']
    """
    return [reply for reply, times in Counter(reply.strip().lower() for reply in replies).most_common(count) if times >= 3]


def contrastive_loss(cosines: torch.Tensor, rows: list[LabelledRow], generic: Sequence[str] = ()) -> torch.Tensor:
    """Mean cross-entropy (nats) of matching each comment with its reply and each reply with its comment.

    cosines: (comments, replies + generic). Pairs from the same thread or with the same reply may well match, so they are not used as
    negatives.
    """
    import torch

    threads = [row.thread_id for row in rows]
    own = [row.reply.strip().lower() for row in rows]
    ignored = torch.tensor(
        [
            [i != j and (threads[i] == threads[j] or own[i] == own[j]) for j in range(len(rows))] + [own[i] == reply for reply in generic]
            for i in range(len(rows))
        ]
    ).to(cosines.device)
    logits = (cosines / TEMPERATURE).masked_fill(ignored, -torch.inf)
    targets = torch.arange(len(rows), device=cosines.device)
    by_comment: torch.Tensor = torch.nn.functional.cross_entropy(logits, targets)
    return (by_comment + torch.nn.functional.cross_entropy(logits[:, : len(rows)].T, targets)) / 2
