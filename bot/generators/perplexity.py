"""perplexity: how well a generator predicts people's replies to held-out comments.

Reads  CSVs such as lm_test.csv; the model, and a card that says how it was trained: its back end, longest row, and seed.
Writes OUT, JSON: by file, as `lm_test`, what the back end's `reply_perplexity` returns: rows, perplexity (over the tokens of the replies
       and their ends), and perhaps more.

    python run_bot.py perplexity --model models/lm --in data/prepared/lm_test.csv --out lm_test.json
    python run_bot.py perplexity --model models/base/smollm2-135m-instruct --card models/lm --in … --out …    the base, on the same rows
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Annotated

import typer

from bot import files, generators, schema
from bot.cli import UserError
from bot.schema import LmRow
from bot.weights import cards

ROWS = 1000  # measured at most, drawn at random


def main(
    model: Annotated[Path, typer.Option(help="folder of a generator")],
    sources: Annotated[list[Path], typer.Option("--in", help="lm_val.csv, lm_test.csv; may be given several times")],
    out: Annotated[Path, typer.Option(help="the JSON file to write")],
    card: Annotated[Path | None, typer.Option(help="folder of the trained model whose card counts, if not --model's")] = None,
    overwrite: files.Overwrite = False,
) -> None:
    """Measure a generator on held-out replies."""
    files.check_output(out, sources, overwrite)
    settings = cards.read_card(card or model).settings
    back_end = generators.back_end(settings.get("backend", ""))
    measure = getattr(importlib.import_module(back_end.likelihoods or back_end.module), "reply_perplexity", None)
    if measure is None:
        raise UserError(f"{model}: its back end can't measure given replies")
    found = {source.stem: measure(model, schema.read_rows(source, LmRow), ROWS, settings) for source in sources}
    with files.atomic_writer(out) as file:
        json.dump(found, file, indent=1)
    print(out)
