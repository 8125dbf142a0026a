"""train upvote with PyTorch: predict which of two replies to a comment gets more karma.

Reads  DATA/upvote_pairs_{train,val,test}.csv (of the training split only the rankers' half, see text.half_for) and an encoder in
       models/base/; with a --rule other than gap DATA/upvote_train.csv, with --ranked-rows DATA/ranked_pairs.csv, with --harvest
       harvest.csv, with --realism-out DATA/realism_{train,val,test}.csv.
Writes OUT: a LoRA adapter, model.json and losses.csv; during training, OUT/checkpoint.pt. With --realism-out, a realism ranker with the
       same adapter in that folder.

    python run_bot.py train upvote --data data/prepared --rows 40000 --ranked-rows 10000
    python run_bot.py train upvote --data data/prepared --leave-out rage --leave-out wtf --out models/upvote-without
    python run_bot.py train upvote --data data/prepared --harvest data/harvest.csv

Siblings (see siblings.py) are encoded once and compared with each other. The loss of a pair is -log sigmoid(chosen - rejected) (Bradley and
Terry 1952), averaged over the pairs of a comment, then over comments. The logit of a single reply is calibrated on validation pairs to the
probability of doing better than an average reply (`siblings.calibrate_on_pairs`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bot.cli import UserError
from bot.rankers import Encoded, batches_of_like_length
from bot.train import encoders, loop, realism_transformers, siblings
from bot.train.options import EncoderOptions, Out, SiblingOptions
from bot.train.siblings import Group
from bot.weights import bases

if TYPE_CHECKING:
    import torch

ENCODE_BATCH = 32  # pairs per forward pass


@dataclass(frozen=True, kw_only=True)
class Options(SiblingOptions, EncoderOptions):
    out: Out = Path("models/upvote")
    realism_out: Annotated[
        Path | None,
        typer.Option(help="also train a realism ranker on the same encoder and write it here; one forward pass serves both"),
    ] = None

    @property
    def folders(self) -> list[Path]:
        return [self.out, *([self.realism_out] if self.realism_out else [])]


def train(options: Options) -> None:
    """Raises UserError if options contradict each other, a file or the base is missing, or there is too little training data."""
    check(options)
    folder = bases.base_path(options.base)
    realism = realism_transformers.read_rows(options.data) if options.realism_out else {}
    data = siblings.read(options, realism)
    groups = data.groups

    from bot.rankers.transformers import encode_pair, logits

    model, tokenizer = encoders.ranker_to_train(folder, len(options.folders), options.seed, options.method)
    encoded = [[encode_pair(tokenizer, *pair) for pair in group.replies] for group in groups]
    sizes = [sum(len(ids) for ids, _ in group) for group in encoded]
    batches = loop.batches_by_length(range(len(groups)), sizes.__getitem__, options.batch_tokens, options.epochs, options.seed)

    def loss_of(batch: list[int]) -> torch.Tensor:
        return batch_loss(
            [groups[n] for n in batch], [encoded[n] for n in batch], lambda pairs: logits(model, tokenizer, pairs)[:, 0]
        )  # fmt: skip

    def calibrate(ranker: siblings.HasLogits) -> tuple[float, float]:
        return siblings.calibrate_on_pairs(ranker, data.validation)

    tasks = [encoders.Task("upvote", options.out, data.settings, data.sources, batches, loss_of, calibrate)]
    if options.realism_out:
        second = replace(options, out=options.realism_out)
        tasks.append(realism_transformers.realism_task(second, realism, tokenizer, lambda pairs: logits(model, tokenizer, pairs)[:, 1]))
    encoders.fit(options, model, tasks)


def check(options: Options) -> None:
    """Raises UserError if the options contradict each other."""
    if not options.realism_out:
        return
    if options.realism_out.resolve() == options.out.resolve():
        raise UserError(f"--realism-out and --out are the same folder, {options.out}; use two different folders")
    if (options.realism_out / "checkpoint.pt").exists():
        raise UserError(f"{options.realism_out}/checkpoint.pt: belongs to an interrupted training run; finish that run, or delete the file")
    if options.leave_out:
        raise UserError("--realism-out trains on every subreddit, including those of --leave-out; drop one of the two options")


# --- loss and calibration -----------------------------------------------------------------------------------------------


def batch_loss(groups: Sequence[Group], encoded: Sequence[Sequence[Encoded]], logits_of: encoders.Logits) -> torch.Tensor:
    """Mean loss (nats) over groups; the loss of a group is the mean over its pairs. encoded: the replies of each group."""
    import torch

    pairs = [pair for group in encoded for pair in group]
    parts = list(batches_of_like_length(pairs, ENCODE_BATCH))
    order = torch.tensor([index for part in parts for index in part])
    scores = torch.cat([logits_of([pairs[index] for index in part]) for part in parts])[order.argsort()]
    start, losses = 0, []
    for group in groups:
        chosen, rejected = (start + torch.tensor(side) for side in zip(*group.better, strict=True))
        losses.append(-torch.nn.functional.logsigmoid(scores[chosen] - scores[rejected]).mean())
        start += len(group.replies)
    return torch.stack(losses).mean()
