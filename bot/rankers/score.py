"""Compute the scores of replies with rankers, and combine them to rank_score. Pure functions over rows.

`score` and `rank` write the result of `score_pairs`. `evaluate` and `train weights` combine the columns of score files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bot import config, rankers, text

SCORES = ("realism_score", "upvote_score", "relevance_score", "choice_score")
Scorers = Mapping[str, rankers.Ranker]  # by score column
Scores = dict[str, float | None]  # by score column


def score_pairs(pairs: Sequence[tuple[str, str]], scorers: Scorers, batch_size: int, weights: config.RankWeights) -> list[Scores]:
    """The scores by column for each (comment, reply), None for missing rankers. The texts are cleaned first, as for training."""
    clean = cleaned(pairs)
    return combined({column: scorer.score(clean, batch_size) for column, scorer in scorers.items()}, len(pairs), weights)


def cleaned(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The input of the rankers: texts cleaned as for training."""
    return [(text.clean(comment), text.clean(reply)) for comment, reply in pairs]


def combined(columns: Mapping[str, Sequence[float]], rows: int, weights: config.RankWeights) -> list[Scores]:
    """The scores of each row together with the rank_score. columns: the scores of all rows by column, without those of missing rankers.

    >>> combined({"upvote_score": [0.4]}, 1, config.RankWeights(upvote=1))
    [{'realism_score': None, 'upvote_score': 0.4, 'relevance_score': None, 'choice_score': None, 'rank_score': 0.4}]
    """
    result = []
    for row in range(rows):
        scores: Scores = {column: columns[column][row] if column in columns else None for column in SCORES}
        result.append({**scores, "rank_score": rank_score(scores, weights)})
    return result


def log_odds(scores: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """log(p / (1 - p)), with p clipped to [0.001, 0.999], because differences beyond that are not meaningful.

    >>> log_odds(np.array([0.5, 1.0])).round(2)
    array([0.  , 6.91])
    """
    clipped = np.clip(scores, 1e-3, 1 - 1e-3)
    return np.log(clipped / (1 - clipped))


def rank_score(scores: Mapping[str, float | None], weights: config.RankWeights) -> float | None:
    """The score by which `choose` orders candidates: the weighted mean of the log-odds of all available scores, as a probability.

    None if no score with a positive weight is available.

    >>> rank_score({"realism_score": 0.9, "upvote_score": 0.4, "relevance_score": None}, config.RankWeights(realism=0, upvote=1))
    0.4
    """
    weighted = [(getattr(weights, column.removesuffix("_score")), score) for column, score in scores.items() if score is not None]
    total = sum(weight for weight, _ in weighted)
    if not total:
        return None
    mean = sum(weight * float(log_odds(np.array(score))) for weight, score in weighted) / total
    return round(1 / (1 + math.exp(-mean)), 12)
