"""Options shared by all trainers, and by all ranker trainers, with help, ranges and defaults. A trainer's `Options` adds its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

Base = Annotated[str, typer.Option(help="name of a base under models/base")]
Data = Annotated[Path, typer.Option(help="folder of prepared files")]
Out = Annotated[Path, typer.Option(help="model folder to write")]
LearningRate = Annotated[float, typer.Option(min=0, help="peak learning rate")]
Epochs = Annotated[int, typer.Option(min=1, help="passes over the training rows")]
Harvest = Annotated[Path | None, typer.Option(help="file written by `harvest`; also train on the bot's own replies")]


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    base: Base
    data: Data = Path("data/prepared")
    out: Out
    learning_rate: LearningRate
    seed: Annotated[int, typer.Option()] = 1

    @property
    def folders(self) -> list[Path]:
        """The model folders that this run writes."""
        return [self.out]


Method = Literal["lora", "layers"]


@dataclass(frozen=True, kw_only=True)
class RankerOptions(TrainOptions):
    base: Base = "minilm-l6"
    method: Annotated[Method, typer.Option(help="lora: train a small adapter; layers: train all weights except the embeddings")] = "lora"
    rows: Annotated[int, typer.Option(min=1, help="rows (upvote with transformers: replies) to train on, drawn at random")] = 30_000
    epochs: Epochs = 1
    batch_tokens: Annotated[int, typer.Option(min=128, help="tokens per step, including padding")] = 4096
    learning_rate: LearningRate = 1e-4
