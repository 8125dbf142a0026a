"""leaderboard retrieve: the plain baseline that answers with the reply to the most similar training comment.

Reads  DATA/lm_train.csv (the half of the threads for rankers, so that the judges have not seen the replies); the encoder minilm-l6; CSV
       files with comment_id and comment.
Writes OUT: candidates as `generate` writes them, one per comment.

    python run_bot.py leaderboard retrieve --data data/prepared --in comments.csv --out candidates.csv
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from bot import files, rankers, schema, text
from bot.cli import Clock
from bot.evaluate import measures
from bot.schema import Candidate, LmRow, sample_rows
from bot.weights import bases

ENCODER = "minilm-l6"
REPLIES = 20_000  # of the training split, drawn at random; encoding them takes minutes on two cores
NAME = f"retrieval:{ENCODER}"


def nearest(comments: Any, known: Any) -> list[int]:
    """For each vector of `comments`, (comments, width), the row of `known`, (rows, width), with the highest cosine; the first in a tie.

    >>> nearest(np.array([[1.0, 0.0]]), np.array([[0.6, 0.8], [0.8, 0.6], [0.8, 0.6]]))
    [1]
    """
    return [int(np.argmax(known @ vector)) for vector in comments]


def made_from(sources: Sequence[Path], data: Path) -> dict[str, Any]:
    """What the answers depend on, for their manifest."""
    return {
        "input": [files.sha256_of(source) for source in sources], "training": files.sha256_of(data / "lm_train.csv"), "replies": REPLIES,
        "model": bases.base_sha256(ENCODER),
    }  # fmt: skip


def main(
    sources: Annotated[list[Path], typer.Option("--in", help="any CSV with comment_id and comment; may be repeated")],
    out: Annotated[Path, typer.Option(help="output CSV")],
    data: Annotated[Path, typer.Option(help="folder of prepared files")] = Path("data/prepared"),
    overwrite: files.Overwrite = False,
) -> None:
    """Answer each comment with the reply to the most similar training comment."""
    training = data / "lm_train.csv"
    files.check_output(out, [*sources, training], overwrite)
    if files.current_rows(out, facts := made_from(sources, data)) is not None:
        return
    table = [row for source in sources for row in schema.read_table(source, ("comment_id", "comment"))[1]]
    comments = [(row["comment_id"], text.clean(row["comment"])) for row in table]
    rows = sample_rows(measures.rankers_half(measures.read(training, LmRow)), REPLIES, 1)
    encoder = rankers.load_base(ENCODER)
    known = encoder.encode([row.comment for row in rows])
    clock = Clock()
    places = nearest(encoder.encode([comment for _, comment in comments]), known)
    answers = [rows[place].reply for place in places]
    speed = clock.facts(words=sum(len(reply.split()) for reply in answers))
    candidates = (
        Candidate(comment_id, f"{comment_id}-0", 0, comment, reply, NAME, None)
        for (comment_id, comment), reply in zip(comments, answers, strict=True)
    )
    print(f"{schema.write_rows(out, Candidate, candidates, facts, speed=speed):,} candidates in {out}")
