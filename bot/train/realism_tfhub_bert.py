"""train realism --backend tfhub-bert: two classes, 0 generated and 1 human. See tfhub_bert for the model.

Reads  DATA/realism_{train,val,test}.csv and the encoder.
Writes OUT (see tfhub_bert).

    python run_bot.py train realism --backend tfhub-bert --base minilm-l6-tfhub --data data/prepared --out models/realism-tfhub
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from bot import schema
from bot.schema import RealismRow
from bot.train.options import Out, RankerOptions

TFHubBase = Annotated[str, typer.Option(help="TensorFlow Hub URL, SavedModel folder, or base written by `models export-tfhub`")]


@dataclass(frozen=True, kw_only=True)
class Options(RankerOptions):
    base: TFHubBase = "minilm-l6-tfhub"
    out: Out = Path("models/realism-tfhub")


def train(options: Options) -> None:
    """Raises UserError if a file or the encoder is missing or unusable, a class has no rows, or memory runs out."""
    read = {each: schema.read_rows(options.data / f"realism_{each}.csv", RealismRow) for each in ("train", "val", "test")}

    from bot.train import tfhub_bert

    tfhub_bert.train(options, "realism", 2, read, lambda row: row.label)
