"""leaderboard fill: write the files that the leaderboard lacks. Models run in processes of their own, so no two share one.

Reads  leaderboard.toml, DATA/lm_test.csv, the prepared files of each kind of ranker, and the models.
Writes OUT/comments.csv and samples.csv; candidates/NAME.csv of each generator (by `generate`) and of retrieval; scores/NAME/ of each model
       (by `score`). Files that are current are kept, and a killed run resumes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from bot import files, schema
from bot.cli import UserError
from bot.evaluate.leaderboard import rankers, sample
from bot.evaluate.leaderboard.board import FILE, Board, bits, make_tasks, read_board
from bot.evaluate.leaderboard.models import Generator
from bot.rankers.score_files import start
from bot.weights import cards

COLUMNS = ["comment_id", "comment"]


def fill_command(
    data: Annotated[Path, typer.Option(help="folder of prepared files")] = Path("data/prepared"),
    out: Annotated[Path, typer.Option(help="folder for comments, candidates and score files")] = Path("data/leaderboard"),
    models_file: Annotated[Path, typer.Option("--models", help="TOML file that names the models")] = FILE,
    sources: Annotated[
        list[Path] | None, typer.Option("--samples", help="CSV with a column comment: half of the samples are drawn from it; repeatable")
    ] = None,
) -> None:
    """Run the models where a file of the leaderboard is missing: generate, score. Each in its own process; what fails is listed."""
    fill(read_board(data, out, models_file), sources or [])


def fill(board: Board, sources: Sequence[Path]) -> None:
    """sources: files with comments for the page of samples. Raises UserError if every part fails."""
    for path, rows in zip(
        board.comments, ([(each.comment_id, each.comment) for each in board.asked], sample.sample_comments(sources)), strict=True
    ):
        files.check_output(path, sources)
        schema.write_table(path, COLUMNS, [dict(zip(COLUMNS, row, strict=True)) for row in rows])
    asked = [part for path in board.comments for part in ("--in", str(path))]
    parts: dict[str, Callable[[], None]] = {}
    for name, entry in board.models.generators.items():
        if entry.settings and not entry.candidates:
            parts[f"{name}, candidates"] = lambda name=name, entry=entry: generate(board, name, entry, asked)  # type: ignore[misc]
        if entry.settings:
            parts[f"{name}, likelihoods"] = lambda name=name, entry=entry: bits(board, name, entry, create=True)  # type: ignore[misc]
    retrieve = ["leaderboard", "retrieve", "--data", str(board.data), *asked, "--out", str(board.candidates("retrieval"))]
    parts["retrieval"] = lambda: start(retrieve, {})
    failed = run_parts(board, parts)
    for name, entry in board.models.generators.items():
        with board.skipping(f"{name}, candidates"):
            board.read_answers(name, entry)
    tasks = make_tasks(board)
    scoring: dict[str, Callable[[], None]] = {
        f"{name}, scores": lambda name=name, folder=folder: score(board, name, folder, tasks)  # type: ignore[misc]
        for name, folder in board.models.rankers.items()
    }
    failed += run_parts(board, scoring)
    if failed == len(parts) + len(scoring):
        raise UserError("nothing could be run; see the lines above")


def run_parts(board: Board, parts: dict[str, Callable[[], None]]) -> int:
    """Run each part; returns the number of those that fail, which are printed as missing."""
    before = len(board.missing)
    for name, run in parts.items():
        print(f"- {name}", flush=True)
        with board.skipping(name):
            run()
    return len(board.missing) - before


def generate(board: Board, name: str, entry: Generator, asked: Sequence[str]) -> None:
    """Write the candidates of one generator. Raises UserError if `generate` fails."""
    assert entry.settings
    settings = entry.settings.model_dump(mode="json")
    settings["model"] = entry.settings.model.absolute()
    variables = {f"GENERATE__{key.upper()}": value for key, value in settings.items()}
    start(["generate", *asked, "--out", str(board.candidates(name)), "--seed", str(sample.SEED)], variables)


def score(board: Board, name: str, folder: Path, tasks: dict[str, rankers.Task]) -> None:
    """Write the score files of one ranker. Raises UserError if `score` fails."""
    kind = cards.read_card(folder).kind
    scorer = board.scores(name, create=True).of_model(folder)
    for each, pairs in tasks[kind].sets.items() if kind in tasks else ():
        scorer(pairs, each)
