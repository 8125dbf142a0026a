"""Rankers: one file a back end, each with `load(path) -> Ranker`. A new one is a new file here and a line in BACK_ENDS.

A back end is imported by the worker that was told to use it and by nothing else, so TensorFlow and PyTorch never share a process.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bot import UserError

BACK_ENDS = {
    "transformers": "bot.rankers.transformers",
}


class Ranker(Protocol):
    def score(self, pairs: Sequence[tuple[str, str]], batch_size: int = 32) -> list[float]:
        """A probability in [0, 1] for each (comment, reply), in the order given; a pair's score doesn't depend on the others."""
        ...


def load(backend: str, path: Path) -> Ranker:
    """Raises UserError for an unknown back end or a model that isn't there."""
    if backend not in BACK_ENDS:
        raise UserError(f"rank.backend {backend!r} is unknown; one of {', '.join(BACK_ENDS)}")
    ranker: Ranker = importlib.import_module(BACK_ENDS[backend]).load(path)
    return ranker
