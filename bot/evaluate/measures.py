"""Shared by realism.py, upvote.py and relevance.py: scored test rows, and the training rows of a ranker.

Each of these modules scores rows of the test split with a ranker (from its score file) and with baselines, and measures all of them.
Splits are by thread, and 95 % intervals come from a bootstrap over threads. A trained baseline is fitted on the ranker's training rows.
The result is {subset: {counts, scorer: {measure: (value, low, high), confusion: counts}}}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot import schema, text
from bot.cli import UserError
from bot.metrics import Array
from bot.schema import sample_rows
from bot.weights import cards

MIN_SCORED = 20  # pairs that a scorer must have scored to be reported; fewer are not informative
# Scorers that return the probability of label 1. The others only order rows.
PROBABILITIES = ("ranker", "tfidf", "always_real")


@dataclass
class ScoredRows:
    """Test rows and the scores of each scorer: (rows,), or for siblings (rows, 2): chosen, rejected. NaN for rows that have no score."""

    rows: list[Any]
    scores: dict[str, Array]
    seen: frozenset[str] = frozenset()  # generators in the training rows

    @property
    def threads(self) -> list[str]:
        return [row.thread_id for row in self.rows]


def counts(rows: Sequence[Any], name: str) -> dict[str, Any]:
    return {name: len(rows), "threads": len({row.thread_id for row in rows})}


def scorers_of(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The measures of each scorer in a part of metrics.json, without the part's counts."""
    return {name: values for name, values in content.items() if isinstance(values, dict)}


class TooFew(UserError):
    """There are too few rows to measure a part. `evaluate` skips the part, `evaluate --model` ends."""


@contextmanager
def naming(paths: Path) -> Iterator[None]:
    """Name the files with the rows in a TooFew that is raised in the block. paths: may have a `*`."""
    try:
        yield
    except TooFew as error:
        raise TooFew(f"{paths}: {error}; prepare more data") from None


def read(path: Path, row_type: type[schema.Row]) -> list[schema.Row]:
    """The rows of a file. Raises UserError if there is no such file, TooFew if there are no rows in it."""
    rows = schema.read_rows(path, row_type)
    if not rows:
        raise TooFew(f"{path}: no rows; prepare more data")
    return rows


def rankers_half(rows: Iterable[Any], keep: Callable[[Any], bool] = lambda _: True) -> list[Any]:
    """The training rows in the rankers' half for which `keep` is true."""
    return [row for row in rows if text.half_for(row.thread_id) == "rankers" and keep(row)]


def sample_like_training(rows: list[Any], card: cards.ModelCard) -> list[Any]:
    """A sample of the rows, with the size and seed that the ranker with this card was trained with."""
    return sample_rows(rows, card.settings.get("rows", len(rows)), card.settings.get("seed", 0))


def main_subsets(measured: Mapping[str, Any]) -> Iterable[str]:
    """The subsets shown in tables: all but the bins of the karma-gap curve."""
    return (name for name in measured if not (name.startswith("gap_") and ("-" in name or "+" in name)))
