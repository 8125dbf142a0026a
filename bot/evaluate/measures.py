"""What realism.py, upvote.py and relevance.py share: test rows with what each scorer says of them, and what a ranker learnt from.

Each of them scores the rows of DATA's test split with a ranker (by its score file) and its baselines, and measures all. Splits are by
thread, and intervals (95 %) come from drawing whole threads again. A baseline that learns is given what the ranker was given to train on.
The result is {subset: {counts, scorer: {measure: (value, low, high), confusion: counts}}}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot import schema, text
from bot.cli import UserError
from bot.metrics import Array
from bot.schema import sample_rows
from bot.weights import cards

FEWEST_TOLD = 20  # pairs of a scorer that ran on some only; fewer would say nothing
# Scorers whose numbers are probabilities that label 1 is right; the others' only order rows.
PROBABILITIES = ("ranker", "tfidf", "always_real")


@dataclass
class ScoredRows:
    """Test rows and what each scorer says: (rows,), or of siblings (rows, 2), chosen and rejected. NaN where a scorer can't tell."""

    rows: list[Any]
    scores: dict[str, Array]
    seen: frozenset[str] = frozenset()  # generators in the training file

    @property
    def threads(self) -> list[str]:
        return [row.thread_id for row in self.rows]


def counts(rows: Sequence[Any], name: str) -> dict[str, Any]:
    return {name: len(rows), "threads": len({row.thread_id for row in rows})}


def read(path: Path, row_type: type[schema.Row]) -> list[schema.Row]:
    """Raises UserError: no such file, or no rows."""
    rows = schema.read_rows(path, row_type)
    if not rows:
        raise UserError(f"{path}: no rows; prepare more data")
    return rows


def learnt(rows: Iterable[Any], of: Callable[[Any], bool] = lambda _: True) -> list[Any]:
    """Training rows of the rankers' half that are `of` a kind."""
    return [row for row in rows if text.half_for(row.thread_id) == "rankers" and of(row)]


def drawn(rows: list[Any], card: cards.ModelCard) -> list[Any]:
    """As many of them as the ranker with this card learnt from, drawn as its trainer drew."""
    return sample_rows(rows, card.settings.get("rows", len(rows)), card.settings.get("seed", 0))


def main_subsets(measured: Mapping[str, Any]) -> Iterable[str]:
    """Those that stand in tables; the bins of the curve don't."""
    return (name for name in measured if not (name.startswith("gap_") and ("-" in name or "+" in name)))
