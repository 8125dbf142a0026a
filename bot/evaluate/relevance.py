"""How often a relevance ranker puts a comment's own reply first among those of other threads of its subreddit.

Reads, by way of model.py, DATA/relevance_{train,test}.csv. See measures.py for the shape of the results.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from bot import metrics
from bot.evaluate import baselines
from bot.evaluate.measures import counts
from bot.metrics import mean_with_interval
from bot.rankers.score_files import Scorer
from bot.schema import LabelledRow, sample_rows

QUERIES = 1000  # comments whose reply is looked for
POOL = 200  # replies of the subreddit that the others are taken from


Lists = dict[str, tuple[list[LabelledRow], list[list[str]]]]  # by name: rows whose reply is looked for, and each one's other replies


def measure(ranker: Scorer, untuned: Scorer | None, train: Sequence[LabelledRow], test: Sequence[LabelledRow]) -> dict[str, Any]:
    """hits@1 of the ranker and of each baseline; a tie counts as missed. untuned: the cosine under its base, None where that isn't there.

    train: rows that the ranker learnt from.
    """
    bag = baselines.words().fit([row.comment for row in train] + [row.reply for row in train])
    lists = lists_of_replies(test, untuned)
    pairs = [
        (row.comment, reply)
        for queries, others in lists.values()
        for row, wrong in zip(queries, others, strict=True)
        for reply in (row.reply, *wrong)
    ]
    comments, replies = (bag.transform([pair[side] for pair in pairs]) for side in (0, 1))
    scores = {"ranker": ranker(pairs, "relevance_test")}
    if untuned:
        scores["untuned_encoder"] = untuned(pairs, "relevance_test")
    scores["tfidf"] = np.asarray(comments.multiply(replies).sum(axis=1))[:, 0]
    scores["longest"] = np.array([len(reply) for _, reply in pairs], float)
    result: dict[str, Any] = {}
    start = 0
    for name, (queries, others) in lists.items():
        stop = start + len(queries) * (1 + len(others[0]))
        content = counts(queries, "queries")
        for scorer, values in scores.items():
            hit = np.array([metrics.hits_at_k(row[None], 1) for row in values[start:stop].reshape(len(queries), -1)])
            content[scorer] = {"hits_at_1": mean_with_interval(hit, [row.thread_id for row in queries])}
        result[name] = content
        start = stop
    return result


def lists_of_replies(test: Sequence[LabelledRow], untuned: Scorer | None) -> Lists:
    """random_100 and random_10: the others drawn at random; hard_10: those that `untuned` puts nearest to the own reply."""
    by_subreddit: dict[str, list[LabelledRow]] = {}
    for row in test:
        if row.label == 1:
            by_subreddit.setdefault(row.subreddit.lower(), []).append(row)
    chance = random.Random(1)
    others: list[tuple[LabelledRow, list[str]]] = []
    for row in sample_rows([row for row in test if row.label == 1], QUERIES, 1):
        siblings = by_subreddit[row.subreddit.lower()]
        drawn = siblings if len(siblings) <= POOL else chance.sample(siblings, POOL)
        replies = sorted({each.reply for each in drawn if each.thread_id != row.thread_id and each.reply != row.reply})
        chance.shuffle(replies)
        others.append((row, replies))
    result: Lists = {}
    for name, count in (("random_100", 99), ("random_10", 9)):
        enough = [(row, replies[:count]) for row, replies in others if len(replies) >= count]
        result[name] = [row for row, _ in enough], [replies for _, replies in enough]
    many = [(row, replies) for row, replies in others if len(replies) >= 99]  # of fewer the nearest would be near to nothing
    if untuned and many:
        near = untuned([(row.reply, reply) for row, replies in many for reply in replies], "relevance_nearest")
        parts = np.split(near, np.cumsum([len(replies) for _, replies in many])[:-1])
        nearest = [[replies[place] for place in np.argsort(-part)[:9]] for (_, replies), part in zip(many, parts, strict=True)]
        result["hard_10"] = [row for row, _ in many], nearest
    return {name: found for name, found in result.items() if found[0]}
