"""rank: score candidates with every ranker there is.

Reads  RUN/comments.csv and RUN/candidates.csv, or with --in any CSV with the columns comment and reply.
Writes RUN/scored.csv, one row a candidate; or --out: the input's columns and the four scores.

    python -m bot.rank --run data/runs/X
    python -m bot.rank --in pairs.csv --out scored.csv

A score whose ranker is not set (rank.relevance = "") is an empty column. rank_score combines those that are there, see `rank_score`.
`choose` decides what becomes of each row; until then its verdict is «kept».

While it works, scores lie in `OUT.part` (those of PART_PAIRS pairs a line); a killed run goes on from there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from bot import UserError, config, models, progress_bar, rankers, run_command, schema, text
from bot.schema import Candidate, Comment, Scored

SCORES = ("realism_score", "upvote_score", "relevance_score")
PART_PAIRS = 1000
Scorers = Mapping[str, rankers.Ranker]  # by score column
Scores = dict[str, float | None]  # by score column


def load_rankers(settings: config.RankSettings) -> dict[str, rankers.Ranker]:
    """The rankers that are set, by the column that each fills. Raises UserError where one isn't there, or none is set."""
    folders = {"realism_score": settings.realism, "upvote_score": settings.upvote, "relevance_score": settings.relevance}
    there = {column: folder for column, folder in folders.items() if folder is not None}
    loaded = {column: rankers.load(settings.backend, folder, settings.precision) for column, folder in there.items()}
    if not loaded:
        raise UserError("no ranker is set; set rank.realism or rank.upvote to a model folder")
    if not any(getattr(settings.weights, column.removesuffix("_score")) for column in loaded):
        raise UserError(f"rank.weights gives 0 to every ranker that is set ({', '.join(loaded)}); give one of them a weight")
    return loaded


def cleaned(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """What rankers are given, here and in `evaluate`: text as it was cleaned for training."""
    return [(text.clean(comment), text.clean(reply)) for comment, reply in pairs]


def score_pairs(pairs: Sequence[tuple[str, str]], scorers: Scorers, batch_size: int, weights: config.RankWeights) -> list[Scores]:
    """For each (comment, reply): the four scores by column, None where there is no ranker. Text is cleaned as for training first."""
    clean = cleaned(pairs)
    columns = {column: scorers[column].score(clean, batch_size) if column in scorers else [None] * len(pairs) for column in SCORES}
    rows = []
    for index in range(len(pairs)):
        row: Scores = {column: columns[column][index] for column in SCORES}
        rows.append({**row, "rank_score": rank_score(row, weights)})
    return rows


def score_in_parts(
    pairs: Sequence[tuple[str, str]], settings: config.RankSettings, out: Path, made_from: Mapping[str, Any]
) -> list[Scores]:
    """See score_pairs. What an interrupted run left beside `out` isn't done again; the caller removes it when `out` is there."""
    part, key = part_of(out), json.dumps(made_from, sort_keys=True)
    done: list[Scores] = [row for rows in schema.read_part(part, key) for row in rows]
    if done:
        print(f"going on after {len(done):,} of {len(pairs):,} pairs")
    scorers = load_rankers(settings)
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("w", encoding="utf-8") as file, progress_bar() as progress:
        file.write(key + "\n" + "".join(json.dumps(done[at : at + PART_PAIRS]) + "\n" for at in range(0, len(done), PART_PAIRS)))
        task = progress.add_task("pairs", total=len(pairs), completed=len(done))
        for start in range(len(done), len(pairs), PART_PAIRS):
            scores = score_pairs(pairs[start : start + PART_PAIRS], scorers, settings.batch_size, settings.weights)
            file.write(json.dumps(scores) + "\n")
            file.flush()
            done += scores
            progress.update(task, completed=len(done))
    return done


def part_of(out: Path) -> Path:
    return out.with_name(out.name + ".part")


def log_odds(scores: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """log(p / (1 - p)), p held between 0.001 and 0.999: how sure a ranker is beyond that means little.

    >>> log_odds(np.array([0.5, 1.0])).round(2)
    array([0.  , 6.91])
    """
    held = np.clip(scores, 1e-3, 1 - 1e-3)
    return np.log(held / (1 - held))


def rank_score(scores: Mapping[str, float | None], weights: config.RankWeights) -> float | None:
    """What `choose` orders by: the weighted mean of the log-odds of the scores that there are, as a probability again; None without any.

    >>> rank_score({"realism_score": 0.9, "upvote_score": 0.4, "relevance_score": None}, config.RankWeights(realism=0, upvote=1))
    0.4
    """
    there = [(getattr(weights, column.removesuffix("_score")), score) for column, score in scores.items() if score is not None]
    total = sum(weight for weight, _ in there)
    if not total:
        return None
    mean = sum(weight * float(log_odds(np.array(score))) for weight, score in there) / total
    return round(1 / (1 + math.exp(-mean)), 12)


def rank(
    comments: Sequence[Comment], candidates: Sequence[Candidate], score: Callable[[Sequence[tuple[str, str]]], list[Scores]]
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


def made_with(settings: config.RankSettings) -> dict[str, Any]:
    """For a manifest: the settings, and what identifies the rankers."""
    folders = {name: getattr(settings, name) for name in ("realism", "upvote", "relevance")}
    identities = {name: models.fingerprint(folder) for name, folder in folders.items() if folder}
    return {"settings": settings.model_dump(mode="json"), "models": identities}


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
        made_from = {"input": schema.sha256_of(source), **made_with(settings)}
        scores = score_in_parts([(row["comment"], row["reply"]) for row in rows], settings, out, made_from)
        added = (*SCORES, "rank_score")
        result = ({**row, **score} for row, score in zip(rows, scores, strict=True))
        kept = [column for column in columns if column not in added]
        count = schema.write_table(out, [*kept, *added], result, made_from)
        part_of(out).unlink()
        print(f"{count:,} rows scored in {out}")
        return
    scored = run / "scored.csv"
    made_from = {
        "comments": schema.sha256_of(run / "comments.csv") if (run / "comments.csv").exists() else None,
        "candidates": schema.sha256_of(run / "candidates.csv") if (run / "candidates.csv").exists() else None,
        **made_with(settings),
    }
    if schema.is_current(scored, made_from):
        print(f"{scored} is there already")
        return
    comments = schema.read_rows(run / "comments.csv", Comment)
    candidates = schema.read_rows(run / "candidates.csv", Candidate)
    rows_of_run = rank(comments, candidates, lambda pairs: score_in_parts(pairs, settings, scored, made_from))
    count = schema.write_rows(scored, Scored, rows_of_run, made_from)
    part_of(scored).unlink()
    print(f"{count:,} candidates scored in {scored}")


if __name__ == "__main__":
    run_command(main, "python -m bot.rank")
