"""train upvote --backend glove-bilstm: predict which of two replies to a comment gets more karma. See glove_bilstm for the model.

Reads  word vectors and the files of siblings.py.
Writes OUT (see glove_bilstm).

    python run_bot.py train upvote --backend glove-bilstm --data data/prepared --rows 60000 --out models/upvote-glove

The loss is that of upvote_transformers, -log sigmoid(chosen - rejected), averaged over the pairs of a comment, then over comments.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bot.train import siblings
from bot.train.options import GloveOptions, Out, SiblingOptions


@dataclass(frozen=True, kw_only=True)
class Options(GloveOptions, SiblingOptions):
    out: Out = Path("models/upvote-glove")


def train(options: Options) -> None:
    """Raises UserError if a file or the vectors are missing or unusable, or there is too little training data."""
    data = siblings.read(options, {})

    from bot.train import glove_bilstm

    groups = {"train": data.groups, "val": siblings.group_by_comment(data.validation)}
    examples = {each: [glove_bilstm.compared(group.replies, group.better) for group in own] for each, own in groups.items()}
    glove_bilstm.train(
        options, "upvote", examples, data.settings, data.sources,
        lambda ranker: siblings.calibrate_on_pairs(ranker, data.validation),
    )  # fmt: skip
