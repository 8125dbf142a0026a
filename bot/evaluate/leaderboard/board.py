"""The state of a leaderboard, and what both building and filling it need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bot import config
from bot.cli import UserError
from bot.evaluate import measures
from bot.evaluate.leaderboard import generators, models, rankers, sample
from bot.evaluate.leaderboard.generators import Answers
from bot.evaluate.leaderboard.models import Generator, Models
from bot.evaluate.leaderboard.sample import Asked
from bot.rankers.score_files import Scores
from bot.schema import LmRow
from bot.weights import serving

FILE = Path("leaderboard.toml")
LIKELIHOODS = "people"  # the name of the set of pairs


@dataclass
class Board:
    """State of one leaderboard: its rows by model and column, and what is missing."""

    data: Path
    out: Path
    models: Models
    asked: list[Asked]
    generators: dict[str, dict[str, Any]] = field(default_factory=dict)
    rankers: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: dict[str, Answers] = field(default_factory=dict)  # by generator or baseline
    missing: list[str] = field(default_factory=list)

    @contextmanager
    def skipping(self, what: str) -> Iterator[None]:
        """Record a part as missing if the block cannot measure it."""
        try:
            yield
        except UserError as error:
            self.missing.append(f"{what}: {error}")
            print(f"missing: {self.missing[-1]}", flush=True)

    def scores(self, name: str, create: bool = False) -> Scores:
        """The score files of one model."""
        return Scores(self.out / "scores" / name, config.load(None), create)

    @property
    def comments(self) -> list[Path]:
        """The files with the comments that are answered: those that are measured, and those of the page of samples."""
        return [self.out / "comments.csv", self.out / "samples.csv"]

    def candidates(self, name: str) -> Path:
        """The file with the candidates of a generator or baseline."""
        own = self.models.generators.get(name)
        return own.candidates if own and own.candidates else self.out / "candidates" / f"{name}.csv"

    def read_answers(self, name: str, entry: Generator | None = None) -> Answers:
        """Read the candidates of a generator or baseline, and keep them in `answers`.

        Raises UserError if a comment has none, or if those that `fill` wrote are of another version of the model, or of other settings.
        """
        path = self.candidates(name)
        answers = generators.read_answers(path)
        if entry and entry.settings and not entry.candidates:
            made_from = {"settings": {}, **answers.manifest.get("made_from", {})}
            wanted = entry.settings.model_dump(mode="json", exclude={"model"})
            if made_from.get("model") != serving.fingerprint(entry.settings.model) or not wanted.items() <= made_from["settings"].items():
                raise UserError(f"{path}: written by another version of the model or with other settings; run `leaderboard fill`")
        answers.of(self.asked)
        self.answers[name] = answers
        return answers


def read_board(data: Path, out: Path, path: Path) -> Board:
    """A board without measurements. Raises UserError if leaderboard.toml or DATA/lm_test.csv is missing or invalid."""
    return Board(data, out, models.read(path), sample.draw(measures.read(data / "lm_test.csv", LmRow), sample.COMMENTS))


def bits(board: Board, name: str, entry: Generator, create: bool = False) -> Any:
    """Bits per character of people's replies. create: score them if the score file is not current. Raises UserError."""
    assert entry.settings
    pairs, threads = sample.likelihood_pairs(board.asked)
    if not pairs:
        raise measures.TooFew(f"no reply of at most {sample.MEASURED_REPLY} characters")
    scores = board.scores(name, create)
    own = Scores(scores.folder, scores.settings.model_copy(update={"generate": entry.settings}), create)
    nats = own.whole_likelihoods(pairs, LIKELIHOODS)
    return None if create else generators.bits_per_character(nats, [reply for _, reply in pairs], threads)


def make_tasks(board: Board) -> dict[str, rankers.Task]:
    """kind -> task, of those that have data."""
    trained = {name: board.answers[name] for name in board.models.generators if name in board.answers}
    inputs = rankers.Inputs(board.data, board.asked, trained)
    tasks: dict[str, rankers.Task] = {}
    for kind, task in rankers.TASKS.items():
        with board.skipping(f"rankers, {kind}"):
            tasks[kind] = task(inputs)
    return tasks
