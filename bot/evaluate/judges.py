"""Independent judges of replies to one comment, for measuring what rankers pick.

A judge shares nothing with the rankers: it learns from the threads of the other half (`text.half_for`), it is a linear model over TF-IDF of
words and characters where they are encoders, and nothing is tuned on it. `evaluate` fits it anew each time, in seconds, and puts its own
accuracy on test pairs beside what it says, so that a reader knows how far to trust it.

Reads DATA/{upvote_pairs,realism,relevance}_{train,test}.csv.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bot import metrics, text
from bot.corpus import compared
from bot.corpus.compared import Compared
from bot.evaluate.baselines import fit_differences
from bot.rankers.scoring import Pairs
from bot.schema import sample_rows

# By name: the kind of ranker that is asked the same, and what a judge is asked.
JUDGES = {
    "liked": ("upvote", "which of two replies to one comment got more karma"),
    "real": ("realism", "which of two replies to one comment a person wrote"),
    "belongs": ("relevance", "which of two replies is the comment's own, and which is from another thread of the subreddit"),
}
TRAINING_PAIRS = 10_000
TEST_PAIRS = 2_000
LEAST_KARMA_GAP = 5  # of siblings that `liked` learns from: nearer ones are half noise
STRENGTH = 0.1  # scikit-learn's C, chosen for `liked` on validation pairs among 0.003 to 1
LETTERS = 400  # characters of a reply whose letters are counted; the rest of a long one costs time and tells little more
_WORD = re.compile(r"\w+")


class NothingToLearn(Exception):
    """A prepared file has no pair for a judge."""


class Judge:
    """Fitted on the half `judge` of training pairs; scores replies to one comment, and only orders those."""

    def __init__(self, pairs: Sequence[Compared]):
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"\w+|[^\w\s]")
        self.letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=5, sublinear_tf=True, max_features=200_000)
        both = self.features([(comment, replies[side]) for side in (0, 1) for _, comment, *replies in pairs], fit=True)
        self.weights = fit_differences(both[: len(pairs)], both[len(pairs) :], STRENGTH)

    def features(self, pairs: Pairs, fit: bool = False) -> Any:
        """A sparse matrix (pairs, features): what the reply is made of, and what it shares with the comment."""
        import scipy.sparse

        comments, replies = ([pair[side] for pair in pairs] for side in (0, 1))
        beginnings = [reply[:LETTERS] for reply in replies]
        said = self.words.fit_transform(replies) if fit else self.words.transform(replies)
        spelt = self.letters.fit_transform(beginnings) if fit else self.letters.transform(beginnings)
        common = np.asarray(said.multiply(self.words.transform(comments)).sum(axis=1)).ravel()  # cosines, as rows have length 1
        shared = np.array([[*shared_words(comment, reply), np.log1p(len(reply))] for comment, reply in pairs])
        return scipy.sparse.hstack([said, spelt, common[:, None], shared], format="csr")

    def score(self, pairs: Pairs) -> np.ndarray[Any, Any]:
        """Log-odds, up to a constant for each comment, (pairs,)."""
        return np.asarray(self.features(pairs) @ self.weights)


def shared_words(comment: str, reply: str) -> tuple[float, float]:
    """The share of the reply's words that stand in the comment, and of the comment's that stand in the reply.

    >>> shared_words("Any good books?", "Books. Good old books")
    (0.75, 0.6666666666666666)
    """
    one, other = (Counter(_WORD.findall(body.casefold())) for body in (comment, reply))
    common_in_reply = sum(count for word, count in other.items() if word in one)
    common_in_comment = sum(count for word, count in one.items() if word in other)
    return common_in_reply / max(1, other.total()), common_in_comment / max(1, one.total())


def appoint(name: str, data: Path, seed: int) -> tuple[Judge, dict[str, Any]]:
    """The judge called `name`, fitted; and what it is: pairs learnt from, and accuracy on test pairs beside «the longer wins».

    Raises:
        SchemaError: a file is missing or isn't what it should be.
        NothingToLearn: no training pair of the judge's half, or no test pair.
    """
    kind, question = JUDGES[name]
    half = [pair for pair in compared.read(data, kind, "train", LEAST_KARMA_GAP) if text.half_for(pair[0]) == "judge"]
    train = sample_rows(half, TRAINING_PAIRS, seed)
    test = sample_rows(compared.read(data, kind, "test", LEAST_KARMA_GAP), TEST_PAIRS, seed)
    if not train or not test:
        raise NothingToLearn(f"{data}/{compared.STEMS[kind]}_{'test' if train else 'train'}.csv has no pair to compare")
    judge = Judge(train)
    threads = [thread for thread, *_ in test]
    better, worse = (judge.score([(comment, replies[side]) for _, comment, *replies in test]) for side in (0, 1))
    longer = metrics.wins([len(good) for *_, good, _ in test], [len(bad) for *_, bad in test])
    accuracies = {"judge": metrics.wins(better, worse), "longer_wins": longer}
    return judge, {
        "question": question, "training_pairs": len(train), "pairs": len(test), "threads": len(set(threads)),
        **{each: {"pairwise_accuracy": [float(won.mean()), *metrics.bootstrap_mean(won, threads)]} for each, won in accuracies.items()},
    }  # fmt: skip
