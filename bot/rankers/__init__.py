"""Rankers: one file a back end, each with `load(path, precision) -> Ranker`. A new one is a new file here and a line in BACK_ENDS.

A back end is imported by the worker that was told to use it and by nothing else, so TensorFlow and PyTorch never share a process.
"""

from __future__ import annotations

import bisect
import importlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from bot.cli import UserError
from bot.config import Precision
from bot.weights import cards


class BackEnd(NamedTuple):
    module: str  # has `load(path, precision) -> Ranker`
    exported: bool = False  # runs the serving folder that `models export` makes of a model, see weights/serving.py
    reads_bases: bool = False  # has `load_base(name) -> Encoder`, of a base encoder as it was pulled


# The first is the default. A new one is a new file here and a line in this table.
BACK_ENDS = {
    "ctranslate2": BackEnd("bot.rankers.ctranslate2", exported=True),
    "transformers": BackEnd("bot.rankers.transformers", reads_bases=True),
    "tfhub-bert": BackEnd("bot.rankers.tfhub_bert"),
}
KARMA_CLASSES = {2: (2,), 4: (1, 2, 5)}  # least karma of each class but the lowest, by number of classes
MAX_COMMENT_TOKENS, MAX_REPLY_TOKENS = 45, 80
KEPT_TEXTS = 50_000  # some 80 MB at a width of 384
MAX_TOKENS = MAX_COMMENT_TOKENS + MAX_REPLY_TOKENS + 3  # of a pair, with its three control tokens

Encoded = tuple[list[int], list[int]]  # token ids, segment ids


class Ranker(Protocol):
    def score(self, pairs: Sequence[tuple[str, str]], batch_size: int = 32) -> list[float]:
        """A probability in [0, 1] for each (comment, reply), in the order given; a pair's score doesn't depend on the others."""
        ...


class Encoder(Protocol):
    def cosines(self, pairs: Sequence[tuple[str, str]], batch_size: int = 32) -> np.ndarray[Any, Any]:
        """Of comment and reply, in [-1, 1], (pairs,)."""
        ...


class Vectors:
    """Vectors of length 1 of texts. Those of the last texts are kept, since many pairs share a comment or a reply."""

    def __init__(self, encode: Callable[[list[str], int], np.ndarray[Any, Any]]):
        """encode: (texts, batch size) -> (texts, width)."""
        self.encode = encode
        self.kept: dict[str, np.ndarray[Any, Any]] = {}

    def cosines(self, pairs: Sequence[tuple[str, str]], batch_size: int) -> np.ndarray[Any, Any]:
        """See Encoder."""
        if len(self.kept) > KEPT_TEXTS:
            self.kept = {}
        if new := [*dict.fromkeys(body for pair in pairs for body in pair if body not in self.kept)]:
            self.kept |= zip(new, self.encode(new, batch_size), strict=True)
        return np.array([self.kept[comment] @ self.kept[reply] for comment, reply in pairs], np.float64)


def karma_class(karma: int, classes: int) -> int:
    """Of 4 classes, the original bot's: below 1, 1, 2 to 4, 5 and more. Of 2: whether somebody upvoted it (1 is what a reply starts with).

    >>> [karma_class(karma, 4) for karma in (0, 1, 2, 4, 5)], [karma_class(karma, 2) for karma in (1, 2)]
    ([0, 1, 2, 2, 3], [0, 1])
    """
    return bisect.bisect_right(KARMA_CLASSES[classes], karma)


def join_pair(comment: list[int], reply: list[int], start: int, separator: int) -> Encoded:
    """`[CLS] comment [SEP] reply [SEP]` as BERT's two segments. Ends are cut, the comment's beyond 45 tokens and the reply's beyond 80.

    >>> join_pair([7, 8], [9], start=101, separator=102)
    ([101, 7, 8, 102, 9, 102], [0, 0, 0, 0, 1, 1])
    """
    first, second = comment[:MAX_COMMENT_TOKENS], reply[:MAX_REPLY_TOKENS]
    return [start, *first, separator, *second, separator], [0] * (len(first) + 2) + [1] * (len(second) + 1)


def batches_of_like_length(encoded: Sequence[Encoded], batch_size: int) -> Iterator[list[int]]:
    """The rows' numbers by `batch_size`, the short pairs together and the long ones, so that little is padded."""
    order = sorted(range(len(encoded)), key=lambda row: len(encoded[row][0]))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def back_end(name: str) -> BackEnd:
    """name: rank.backend; empty for the default. Raises UserError for an unknown one."""
    return BACK_ENDS[chosen(name)]


def chosen(name: str) -> str:
    """The back end's name, that of the default for an empty one. Raises UserError for an unknown one."""
    if name and name not in BACK_ENDS:
        raise UserError(f"rank.backend is unknown; one of {', '.join(BACK_ENDS)}")
    return name or next(iter(BACK_ENDS))


def needed(card: cards.ModelCard, name: str) -> str:
    """The back end that runs the ranker with this card: the one it was trained for, else `name` (see chosen)."""
    own = card.settings.get("backend")
    return own if own in BACK_ENDS else chosen(name)


def load(name: str, path: Path, precision: Precision = "int8") -> Ranker:
    """The ranker in `path`. precision: of the export, for a back end that runs one.

    Raises UserError for an unknown back end or a model that isn't there.
    """
    ranker: Ranker = importlib.import_module(back_end(name).module).load(path, precision)
    return ranker


def load_base(name: str) -> Encoder:
    """The base encoder `name` as it was pulled. Raises UserError if it isn't there."""
    module = next(each.module for each in BACK_ENDS.values() if each.reads_bases)
    encoder: Encoder = importlib.import_module(module).load_base(name)
    return encoder
