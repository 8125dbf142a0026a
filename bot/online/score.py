"""score: what the rankers say of (comment, reply) pairs. The only code that runs rankers over rows.

Reads  any CSV with the columns comment and reply.
Writes OUT: the input's columns and the four scores, each a probability in [0, 1].

    python run_bot.py score --in pairs.csv --out scores.csv
    python run_bot.py score --in - --out - < pairs.csv > scores.csv

A score whose ranker is not set (rank.relevance = "") is an empty column. rank_score combines those that are there, see
rankers.score.rank_score. While it works, scores lie in `OUT.part` (those of PART_PAIRS pairs a line); a killed run resumes from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from bot import config, files, rankers, schema
from bot.cli import UserError, messages_beside, progress_bar
from bot.rankers import score
from bot.weights import serving

COLUMNS = (*score.SCORES, "rank_score")
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


@contextmanager
def scored_in_parts(
    pairs: Sequence[tuple[str, str]], settings: config.RankSettings, out: Path, made_from: Mapping[str, Any]
) -> Iterator[list[score.Scores]]:
    """Yields what score_pairs gives, for the caller to write to `out`. What an interrupted run left beside that isn't done again."""
    with files.part(out, made_from, _scores) as part:
        done = [row for rows in part.done for row in rows]
        if done:
            print(f"going on after {len(done):,} of {len(pairs):,} pairs")
        scorers = load_rankers(settings)
        with progress_bar() as progress:
            task = progress.add_task("pairs", total=len(pairs), completed=len(done))
            for start in range(len(done), len(pairs), PART_PAIRS):
                scores = score.score_pairs(pairs[start : start + PART_PAIRS], scorers, settings.batch_size, settings.weights)
                part.add(scores)
                done += scores
                progress.update(task, completed=len(done))
        yield done


def _scores(piece: list[dict[str, float | None]]) -> list[score.Scores]:
    """Scores as `scored_in_parts` keeps them. Raises TypeError or KeyError for anything else."""
    return [{column: row[column] for column in COLUMNS} for row in piece]


def made_with(settings: config.RankSettings) -> dict[str, Any]:
    """For a manifest: the settings, and what identifies the rankers."""
    folders = {name: getattr(settings, name) for name in ("realism", "upvote", "relevance")}
    identities = {name: serving.fingerprint(folder) for name, folder in folders.items() if folder}
    return {"settings": settings.model_dump(mode="json"), "models": identities}


def score_file(source: Path, out: Path, settings: config.RankSettings, overwrite: bool = False) -> int:
    """Write `out`, the rows of `source` with their scores; returns their number.

    Raises:
        UserError: `out` may not be written, a column is missing, or there is no ranker.
    """
    files.check_output(out, [source], overwrite)
    columns, rows = schema.read_table(source, ("comment", "reply"))
    made_from = {"input": files.sha256_of(source), **made_with(settings)}
    kept = [column for column in columns if column not in COLUMNS]
    with scored_in_parts([(row["comment"], row["reply"]) for row in rows], settings, out, made_from) as scores:
        result = ({**row, **four} for row, four in zip(rows, scores, strict=True))
        return schema.write_table(out, [*kept, *COLUMNS], result, made_from)


def main(
    source: Annotated[Path, typer.Option("--in", help="any CSV with comment and reply; - for standard input")],
    out: Annotated[Path, typer.Option(help="the CSV to write; - for standard output")],
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None,
    overwrite: files.Overwrite = False,
) -> None:
    """Score replies: realism, upvote and relevance, each a probability in [0, 1]."""
    settings = config.load(config_file).rank
    with messages_beside(out):
        count = score_file(source, out, settings, overwrite)
        print(f"{count:,} rows scored in {schema.named(out)}")
