"""How often a relevance ranker scores a comment's own reply highest among replies from other threads of the subreddit.

model.py reads DATA/relevance_{train,test}.csv for it. See measures.py for the form of the results.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from bot import metrics
from bot.evaluate import baselines
from bot.evaluate.measures import TooFew, counts
from bot.metrics import mean_with_interval
from bot.rankers.score_files import Scorer
from bot.schema import LabelledRow, sample_rows

QUERIES = 1000  # comments to evaluate
POOL = 200  # replies of the subreddit from which the distractors are drawn


Lists = dict[str, tuple[list[LabelledRow], list[list[str]]]]  # name -> rows (comment and own reply), distractors of each row


def measure(ranker: Scorer, untuned: Scorer | None, train: Sequence[LabelledRow], test: Sequence[LabelledRow]) -> dict[str, Any]:
    """hits@1 of the ranker and of each baseline; a tie counts as a miss.

    train: the ranker's training rows. untuned: cosine under its base, None if not available.

    Raises TooFew if there are no lists, or the baseline cannot be fitted.
    """
    with baselines.fitting():
        tfidf = baselines.tfidf().fit([row.comment for row in train] + [row.reply for row in train])
    lists = candidate_lists(test, untuned)
    if not lists:
        raise TooFew("no comment of the test split has 9 replies of other threads of its subreddit")
    pairs = pairs_of(lists)
    comments, replies = (tfidf.transform([pair[side] for pair in pairs]) for side in (0, 1))
    scores = {"ranker": ranker(pairs, "relevance_test")}
    if untuned:
        scores["untuned_encoder"] = untuned(pairs, "relevance_test")
    scores["tfidf"] = np.asarray(comments.multiply(replies).sum(axis=1))[:, 0]
    scores["longest"] = np.array([len(reply) for _, reply in pairs], float)
    result: dict[str, Any] = {}
    for name, (queries, _) in lists.items():
        content = counts(queries, "queries")
        for scorer, values in scores.items():
            content[scorer] = {"hits_at_1": hits_at_1(lists, values)[name]}
        result[name] = content
    return result


def pairs_of(lists: Lists) -> list[tuple[str, str]]:
    """The pairs of all lists in order: of each comment with its own reply, then with its distractors."""
    return [
        (row.comment, reply)
        for queries, distractors in lists.values()
        for row, own in zip(queries, distractors, strict=True)
        for reply in (row.reply, *own)
    ]


def hits_at_1(lists: Lists, values: metrics.Array) -> dict[str, metrics.Interval]:
    """hits@1 by list; a tie counts as a miss. values: the scores of `pairs_of`."""
    result: dict[str, metrics.Interval] = {}
    start = 0
    for name, (queries, distractors) in lists.items():
        stop = start + len(queries) * (1 + len(distractors[0]))
        hit = np.array([metrics.hits_at_k(row[None], 1) for row in values[start:stop].reshape(len(queries), -1)])
        result[name] = mean_with_interval(hit, [row.thread_id for row in queries])
        start = stop
    return result


def candidate_lists(test: Sequence[LabelledRow], untuned: Scorer | None) -> Lists:
    """random_100, random_10: random distractors. hard_10: the distractors that `untuned` scores most similar to the own reply."""
    by_subreddit: dict[str, list[LabelledRow]] = {}
    for row in test:
        if row.label == 1:
            by_subreddit.setdefault(row.subreddit.lower(), []).append(row)
    rng = random.Random(1)
    pools: list[tuple[LabelledRow, list[str]]] = []
    for row in sample_rows([row for row in test if row.label == 1], QUERIES, 1):
        candidates = by_subreddit[row.subreddit.lower()]
        drawn = candidates if len(candidates) <= POOL else rng.sample(candidates, POOL)
        replies = sorted({each.reply for each in drawn if each.thread_id != row.thread_id and each.reply != row.reply})
        rng.shuffle(replies)
        pools.append((row, replies))
    result: Lists = {}
    for name, count in (("random_100", 99), ("random_10", 9)):
        enough = [(row, replies[:count]) for row, replies in pools if len(replies) >= count]
        result[name] = [row for row, _ in enough], [replies for _, replies in enough]
    large = [(row, replies) for row, replies in pools if len(replies) >= 99]  # the most similar of a small pool are not similar
    if untuned and large:
        similarities = untuned([(row.reply, reply) for row, replies in large for reply in replies], "relevance_nearest")
        parts = np.split(similarities, np.cumsum([len(replies) for _, replies in large])[:-1])
        nearest = [[replies[index] for index in np.argsort(-part)[:9]] for (_, replies), part in zip(large, parts, strict=True)]
        result["hard_10"] = [row for row, _ in large], nearest
    return {name: lists for name, lists in result.items() if lists[0]}
