"""How well a realism ranker tells people's replies from generated ones, of all generators together and of each.

Reads, by way of model.py, DATA/realism_{train,test}.csv. See measures.py for the shape of the results.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bot import metrics
from bot.evaluate import baselines
from bot.evaluate.measures import PROBABILITIES, ScoredRows, counts
from bot.metrics import Array, with_intervals
from bot.rankers.score_files import Scorer
from bot.schema import RealismRow, sample_rows

ROWS = 2500  # test rows scored at most, drawn at random


def score_rows(ranker: Scorer, untuned: Scorer | None, train: list[RealismRow], test: list[RealismRow]) -> ScoredRows:
    """train: rows that the ranker learnt from. untuned: the cosine under its base, None where that isn't there."""
    test = sample_rows(test, ROWS, 1)
    pairs = [(row.comment, row.reply) for row in test]
    bag = baselines.tfidf_classifier([row.reply for row in train], [row.label for row in train])
    scores = {
        "ranker": ranker(pairs, "realism_test"),
        "tfidf": bag.predict_proba([row.reply for row in test])[:, 1],
        "always_real": np.ones(len(test)),
        "longer_is_real": np.array([len(row.reply) for row in test], float),
    }
    if untuned:
        scores["untuned_encoder"] = untuned(pairs, "realism_test")
    return ScoredRows(test, scores, frozenset(row.generator for row in train if not row.label))


def measure(tested: ScoredRows) -> dict[str, Any]:
    """How well test rows are told apart, people's being the positive class: all, and each generator's against all people's."""
    people = np.array([row.label == 1 for row in tested.rows])
    names = sorted({row.generator for row in tested.rows if not row.label})
    subsets: dict[str, tuple[Array, dict[str, Any]]] = {"all": (np.ones(len(people), bool), {})}
    if len(names) > 1 or set(names) - tested.seen:
        for name in names:
            own = np.array([row.generator == name for row in tested.rows])
            subsets[f"generator {name}"] = (people | (own & ~people), {} if name in tested.seen else {"unseen_in_training": True})
    result: dict[str, Any] = {}
    for subset, (inside, facts) in subsets.items():
        rows = [row for row, has in zip(tested.rows, inside, strict=True) if has]
        content: dict[str, Any] = {**counts(rows, "rows"), "real": int(people[inside].sum()), **facts}
        for scorer, scores in tested.scores.items():
            told = np.flatnonzero(inside & ~np.isnan(scores))
            labels, p = people[told].astype(int), scores[told]
            threads = [tested.rows[row].thread_id for row in told]
            certain = scorer in PROBABILITIES
            content[scorer] = with_intervals(
                lambda i, labels=labels, p=p, certain=certain: measures_of(labels[i], p[i], certain),  # type: ignore[misc]
                threads,
            )
            if certain:
                content[scorer]["confusion"] = metrics.confusion_matrix(labels, p >= 0.5).tolist()
            if len(told) < content["rows"]:
                content[scorer]["rows"] = len(told)
        result[subset] = content
    return result


def measures_of(labels: Array, scores: Array, probabilities: bool) -> dict[str, float]:
    """precision, recall and F1 are people's; pr_auc_generated is the average precision of finding generated replies."""
    result = {}
    if probabilities:
        predicted = scores >= 0.5
        precision, recall, f1 = metrics.precision_recall_f1(metrics.confusion_matrix(labels, predicted))[:, 1]
        result = {
            "accuracy": float(np.mean(labels == predicted)), "precision": float(precision), "recall": float(recall), "f1": float(f1),
            "balanced_accuracy": metrics.balanced_accuracy(labels, predicted) if 0 < labels.sum() < len(labels) else np.nan,
        }  # fmt: skip
    result |= {"roc_auc": metrics.roc_auc(labels, scores), "pr_auc_generated": metrics.average_precision(1 - labels, -scores)}
    if probabilities:
        result["calibration_error"] = metrics.expected_calibration_error(labels, scores)
    return result
