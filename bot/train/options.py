"""Options shared by all trainers, and by all ranker trainers, with help, ranges and defaults. A trainer's `Options` adds its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import typer

from bot.corpus.karma_rules import Rule

Base = Annotated[str, typer.Option(help="name of a base under models/base")]
Data = Annotated[Path, typer.Option(help="folder of prepared files")]
Out = Annotated[Path, typer.Option(help="model folder to write")]
LearningRate = Annotated[float, typer.Option(min=0, help="peak learning rate")]
Epochs = Annotated[int, typer.Option(min=1, help="passes over the training rows")]
Harvest = Annotated[Path | None, typer.Option(help="file written by `harvest`; also train on the bot's own replies")]


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    data: Data = Path("data/prepared")
    out: Out
    learning_rate: LearningRate
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1)] = 1  # the range of NumPy's

    @property
    def folders(self) -> list[Path]:
        """The model folders that this run writes."""
        return [self.out]


@dataclass(frozen=True, kw_only=True)
class RankerOptions(TrainOptions):
    base: Base = "minilm-l6"
    rows: Annotated[int, typer.Option(min=1, help="rows (upvote: replies) to train on, drawn at random")] = 30_000
    epochs: Epochs = 1
    batch_tokens: Annotated[int, typer.Option(min=128, help="tokens per step, including padding")] = 4096
    learning_rate: LearningRate = 1e-4


Method = Literal["lora", "layers"]


@dataclass(frozen=True, kw_only=True)
class EncoderOptions(RankerOptions):
    """For the rankers trained with PyTorch."""

    method: Annotated[Method, typer.Option(help="lora: train a small adapter; layers: train all weights except the embeddings")] = "lora"


@dataclass(frozen=True, kw_only=True)
class SiblingOptions(RankerOptions):
    """For upvote rankers that compare siblings, see siblings.py."""

    karma_gap: Annotated[int, typer.Option(min=1, help="minimum difference in karma of training pairs")] = 5
    rule: Annotated[
        Rule, typer.Option(help="training pairs: gap: by --karma-gap; dialogrpt: also by rank; shp: the later reply has twice the karma")
    ] = "gap"
    threads: Annotated[
        Literal["rankers", "all"],
        typer.Option(help="training threads: the rankers' half, so that the judges of `evaluate` are independent, or all"),
    ] = "rankers"
    ranked_rows: Annotated[int, typer.Option(min=0, help="also train on this many replies of DATA/ranked_pairs.csv")] = 0
    leave_out: Annotated[
        list[str], typer.Option(help="subreddit to exclude from training and evaluate on separately; repeatable")
    ] = field(default_factory=list)  # fmt: skip
    harvest: Harvest = None

    @property
    def left_out(self) -> set[str]:
        """The subreddits of --leave-out in lower case."""
        return {name.lower() for name in self.leave_out}


@dataclass(frozen=True, kw_only=True)
class GloveOptions(RankerOptions):
    """For rankers on word vectors."""

    base: Annotated[
        str, typer.Option(help="name of a base of word vectors, a GloVe text file, or a zip file with one (FILE.zip/MEMBER)")
    ] = "glove-6b-50d"
    epochs: Epochs = 20
    learning_rate: LearningRate = 2e-3
    vocabulary: Annotated[
        int, typer.Option(min=0, help="most frequent words of the training texts to use; 0: chosen by their coverage (coverage.png)")
    ] = 0
    fine_tune: Annotated[bool, typer.Option(help="train the word vectors, too; otherwise they are frozen")] = False
    units: Annotated[int, typer.Option(min=1, help="units of an LSTM in each direction")] = 64
    dense: Annotated[int, typer.Option(min=1, help="units of the dense layer")] = 64
    dropout: Annotated[float, typer.Option(min=0, max=0.9, help="share of inputs of each part that is dropped in training")] = 0.3
    patience: Annotated[int, typer.Option(min=1, help="stop after this many epochs without a lower validation loss")] = 3
