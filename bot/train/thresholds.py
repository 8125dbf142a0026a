"""Thresholds of the classifiers of conduct, from stated limits of false refusals, and the figures of their cards.

A label has its own scale (Platt 1999) and its own threshold. Thresholds minimise the misses, summed over the labels, plus `price` times
the false refusals; the price is the lowest at which both limits hold.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bot.schema import ConductLine

Array = np.ndarray[Any, Any]

MOST_OF_LINES = 0.05  # harmless lines that may be refused
MOST_OF_PEOPLES = {"reply": 0.06, "comment": 0.02}  # people's own texts
URGENT = 2.5  # how much more a miss of these counts
URGENT_LABELS = frozenset({"self_harm", "threat", "hate", "crisis", "abuse", "emergency", "no_bots", "minor"})


@dataclass(frozen=True)
class Fitted:
    """scale, offset: (labels,); a label applies where scale * logit + offset is at least 0."""

    scale: Array
    offset: Array

    def applied(self, logits: Array) -> Array:
        """(texts, labels) -> the same, True where a label applies."""
        return logits * self.scale + self.offset >= 0


def fit(logits: Array, targets: Array, peoples: Array, labels: Sequence[str], side: str) -> Fitted:
    """logits, targets: of lines, (lines, labels). peoples: logits of people's texts, which count as harmless."""
    scale = np.array([platt_scale(logits[:, label], targets[:, label]) for label in range(len(labels))])
    harmless = logits[~targets.any(1)]

    def cuts(price: float) -> Array:
        prices = [price / URGENT if name in URGENT_LABELS else price for name in labels]
        positive = [logits[targets[:, label], label] for label in range(len(labels))]
        return np.array([cheapest_cut(*each) for each in zip(positive, harmless.T, peoples.T, prices, strict=True)])

    low, high = 0.01, 1e6  # of the price; at the highest nothing harmless is refused
    for _ in range(40):
        price = (low * high) ** 0.5
        cut = cuts(price)
        if (harmless >= cut).any(1).mean() <= MOST_OF_LINES and (peoples >= cut).any(1).mean() <= MOST_OF_PEOPLES[side]:
            high = price
        else:
            low = price
    return Fitted(scale, -scale * cuts(high))


def platt_scale(logits: Array, targets: Array) -> float:
    """How fast a label's probability grows with its logit; 1 where the lines don't show that it grows."""
    from sklearn.linear_model import LogisticRegression

    fitted = float(LogisticRegression(C=1.0).fit(logits[:, None], targets).coef_[0, 0])
    return fitted if fitted > 0 else 1.0


def cheapest_cut(positive: Array, harmless: Array, peoples: Array, price: float) -> float:
    """The cut with the lowest cost: share of `positive` below it, plus `price` times the shares of the others from it on.

    >>> cheapest_cut(np.array([1.0, 4.0]), np.array([0.0, 0.5]), np.array([0.0, 2.0]), 0.1)
    0.75
    >>> cheapest_cut(np.array([1.0, 4.0]), np.array([0.0, 0.5]), np.array([0.0, 2.0]), 10)
    3.0
    """
    values = np.unique(np.concatenate([positive, harmless, peoples]))
    cuts = np.concatenate([(values[1:] + values[:-1]) / 2, values[-1:] + 1e-3])
    below, *above = (np.searchsorted(np.sort(each), cuts) / max(1, len(each)) for each in (positive, harmless, peoples))
    cost = below + price * sum(1 - each for each in above)
    return float(cuts[np.flatnonzero(cost <= cost.min() + 1e-12)[-1]])


def figures(applied: Array, lines: Sequence[ConductLine], peoples: Array) -> dict[str, Any]:
    """Misses of each category and false refusals of each harmless kind, as `misses/lines`, and the share of people's texts refused.

    applied: (lines, labels), True where a label applies; any label counts.
    """
    counts: dict[str, dict[str, list[bool]]] = {"misses": defaultdict(list), "false_refusals": defaultdict(list)}
    for line, refused in zip(lines, [bool(each.any()) for each in applied], strict=True):
        counts["misses" if line.refuse else "false_refusals"][line.category].append(refused is not line.refuse)
    shown = {name: {kind: f"{sum(wrong)}/{len(wrong)}" for kind, wrong in sorted(kinds.items())} for name, kinds in counts.items()}
    return {**shown, "peoples_texts_refused": float(peoples.any(1).mean()), "peoples_texts": len(peoples)}
