"""Rankers: one module per back end, each with `load(path, precision) -> Ranker`. To add one, add a module and a line in BACK_ENDS.

A back end is imported only by the worker that uses it, so TensorFlow and PyTorch never share a process.
"""

from __future__ import annotations

import bisect
import importlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from bot.cli import WrongSettings
from bot.config import Precision
from bot.weights import bases, cards


class BackEnd(NamedTuple):
    module: str  # has `load(path, precision) -> Ranker`
    exported: bool = False  # runs a serving folder written by `models export`, see weights/serving.py
    encoders: tuple[str, ...] = ()  # model types of encoders that it runs; empty: all
    reads_bases: bool = False  # has `load_base(name) -> Encoder` for an untuned base encoder


# The first entry is the default.
BACK_ENDS = {
    "ctranslate2": BackEnd("bot.rankers.ctranslate2", exported=True, encoders=("bert",)),
    "transformers": BackEnd("bot.rankers.transformers", reads_bases=True),
    "tfhub-bert": BackEnd("bot.rankers.tfhub_bert"),
    "glove-bilstm": BackEnd("bot.rankers.glove_bilstm"),
}
KARMA_CLASSES = {2: (2,), 4: (1, 2, 5)}  # minimum karma of each class except the lowest, by number of classes
MAX_COMMENT_TOKENS, MAX_REPLY_TOKENS = 64, 80
CACHED_TEXTS = 50_000  # about 80 MB for a width of 384
MAX_TOKENS = MAX_COMMENT_TOKENS + MAX_REPLY_TOKENS + 3  # of a pair, including three control tokens
MIN_TOKENS = 32  # that an encoder must take; fewer leave no room for both texts

Encoded = tuple[list[int], list[int]]  # token ids, segment ids


class Ranker(Protocol):
    def score(self, pairs: Sequence[tuple[str, str]], batch_size: int = 32) -> list[float]:
        """A probability in [0, 1] for each (comment, reply), in the same order. The score of a pair does not depend on the other pairs."""
        ...


class Encoder(Protocol):
    def encode(self, texts: list[str], batch_size: int = 32) -> np.ndarray[Any, Any]:
        """A vector of length 1 for each text, (texts, width)."""
        ...

    def cosines(self, pairs: Sequence[tuple[str, str]], batch_size: int = 32) -> np.ndarray[Any, Any]:
        """The cosine of comment and reply for each pair, in [-1, 1], (pairs,)."""
        ...


class Vectors:
    """Vectors of length 1 for texts. Recent vectors are cached, because many pairs have a comment or a reply in common."""

    def __init__(self, encode: Callable[[list[str], int], np.ndarray[Any, Any]]):
        """encode: (texts, batch size) -> (texts, width)."""
        self.encode = encode
        self.cache: dict[str, np.ndarray[Any, Any]] = {}

    def cosines(self, pairs: Sequence[tuple[str, str]], batch_size: int) -> np.ndarray[Any, Any]:
        """See Encoder."""
        if len(self.cache) > CACHED_TEXTS:
            self.cache = {}
        if new := [*dict.fromkeys(body for pair in pairs for body in pair if body not in self.cache)]:
            self.cache |= zip(new, self.encode(new, batch_size), strict=True)
        return np.array([self.cache[comment] @ self.cache[reply] for comment, reply in pairs], np.float64)


def karma_class(karma: int, classes: int) -> int:
    """The class of a reply's karma. With 4 classes, as in the original bot: below 1, 1, 2 to 4, at least 5. With 2: below 2, at least 2.

    Replies start with karma 1, so at least 2 means that somebody upvoted it.

    >>> [karma_class(karma, 4) for karma in (0, 1, 2, 4, 5)], [karma_class(karma, 2) for karma in (1, 2)]
    ([0, 1, 2, 2, 3], [0, 1])
    """
    return bisect.bisect_right(KARMA_CLASSES[classes], karma)


def join_pair(comment: list[int], reply: list[int], start: int, separator: int, longest: int = MAX_TOKENS) -> Encoded:
    """`[CLS] comment [SEP] reply [SEP]` as BERT's two segments. The comment is truncated to 64 tokens and the reply to 80.

    longest: the number of tokens that the encoder takes. If it is below MAX_TOKENS, both texts are truncated in the same proportion.

    >>> join_pair([7, 8], [9], start=101, separator=102)
    ([101, 7, 8, 102, 9, 102], [0, 0, 0, 0, 1, 1])
    >>> join_pair([7] * 99, [9] * 99, start=101, separator=102, longest=12)[0]
    [101, 7, 7, 7, 7, 102, 9, 9, 9, 9, 9, 102]
    """
    texts = min(longest, MAX_TOKENS) - 3
    of_comment = texts * MAX_COMMENT_TOKENS // (MAX_COMMENT_TOKENS + MAX_REPLY_TOKENS)
    first, second = comment[:of_comment], reply[: texts - of_comment]
    return [start, *first, separator, *second, separator], [0] * (len(first) + 2) + [1] * (len(second) + 1)


def batches_of_like_length(encoded: Sequence[Encoded], batch_size: int) -> Iterator[list[int]]:
    """Yield batches of row numbers, sorted by length, so that there is little padding."""
    order = sorted(range(len(encoded)), key=lambda row: len(encoded[row][0]))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def back_end(name: str) -> BackEnd:
    """The entry for rank.backend. name: empty for the default. Raises WrongSettings if it is unknown."""
    return BACK_ENDS[back_end_name(name)]


def back_end_name(name: str) -> str:
    """The name of a back end. name: rank.backend, empty for the default. Raises WrongSettings if it is unknown."""
    if name and name not in BACK_ENDS:
        raise WrongSettings(f"rank.backend is unknown; choose one of {', '.join(BACK_ENDS)}")
    return name or next(iter(BACK_ENDS))


def back_end_for(card: cards.ModelCard, name: str) -> str:
    """The name of the back end for a ranker: the one it was trained for according to its card, otherwise `name` (see back_end_name), or, if
    that cannot run its encoder, the one that runs any encoder.
    """
    own = card.settings.get("backend")
    if own in BACK_ENDS:
        return str(own)
    chosen, model_type = back_end_name(name), bases.model_type(card.base)
    if model_type and BACK_ENDS[chosen].encoders and model_type not in BACK_ENDS[chosen].encoders:
        return next(name for name, each in BACK_ENDS.items() if each.reads_bases)
    return chosen


def load(name: str, path: Path, precision: Precision = "int8") -> Ranker:
    """Load the ranker in `path`. precision: of the export, for back ends that use one.

    Raises UserError if the back end is unknown or there is no model.
    """
    ranker: Ranker = importlib.import_module(back_end(name).module).load(path, precision)
    return ranker


def load_base(name: str) -> Encoder:
    """Load an untuned base encoder. Raises UserError if it is not installed."""
    module = next(each.module for each in BACK_ENDS.values() if each.reads_bases)
    encoder: Encoder = importlib.import_module(module).load_base(name)
    return encoder
