"""TODO: bot.online.score"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bot import config, files, rankers
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
