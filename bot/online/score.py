"""score: what the rankers say of (comment, reply) pairs. The only code that runs rankers over rows.

Reads  any CSV with the columns comment and reply.
Writes OUT: the input's columns and the four scores, each a probability in [0, 1].

    python run_bot.py score --in pairs.csv --out scores.csv

A score whose ranker is not set (rank.relevance = "") is an empty column. rank_score combines those that are there, see
rankers.score.rank_score. While it works, scores lie in `OUT.part` (those of PART_PAIRS pairs a line); a killed run resumes from there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bot import config, files, rankers, schema
from bot.cli import UserError, progress_bar
from bot.rankers import score
from bot.weights import serving

PART_PAIRS = 1000


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


def score_in_parts(
    pairs: Sequence[tuple[str, str]], settings: config.RankSettings, out: Path, made_from: Mapping[str, Any]
) -> list[score.Scores]:
    """See score_pairs. What an interrupted run left beside `out` isn't done again; the caller removes it when `out` is there."""
    part, key = part_of(out), json.dumps(made_from, sort_keys=True)
    done: list[score.Scores] = [row for rows in files.read_part(part, key) for row in rows]
    if done:
        print(f"going on after {len(done):,} of {len(pairs):,} pairs")
    scorers = load_rankers(settings)
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("w", encoding="utf-8") as file, progress_bar() as progress:
        file.write(key + "\n" + "".join(json.dumps(done[at : at + PART_PAIRS]) + "\n" for at in range(0, len(done), PART_PAIRS)))
        task = progress.add_task("pairs", total=len(pairs), completed=len(done))
        for start in range(len(done), len(pairs), PART_PAIRS):
            scores = score.score_pairs(pairs[start : start + PART_PAIRS], scorers, settings.batch_size, settings.weights)
            file.write(json.dumps(scores) + "\n")
            file.flush()
            done += scores
            progress.update(task, completed=len(done))
    return done


def part_of(out: Path) -> Path:
    return out.with_name(out.name + ".part")


def made_with(settings: config.RankSettings) -> dict[str, Any]:
    """For a manifest: the settings, and what identifies the rankers."""
    folders = {name: getattr(settings, name) for name in ("realism", "upvote", "relevance")}
    identities = {name: serving.fingerprint(folder) for name, folder in folders.items() if folder}
    return {"settings": settings.model_dump(mode="json"), "models": identities}


def main(
    source: Annotated[Path, typer.Option("--in", help="any CSV with comment and reply")],
    out: Annotated[Path, typer.Option(help="the CSV to write")],
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None,
) -> None:
    """Score replies: realism, upvote and relevance, each a probability in [0, 1]."""
    settings = config.load(config_file).rank
    columns, rows = schema.read_table(source, ("comment", "reply"))
    made_from = {"input": files.sha256_of(source), **made_with(settings)}
    scores = score_in_parts([(row["comment"], row["reply"]) for row in rows], settings, out, made_from)
    added = (*score.SCORES, "rank_score")
    result = ({**row, **four} for row, four in zip(rows, scores, strict=True))
    kept = [column for column in columns if column not in added]
    count = schema.write_table(out, [*kept, *added], result, made_from)
    part_of(out).unlink()
    print(f"{count:,} rows scored in {out}")
