"""Metrics for rankers and for the replies they choose, with confidence intervals. Pure functions."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

BOOTSTRAP_RESAMPLES = 1000


def wins(one: ArrayLike, other: ArrayLike) -> np.ndarray[Any, Any]:
    """1 where `one` is higher, 0.5 where they are equal, 0 otherwise.

    >>> wins([.9, .2, .5], [.4, .3, .5]).tolist()
    [1.0, 0.0, 0.5]
    """
    one, other = np.asarray(one, float), np.asarray(other, float)
    return (one > other) + 0.5 * (one == other)


def pairwise_accuracy(chosen: ArrayLike, rejected: ArrayLike) -> float:
    """Share of pairs in which the chosen reply has the higher score. Ties count half.

    >>> pairwise_accuracy([.9, .2], [.4, .3])
    0.5
    """
    return float(np.mean(wins(chosen, rejected)))


def perplexity(nats: float) -> float:
    """The exponential of a mean loss per token; at most e^700, because a larger one would overflow.

    >>> perplexity(0.0), perplexity(900.0) > 1e300
    (1.0, True)
    """
    return math.exp(min(nats, 700.0))


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: the probability that a row with label 1 scores higher than one with label 0. Ties count half.

    NaN if there is only one class.

    >>> roc_auc([1, 0, 1, 0], [.9, .8, .7, .1])
    0.75
    """
    labels, scores = np.asarray(labels, bool), np.asarray(scores, float)
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # mean rank of tied scores, from 1
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def precision_recall(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Precision and recall of label 1 with each score as the threshold, from the highest score down.

    >>> [each.tolist() for each in precision_recall([1, 0, 1, 0], [.9, .8, .8, .1])]
    [[1.0, 0.6666666666666666, 0.5], [0.5, 1.0, 1.0]]
    """
    labels, scores = np.asarray(labels, bool), np.asarray(scores, float)
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    true = np.cumsum(labels[order])[last_of_tie]
    return true / (last_of_tie + 1), true / max(1, int(labels.sum()))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the precision-recall curve of label 1, as a step function. Random scores give the share of label 1.

    NaN if there are no rows with label 1.

    >>> round(average_precision([1, 0, 1, 0], [.9, .8, .7, .1]), 3)
    0.833
    """
    if not np.any(np.asarray(labels, bool)):
        return float("nan")
    precision, recall = precision_recall(labels, scores)
    return float(np.sum(precision * np.diff(recall, prepend=0.0)))


def balanced_accuracy(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Mean recall of the two classes. Always predicting the same class gives 0.5.

    >>> balanced_accuracy([1, 1, 1, 0], [1, 1, 1, 1])
    0.5
    """
    labels, predicted = np.asarray(labels, bool), np.asarray(predicted, bool)
    return float((predicted[labels].mean() + (~predicted[~labels]).mean()) / 2)


def confusion_matrix(labels: ArrayLike, predicted: ArrayLike, classes: int = 2) -> np.ndarray[Any, Any]:
    """Counts by true class (rows) and predicted class (columns), shape (classes, classes).

    >>> confusion_matrix([0, 1, 1, 1], [0, 0, 1, 1]).tolist()
    [[1, 0], [1, 2]]
    """
    pairs = np.asarray(labels, int) * classes + np.asarray(predicted, int)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def precision_recall_f1(confusion: ArrayLike) -> np.ndarray[Any, Any]:
    """Precision, recall and F1 of each class, shape (3, classes). [:, 1] selects class 1, .mean(axis=1) gives the macro averages.

    Precision is 0 for a class that is never predicted, recall is 0 for a class that never occurs, and F1 is 0 if both are 0.

    >>> precision_recall_f1([[1, 0], [1, 2]]).round(3).tolist()
    [[0.5, 1.0], [1.0, 0.667], [0.667, 0.8]]
    """
    counts = np.asarray(confusion, float)
    right = np.diagonal(counts)
    precision, recall = right / np.maximum(counts.sum(axis=0), 1), right / np.maximum(counts.sum(axis=1), 1)
    return np.stack([precision, recall, 2 * right / np.maximum(counts.sum(axis=0) + counts.sum(axis=1), 1)])


def roc_auc_of_cuts(labels: ArrayLike, scores: ArrayLike, classes: int) -> float:
    """ROC-AUC for ordered classes 0, 1, …: the mean of `roc_auc` over all cuts between adjacent classes.

    For two classes it equals `roc_auc`. NaN if one side of a cut has no rows.

    >>> roc_auc_of_cuts([0, 1, 2], [.1, .2, .3], 3), roc_auc_of_cuts([0, 1, 2], [.1, .3, .2], 3)
    (1.0, 0.75)
    """
    return float(np.mean([roc_auc(np.asarray(labels, int) >= cut, scores) for cut in range(1, classes)]))


def hits_at_k(scores: ArrayLike, k: int) -> float:
    """Share of rows whose first column (the correct reply) is among the k highest. scores: (rows, replies). Ties count as misses.

    >>> hits_at_k([[.9, .1, .2], [.3, .8, .1]], k=1)
    0.5
    """
    scores = np.asarray(scores, float)
    return float(np.mean((scores[:, 1:] >= scores[:, :1]).sum(axis=1) < k))


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Share of distinct word n-grams among all n-grams (Li et al. 2016, arXiv:1510.03055); 0 if there are none.

    >>> distinct_n(["a b a b"], 2)
    0.6666666666666666
    """
    grams = [tuple(words[i : i + n]) for words in map(str.split, texts) for i in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def repeats_ngram(comment: str, reply: str, n: int = 3) -> bool:
    """True if the reply contains n consecutive words of the comment, in any case and punctuation.

    >>> repeats_ngram("They concede the Arizona race.", "the arizona race, again"), repeats_ngram("the race", "the race")
    (True, False)
    """
    one, other = (re.findall(r"[^\W_]+(?:['’][^\W_]+)*", body.casefold()) for body in (comment, reply))
    grams = [{tuple(words[i : i + n]) for i in range(len(words) - n + 1)} for words in (one, other)]
    return not grams[0].isdisjoint(grams[1])


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> float:
    """Mean gap between predicted probability and observed share over equal-width bins, weighted by row count (Guo et al. 2017).

    >>> round(expected_calibration_error([1, 1, 0, 0], [.95, .95, .95, .05]), 3)
    0.225
    """
    labels, probabilities = np.asarray(labels, float), np.asarray(probabilities, float)
    bin_of = np.minimum((probabilities * bins).astype(int), bins - 1)
    total = 0.0
    for each in np.unique(bin_of):
        inside = bin_of == each
        total += inside.sum() * abs(labels[inside].mean() - probabilities[inside].mean())
    return float(total / len(labels))


def bootstrap_interval(
    measure: Callable[[np.ndarray], float], groups: Sequence[Hashable], resamples: int = BOOTSTRAP_RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """95 % bootstrap interval of measure(row indices), resampling whole groups (threads) with replacement.

    Rows of one thread are correlated, so resampling single rows would make the interval too narrow.

    >>> bootstrap_interval(lambda rows: float(len(rows) > 0), ["a", "a", "b"], resamples=10)
    (1.0, 1.0)
    """
    return bootstrap_intervals(lambda rows: [measure(rows)], groups, resamples, seed)[0]


def bootstrap_intervals(
    measures: Callable[[np.ndarray], Sequence[float]], groups: Sequence[Hashable], resamples: int = BOOTSTRAP_RESAMPLES, seed: int = 0
) -> list[tuple[float, float]]:
    """`bootstrap_interval` of several measures on the same resamples. Resamples for which a measure is NaN are ignored for that measure."""
    member = _numbered(groups)
    rows_of = np.split(np.argsort(member, kind="stable"), np.cumsum(np.bincount(member))[:-1])
    rng = np.random.default_rng(seed)
    results = []
    for _ in range(resamples):
        drawn = rng.integers(0, len(rows_of), len(rows_of))
        results.append(measures(np.concatenate([rows_of[group] for group in drawn])))
    values = np.array(results, float)  # (resamples, measures)
    return [tuple(np.nanpercentile(each, [2.5, 97.5]).tolist()) if np.isfinite(each).any() else (np.nan, np.nan) for each in values.T]


def bootstrap_mean(
    values: ArrayLike, groups: Sequence[Hashable], resamples: int = BOOTSTRAP_RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """`bootstrap_interval` of the mean of values, one per row. Same result, a hundred times faster.

    >>> bootstrap_mean([1, 1, 1], ["a", "a", "b"])
    (1.0, 1.0)
    """
    member = _numbered(groups)
    sums, counts = np.bincount(member, np.asarray(values, float)), np.bincount(member)
    drawn = np.random.default_rng(seed).integers(0, len(sums), (resamples, len(sums)))
    low, high = np.percentile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [2.5, 97.5])
    return float(low), float(high)


def _numbered(groups: Sequence[Hashable]) -> np.ndarray[Any, Any]:
    """Replace each group by a number, in order of first appearance."""
    order = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    return np.array([order[group] for group in groups])


Array = np.ndarray[Any, Any]
Interval = tuple[float, float, float]  # value, low, high


def wilson_interval(successes: float, trials: int, z: float = 1.959964) -> Interval:
    """A share and its 95 % score interval (Wilson 1927, JASA 22:209-212; method 3 of Newcombe 1998, Statistics in Medicine 17:857-872).

    Unlike the share plus or minus two standard errors it is never outside [0, 1], and is usable for few trials and shares near 0 or 1.
    trials: at least 1.

    >>> [round(each, 4) for each in wilson_interval(15, 148)], wilson_interval(0, 20)[:2]
    ([0.1014, 0.0624, 0.1605], (0.0, 0.0))
    """
    share, extra = successes / trials, z * z / trials
    middle = (share + extra / 2) / (1 + extra)
    half = math.sqrt(extra * (share * (1 - share) + extra / 4)) / (1 + extra)
    return share, max(0.0, middle - half), min(1.0, middle + half)


def mean_with_interval(values: Array, threads: Sequence[str], lowest: float = 0.0) -> Interval:
    """The mean of the values with its interval, which is the full range if there is only one thread. values: between `lowest` and 1.

    >>> mean_with_interval(np.array([1.0, 0.0]), ["a", "a"])
    (0.5, 0.0, 1.0)
    """
    low, high = bootstrap_mean(values, threads) if len(set(threads)) > 1 else (lowest, 1.0)
    return round(float(np.mean(values)), 4), round(low, 4), round(high, 4)


def with_intervals(measure: Callable[[Array], Mapping[str, float]], threads: Sequence[str]) -> dict[str, Interval]:
    """The results of `measure` with their intervals, rounded to four digits. Undefined results are omitted.

    measure: maps row indices to named numbers in [0, 1].

    >>> with_intervals(lambda rows: {"rows": len(rows) / 2, "undefined": float("nan")}, ["a", "b"])
    {'rows': (1.0, 1.0, 1.0)}
    """
    whole = measure(np.arange(len(threads)))
    one_thread = len(set(threads)) == 1
    bounds = [(0.0, 1.0)] * len(whole) if one_thread else bootstrap_intervals(lambda rows: [*measure(rows).values()], threads)
    return {
        name: (round(value, 4), round(low, 4), round(high, 4))
        for (name, value), (low, high) in zip(whole.items(), bounds, strict=True)
        if not np.isnan(value)
    }
