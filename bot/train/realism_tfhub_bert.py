"""train realism --backend tfhub-bert: two classes, generated and a person's; see tfhub_bert for the model.

Reads  DATA/realism_{train,val,test}.csv and the encoder.
Writes OUT, see tfhub_bert.

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

TFHubBase = Annotated[str, typer.Option(help="a TensorFlow Hub URL, a SavedModel's folder, or a base that `models export-tfhub` made")]


@dataclass(frozen=True, kw_only=True)
class Options(RankerOptions):
    base: TFHubBase = "minilm-l6-tfhub"
    out: Out = Path("models/realism-tfhub")


def train(options: Options) -> None:
    """Raises UserError: a file or the encoder is missing or unfit, a class has no rows, or memory is full."""
    read = {each: schema.read_rows(options.data / f"realism_{each}.csv", RealismRow) for each in ("train", "val", "test")}

    from bot.train import tfhub_bert

    tfhub_bert.train(options, "realism", 2, read, lambda row: row.label)
