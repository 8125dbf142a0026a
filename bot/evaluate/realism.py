"""How well a realism ranker separates human from generated replies, overall and by generator.

model.py reads DATA/realism_{train,test}.csv for it. See measures.py for the form of the results.
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

ROWS = 2500  # maximum number of test rows, drawn at random


def score_rows(ranker: Scorer, untuned: Scorer | None, train: list[RealismRow], test: list[RealismRow]) -> ScoredRows:
    """Score test rows. train: the ranker's training rows. untuned: cosine under its base, None if not available. Raises TooFew."""
    test = sample_rows(test, ROWS, 1)
    pairs = [(row.comment, row.reply) for row in test]
    tfidf = baselines.tfidf_classifier([row.reply for row in train], [row.label for row in train])
    scores = {
        "ranker": ranker(pairs, "realism_test"),
        "tfidf": tfidf.predict_proba([row.reply for row in test])[:, 1],
        "always_real": np.ones(len(test)),
        "longer_is_real": np.array([len(row.reply) for row in test], float),
    }
    if untuned:
        scores["untuned_encoder"] = untuned(pairs, "realism_test")
    return ScoredRows(test, scores, frozenset(row.generator for row in train if not row.label))


def measure(tested: ScoredRows) -> dict[str, Any]:
    """Metrics over all test rows, and of each generator's replies against all human ones. The positive class is human."""
    human = np.array([row.label == 1 for row in tested.rows])
    names = sorted({row.generator for row in tested.rows if not row.label})
    subsets: dict[str, tuple[Array, dict[str, Any]]] = {"all": (np.ones(len(human), bool), {})}
    if len(names) > 1 or set(names) - tested.seen:
        for name in names:
            own = np.array([row.generator == name for row in tested.rows])
            subsets[f"generator {name}"] = (human | (own & ~human), {} if name in tested.seen else {"unseen_in_training": True})
    result: dict[str, Any] = {}
    for subset, (inside, facts) in subsets.items():
        rows = [row for row, is_inside in zip(tested.rows, inside, strict=True) if is_inside]
        content: dict[str, Any] = {**counts(rows, "rows"), "real": int(human[inside].sum()), **facts}
        for scorer, scores in tested.scores.items():
            scored = np.flatnonzero(inside & ~np.isnan(scores))
            labels, p = human[scored].astype(int), scores[scored]
            threads = [tested.rows[row].thread_id for row in scored]
            probabilities = scorer in PROBABILITIES
            content[scorer] = with_intervals(
                lambda i, labels=labels, p=p, probabilities=probabilities: measures_of(labels[i], p[i], probabilities),  # type: ignore[misc]
                threads,
            )
            if probabilities:
                content[scorer]["confusion"] = metrics.confusion_matrix(labels, p >= 0.5).tolist()
            if len(scored) < content["rows"]:
                content[scorer]["rows"] = len(scored)
        result[subset] = content
    return result


def measures_of(labels: Array, scores: Array, probabilities: bool) -> dict[str, float]:
    """precision, recall and f1 are those of the class human; pr_auc_generated is the average precision of finding generated replies."""
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
