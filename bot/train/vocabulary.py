"""The vocabulary of a model on word vectors: the most frequent words of the training texts, as far as there are vectors for them. Pure.

words = by_frequency(tokenized)                     ["the", ",", …]
size = elbow([word in known for word in words])     how many of them to use
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np


def by_frequency(texts: Iterable[Sequence[str]]) -> list[tuple[str, int]]:
    """The words with their counts, most frequent first, equally frequent ones in alphabetical order.

    >>> by_frequency([["b", "a"], ["c", "b"]])
    [('b', 2), ('a', 1), ('c', 1)]
    """
    counts = Counter(word for text in texts for word in text)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def elbow(known: Sequence[bool], least: int = 100) -> int:
    """The vocabulary size at which words without a vector begin to be more frequent among the next words than among all words.

    known: for each word, most frequent first, whether it has a vector. It is the point where the number of words without a vector so far is
    furthest below an even spread, the elbow of its curve (Satopaa et al. 2011, «Finding a "Kneedle" in a haystack»). All words if fewer
    than `least` of them have no vector, because the curve would be chance.

    >>> elbow([True] * 6 + [False, True, False, False], least=3), elbow([True, False])
    (6, 2)
    """
    unknown = np.cumsum(~np.asarray(known, bool))
    if not len(unknown) or unknown[-1] < least:
        return len(unknown)
    even = np.arange(1, len(unknown) + 1) * (unknown[-1] / len(unknown))
    return int(np.argmax(even - unknown)) + 1


def coverage(counts: Sequence[int], known: Sequence[bool], size: int) -> tuple[float, float]:
    """The shares of the first `size` words, and of all occurrences of words, that have a vector and are in the vocabulary.

    >>> coverage([5, 3, 2], [True, False, True], 2)
    (0.5, 0.5)
    """
    used = np.asarray(known, bool) & (np.arange(len(counts)) < size)
    return float(used.sum() / size), float(np.asarray(counts) @ used / sum(counts))
