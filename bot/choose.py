"""choose: at most one reply a submission, or none.

Reads  RUN/scored.csv.
Writes RUN/scored.csv again, each row with its verdict (chosen, kept or refused) and reason, and RUN/chosen.csv.

    python -m bot.choose --run data/runs/X

The rule is the original bot's two steps: drop what the realism ranker gives less than choose.minimum_realism, then take the best
rank_score of what is left; of several comments in one submission the best one is answered. Nothing passes: nothing is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from bot import config, run_command, schema
from bot.schema import Scored


def choose(rows: Sequence[Scored], minimum_realism: float) -> list[Scored]:
    """The rows, in order, each with verdict and reason; what they said before is forgotten.

    refused: empty, low_realism. kept: another candidate of the comment is better (not_best), or another comment of the submission is
    answered (other_comment_in_submission). Ties go to the smaller candidate_id, so that the order of rows doesn't matter; no rank_score
    comes last.
    """
    refusals = [refusal(row, minimum_realism) for row in rows]
    order = sorted(
        (index for index, reason in enumerate(refusals) if not reason),
        key=lambda index: (rows[index].rank_score is None, -(rows[index].rank_score or 0.0), rows[index].candidate_id),
    )
    best_of_thread: dict[str, int] = {}
    best_of_comment: dict[str, int] = {}
    for index in order:
        best_of_thread.setdefault(rows[index].thread_id, index)
        best_of_comment.setdefault(rows[index].comment_id, index)
    result = []
    for index, (row, reason) in enumerate(zip(rows, refusals, strict=True)):
        verdict = "refused" if reason else "kept"
        if not reason:
            if best_of_thread[row.thread_id] == index:
                verdict = "chosen"
            elif best_of_comment[row.comment_id] == index:
                reason = "other_comment_in_submission"
            else:
                reason = "not_best"
        result.append(replace(row, verdict=verdict, reason=reason))
    return result


def refusal(row: Scored, minimum_realism: float) -> str:
    """Why a candidate may not be chosen; empty if it may."""
    if not row.reply.strip():
        return "empty"
    if row.realism_score is not None and row.realism_score < minimum_realism:
        return "low_realism"
    return ""


def main(
    run: Annotated[Path, typer.Option(help="run folder: reads and completes scored.csv, writes chosen.csv")],
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None,
) -> None:
    """Choose the reply to post, at most one a submission, or none."""
    settings = config.load(config_file).choose
    scored = run / "scored.csv"
    rows = choose(schema.read_rows(scored, Scored), settings.minimum_realism)
    # scored.csv stays `rank`'s work: what it was made from is passed on, so that a second run knows it is current
    schema.write_rows(scored, Scored, rows, (schema.read_manifest(scored) or {"made_from": {}})["made_from"])
    made_from = {"scored": schema.sha256_of(scored), "settings": settings.model_dump(mode="json")}
    count = schema.write_rows(run / "chosen.csv", Scored, (row for row in rows if row.verdict == "chosen"), made_from)
    print(f"{count} of {len({row.comment_id for row in rows})} comments get a reply")


if __name__ == "__main__":
    run_command(main, "python -m bot.choose")
