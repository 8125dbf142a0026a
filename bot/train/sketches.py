"""train sketches: sketch the replies a generator was trained on, so that `choose` can reject near-copies of them (see corpus.copies).

Reads  DATA/lm_train.csv and, with --max-tokens, the generator's tokenizer.
Writes MODEL/replies.npy. `train lm` writes it too; this command is for models trained elsewhere.

    python run_bot.py train sketches --data data/prepared --model models/lm
    python run_bot.py train sketches --data data/prepared --model models/lm --bytes 16 --max-tokens 96      small enough for git
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bot import files, schema
from bot.cli import UserError
from bot.corpus import copies
from bot.schema import LmRow


def main(
    data: Annotated[Path, typer.Option(help="folder with lm_train.csv")] = Path("data/prepared"),
    model: Annotated[Path, typer.Option(help="generator's model folder")] = Path("models/lm"),
    sketch_bytes: Annotated[
        int, typer.Option("--bytes", min=copies.MIN_BYTES, max=copies.SKETCH_BYTES, help="bytes per reply")
    ] = copies.SKETCH_BYTES,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="skip rows that are longer, as `train lm --max-tokens` does [default: no limit]")
    ] = None,
) -> None:
    """Sketch the training replies of a generator, so that `choose` can reject near-copies of them."""
    if not model.is_dir():
        raise UserError(f"{model}: no such folder; set --model to the generator's folder")
    files.check_output(model / copies.FILE, [data / "lm_train.csv"], is_ours=lambda _: True)  # a file of that name is always replaced
    rows = schema.read_rows(data / "lm_train.csv", LmRow)
    if max_tokens is not None:
        from bot.generators.transformers import encode_training_row, load_model

        tokenizer = load_model(model)[1]
        rows = [row for row in rows if len(encode_training_row(tokenizer, row.comment, row.reply, max_tokens)[0]) <= max_tokens]
    count = copies.write(model, [row.reply for row in rows], sketch_bytes)
    print(f"{count:,} replies sketched in {model / copies.FILE}")
