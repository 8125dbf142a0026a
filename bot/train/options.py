"""Options that all trainers have, or all those of rankers, with help, ranges and defaults. A trainer's own are in its `Options`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

Base = Annotated[str, typer.Option(help="name of a base under models/base")]
Data = Annotated[Path, typer.Option(help="folder of prepared files")]
Out = Annotated[Path, typer.Option(help="model folder to write")]
LearningRate = Annotated[float, typer.Option(min=0, help="at its peak")]
Epochs = Annotated[int, typer.Option(min=1, help="times that each row is seen")]
Harvest = Annotated[Path | None, typer.Option(help="what `harvest` wrote, to learn from the bot's own replies besides")]


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    base: Base
    data: Data = Path("data/prepared")
    out: Out
    learning_rate: LearningRate
    seed: Annotated[int, typer.Option()] = 1

    @property
    def folders(self) -> list[Path]:
        """The model folders that are written."""
        return [self.out]


@dataclass(frozen=True, kw_only=True)
class RankerOptions(TrainOptions):
    base: Base = "minilm-l6"
    rows: Annotated[int, typer.Option(min=1, help="rows (upvote with transformers: replies) to train on, drawn at random")] = 30_000
    epochs: Epochs = 1
    batch_tokens: Annotated[int, typer.Option(min=128, help="tokens a step, padding counted")] = 4096
    learning_rate: LearningRate = 1e-4
