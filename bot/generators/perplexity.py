"""perplexity: measure how well a generator predicts human replies to held-out comments.

Reads  CSVs such as lm_test.csv; the model; and a card with its back end, maximum row length and seed.
Writes OUT, JSON: for each input such as `lm_test`, the result of the back end's `reply_perplexity`: rows, perplexity (over the tokens of
       the replies including the end token), and possibly more.

    python run_bot.py perplexity --model models/lm --in data/prepared/lm_test.csv --out lm_test.json
    python run_bot.py perplexity --model models/base/smollm2-135m-instruct --card models/lm --in … --out …    the base, on the same rows
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Annotated

import typer

from bot import cli, files, generators, schema
from bot.cli import UserError
from bot.schema import LmRow
from bot.weights import cards

ROWS = 1000  # maximum number of measured rows, drawn at random


def main(
    model: Annotated[Path, typer.Option(help="folder of a generator")],
    sources: Annotated[list[Path], typer.Option("--in", help="lm_val.csv, lm_test.csv; repeatable")],
    out: Annotated[Path, typer.Option(help="output file, JSON")],
    card: Annotated[Path | None, typer.Option(help="folder of the model whose card to use [default: --model]")] = None,
    overwrite: files.Overwrite = False,
) -> None:
    """Measure a generator on held-out replies."""
    files.check_output(out, sources, overwrite)
    settings = cards.read_card(card or model).settings
    back_end = generators.back_end(settings.get("backend", ""))
    measure = getattr(importlib.import_module(back_end.likelihoods or back_end.module), "reply_perplexity", None)
    if measure is None:
        raise UserError(f"{model}: its back end cannot measure given replies")
    results = {}
    for source in sources:
        with cli.waiting(f"measuring {model} on {source.name}"):
            results[source.stem] = measure(model, schema.read_rows(source, LmRow), ROWS, settings)
    with files.atomic_writer(out) as file:
        json.dump(results, file, indent=1)
    print(out)
