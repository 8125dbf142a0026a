"""rank: score candidates with every ranker there is.

Reads  RUN/comments.csv and RUN/candidates.csv, or with --in any CSV with the columns comment and reply.
Writes RUN/scored.csv, one row a candidate; or --out: the input's columns and the four scores.

    python run_bot.py rank --run data/runs/X
    python run_bot.py score --in pairs.csv --out scored.csv

A score whose ranker is not set (rank.relevance = "") is an empty column. rank_score combines those that are there, see `rank_score`.
`choose` decides what becomes of each row; until then its verdict is «kept».

While it works, scores lie in `OUT.part` (those of PART_PAIRS pairs a line); a killed run goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from bot import config, files, schema
from bot.cli import UserError
from bot.online import score as scoring
from bot.rankers import score
from bot.schema import Candidate, Comment, Scored


def rank(
    comments: Sequence[Comment], candidates: Sequence[Candidate], score: Callable[[Sequence[tuple[str, str]]], list[score.Scores]]
) -> list[Scored]:
    """One row a candidate, in the candidates' order; joined on comment_id, never on text. score: see score_pairs.

    Raises:
        UserError: a candidate answers a comment that isn't there.
    """
    by_id = {comment.comment_id: comment for comment in comments}
    strange = next((candidate for candidate in candidates if candidate.comment_id not in by_id), None)
    if strange:
        raise UserError(
            f"candidates.csv: {strange.candidate_id} answers {strange.comment_id}, which comments.csv doesn't have; generate again"
        )
    scored = score([(by_id[c.comment_id].comment, c.reply) for c in candidates])
    rows = []
    for candidate, scores in zip(candidates, scored, strict=True):
        comment = by_id[candidate.comment_id]
        where = (comment.comment_id, comment.thread_id, comment.subreddit, comment.comment)
        four = (scores["realism_score"], scores["upvote_score"], scores["relevance_score"], scores["rank_score"])
        rows.append(Scored(*where, candidate.candidate_id, candidate.reply, *four, verdict="kept", reason=""))
    return rows


def main(
    run: Annotated[Path | None, typer.Option(help="run folder: reads comments.csv and candidates.csv, writes scored.csv")] = None,
    source: Annotated[Path | None, typer.Option("--in", help="any CSV with comment and reply")] = None,
    out: Annotated[Path | None, typer.Option(help="the CSV to write, with --in")] = None,
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None,
) -> None:
    """Score replies: realism, upvote and relevance, each a probability in [0, 1]."""
    if (run is None) == (source is None) or (source is None) != (out is None):
        raise UserError("give either --run DIR, or --in FILE.csv and --out FILE.csv")
    settings = config.load(config_file).rank
    if run is None:
        assert source is not None and out is not None
        columns, rows = schema.read_table(source, ("comment", "reply"))
        made_from = {"input": files.sha256_of(source), **scoring.made_with(settings)}
        scores = scoring.score_in_parts([(row["comment"], row["reply"]) for row in rows], settings, out, made_from)
        added = (*score.SCORES, "rank_score")
        result = ({**row, **score} for row, score in zip(rows, scores, strict=True))
        kept = [column for column in columns if column not in added]
        count = schema.write_table(out, [*kept, *added], result, made_from)
        scoring.part_of(out).unlink()
        print(f"{count:,} rows scored in {out}")
        return
    scored = run / "scored.csv"
    made_from = {
        "comments": files.sha256_of(run / "comments.csv") if (run / "comments.csv").exists() else None,
        "candidates": files.sha256_of(run / "candidates.csv") if (run / "candidates.csv").exists() else None,
        **scoring.made_with(settings),
    }
    if files.is_current(scored, made_from):
        print(f"{scored} is there already")
        return
    comments = schema.read_rows(run / "comments.csv", Comment)
    candidates = schema.read_rows(run / "candidates.csv", Candidate)
    rows_of_run = rank(comments, candidates, lambda pairs: scoring.score_in_parts(pairs, settings, scored, made_from))
    count = schema.write_rows(scored, Scored, rows_of_run, made_from)
    scoring.part_of(scored).unlink()
    print(f"{count:,} candidates scored in {scored}")
