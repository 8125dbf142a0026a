"""train realism --backend glove-bilstm: classify replies as human-written (label 1) or generated (label 0). See glove_bilstm for the model.

Reads  DATA/realism_{train,val,test}.csv (of the training split only the rankers' half, see text.half_for) and word vectors.
Writes OUT (see glove_bilstm).

    python run_bot.py train realism --backend glove-bilstm --data data/prepared --out models/realism-glove
    python run_bot.py train realism --backend glove-bilstm --base glove.twitter.27B.zip/glove.twitter.27B.100d.txt
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bot import text
from bot.schema import sample_rows
from bot.train import encoders, realism_transformers
from bot.train.options import GloveOptions, Out

VALIDATION_ROWS = 3000


@dataclass(frozen=True, kw_only=True)
class Options(GloveOptions):
    out: Out = Path("models/realism-glove")


def train(options: Options) -> None:
    """Raises UserError if a file or the vectors are missing or unusable, or a split lacks one of the labels."""
    read = realism_transformers.read_rows(options.data)
    rows = sample_rows([row for row in read["train"] if text.half_for(row.thread_id) == "rankers"], options.rows, options.seed)

    from bot.train import glove_bilstm

    examples = {
        each: [glove_bilstm.labelled((row.comment, row.reply), row.label) for row in own]
        for each, own in (("train", rows), ("val", sample_rows(read["val"], VALIDATION_ROWS, options.seed)))
    }
    settings = {"rows": len(rows), "generators": sorted({row.generator for row in rows if row.generator})}
    pairs = [(row.comment, row.reply) for row in read["val"]]
    glove_bilstm.train(
        options, "realism", examples, settings, {f"realism_{each}.csv": len(own) for each, own in read.items()},
        lambda ranker: encoders.calibrated(ranker.logits(pairs), read["val"]),
    )  # fmt: skip
