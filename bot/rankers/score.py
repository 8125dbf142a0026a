"""Combine the scores of a reply with other signals to rank_score. Pure functions over rows.

`score` and `rank` write the result. `evaluate` and `train weights` combine the columns of score files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bot import config, metrics, rankers, text
from bot.schema import NotChosen

SCORES = ("realism_score", "upvote_score", "relevance_score", "choice_score")
TYPICAL_LOG_LIKELIHOOD = -1.9  # nats per token, the median of generated replies
Scorers = Mapping[str, rankers.Ranker]  # by score column
Scores = dict[str, float | None]  # by score column


class Ranked(NamedTuple):
    """What rank_score needs to know of a candidate, with cleaned texts. log_likelihood: mean per token, in nats; None if unknown."""

    comment: str
    reply: str
    log_likelihood: float | None = None


def score_pairs(pairs: Sequence[tuple[str, str]], scorers: Scorers, batch_size: int) -> list[Scores]:
    """The scores by column for each (comment, reply), None for missing rankers. The texts are cleaned first, as for training."""
    clean = cleaned(pairs)
    return by_row({column: scorer.score(clean, batch_size) for column, scorer in scorers.items()}, len(pairs))


def cleaned(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The input of the rankers: texts cleaned as for training. A notice in the place of a deleted text is no text.

    >>> cleaned([("**Why?**", "[ Removed by Reddit ]")])
    [('Why?', '')]
    """
    return [(text.readable(comment), text.readable(reply)) for comment, reply in pairs]


def by_row(columns: Mapping[str, Sequence[float]], rows: int) -> list[Scores]:
    """The scores of each row. columns: the scores of all rows by column, without those of missing rankers.

    >>> by_row({"upvote_score": [0.4]}, 1)
    [{'realism_score': None, 'upvote_score': 0.4, 'relevance_score': None, 'choice_score': None}]
    """
    return [{column: columns[column][row] if column in columns else None for column in SCORES} for row in range(rows)]


def log_odds(scores: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """log(p / (1 - p)), with p clipped to [0.001, 0.999], because differences beyond that are not meaningful.

    >>> log_odds(np.array([0.5, 1.0])).round(2)
    array([0.  , 6.91])
    """
    clipped = np.clip(scores, 1e-3, 1 - 1e-3)
    return np.log(clipped / (1 - clipped))


def rank_score(scores: Mapping[str, float | None], of: Ranked, weights: config.RankWeights) -> float | None:
    """The score by which `choose` orders candidates: a logistic function of the weighted `signals`, fitted by `train weights` to the
    probability that a reader accepts the reply. The score of a ranker that is not configured is left out; None if no signal is left.

    >>> weights = config.RankWeights(intercept=0, realism=0, upvote=1, likelihood=0)
    >>> rank_score({"realism_score": 0.9, "upvote_score": 0.4}, Ranked("why", "so"), weights)
    0.4
    """
    weighted = [(getattr(weights, name), value) for name, value in signals(scores, of).items() if value is not None]
    if not any(weight for weight, _ in weighted):
        return None
    logit = weights.intercept + sum(weight * value for weight, value in weighted)
    return round(1 / (1 + math.exp(-max(-700.0, min(700.0, logit)))), 12)


def refusal(comment: str, reply: str, realism_score: float | None, rank_score: float | None, settings: config.ChooseSettings) -> str:
    """Why a candidate may not be chosen (a NotChosen), judged by its scores and its text alone; empty if nothing speaks against it.

    >>> settings = config.ChooseSettings(minimum_realism=0.1, minimum_rank=0.3, minimum_words=2)
    >>> pairs = [("not why", 0.2), ("oh, why not now", 0.9), ("so so", 0.9), ("[ Removed by Reddit ]", 0.9)]
    >>> [str(refusal("why not now", reply, 0.2, rank, settings)) for reply, rank in pairs]
    ['low_rank', 'repeats_comment', '', 'empty']
    """
    if text.is_deleted(reply):
        return NotChosen.EMPTY
    if realism_score is not None and realism_score < settings.minimum_realism:
        return NotChosen.LOW_REALISM
    if len(reply.split()) < settings.minimum_words:
        return NotChosen.TOO_SHORT
    if metrics.repeats_ngram(comment, reply):
        return NotChosen.ECHO
    if rank_score is not None and rank_score < settings.minimum_rank:
        return NotChosen.LOW_RANK
    return ""


def signals(scores: Mapping[str, float | None], of: Ranked) -> dict[str, float | None]:
    """The signals in rank_score, by the name of their weight; larger is better, None if not available.

    realism, upvote, relevance, choice: the log-odds of the scores. likelihood: the log-likelihood of the whole reply in nats, estimated as
    that of its mean token for each word and the end. Its length counts, because a small model drifts into nonsense; if the likelihood is
    unknown, the length alone counts. repetition: minus the share of the reply's words that the comment has (an echo looks relevant).
    """
    result: dict[str, float | None] = {
        column.removesuffix("_score"): None if value is None else float(log_odds(np.array(value))) for column, value in scores.items()
    }
    mean = TYPICAL_LOG_LIKELIHOOD if of.log_likelihood is None else of.log_likelihood
    result["likelihood"] = mean * (len(of.reply.split()) + 1)
    words = text.words(of.reply)
    result["repetition"] = -len(set(words) & set(text.words(of.comment))) / max(1, len(set(words)))
    return result
