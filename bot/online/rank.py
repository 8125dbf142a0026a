"""rank: score a run's candidates with each configured ranker.

Reads  RUN/candidates.csv.
Writes RUN/scores.csv, one row per candidate.

    python run_bot.py rank --run data/runs/X

rankers/scoring.py scores the candidates; `choose` decides which of them are used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from bot import config, files, schema
from bot.rankers import score, scoring
from bot.schema import Candidate, Scores


def rows(candidates: Sequence[Candidate], scored: Sequence[score.Scores], how: scoring.Scoring) -> Iterator[Scores]:
    """The row of each candidate. scored: its scores, in the same order."""
    for each, own in zip(candidates, scored, strict=True):
        combined = scoring.rank(how, own, (each.comment, each.reply), each.log_likelihood)
        yield Scores(each.comment_id, each.candidate_id, **own, **combined)


def main(
    run: Annotated[Path, typer.Option(help="run folder: reads candidates.csv, writes scores.csv")],
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None,
) -> None:
    """Score a run's candidates: realism, upvote and relevance, each a probability in [0, 1]."""
    settings = config.load(config_file).rank
    source, out = run / "candidates.csv", run / "scores.csv"
    with files.run_folder(run):
        files.check_output(out, [source])
        candidates = schema.read_rows(source, Candidate)
        scoring.check_weights(settings)
        how = scoring.by_all(settings)
        made_from = {"candidates": files.sha256_of(source), **how.made_with}
        if files.current_rows(out, made_from) is not None:
            return
        with scoring.scored_in_parts([(each.comment, each.reply) for each in candidates], how, out, made_from) as (scored, speed):
            count = schema.write_rows(out, Scores, rows(candidates, scored, how), made_from, speed=speed)
        print(f"{count:,} candidates scored in {out}")
