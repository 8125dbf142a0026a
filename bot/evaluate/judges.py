"""Independent judges of replies to a comment, for measuring the picks of the rankers.

A judge has nothing in common with the rankers: it is trained on the other half of the threads (`text.half_for`), it is a linear model over
TF-IDF of words and characters instead of an encoder, and nothing is tuned against it. Every `evaluate` fits the judges again, in seconds,
and reports their accuracy on test pairs next to their verdicts, so that a reader can tell how much these are worth.

Reads DATA/{upvote_pairs,realism,relevance}_{train,test}.csv.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bot import cli, metrics, text
from bot.corpus import compared
from bot.corpus.compared import Compared
from bot.evaluate import baselines
from bot.evaluate.measures import TooFew, naming
from bot.rankers.scoring import Pairs
from bot.schema import sample_rows

# name -> (kind of the ranker with the same task, the judge's question)
JUDGES = {
    "liked": ("upvote", "which of two replies to a comment got more karma"),
    "real": ("realism", "which of two replies to a comment was written by a person"),
    "belongs": ("relevance", "which of two replies belongs to the comment, and which is from another thread of the subreddit"),
}
TRAINING_PAIRS = 10_000
TEST_PAIRS = 2_000
MIN_KARMA_GAP = 5  # of sibling pairs for `liked`; smaller gaps are mostly noise
C = 0.1  # scikit-learn's C; best of 0.003 to 1 for `liked` on validation pairs
CHARACTERS = 400  # of a reply, for character n-grams; more cost time and add little
_WORD = re.compile(r"\w+")


class Judge:
    """Linear model fitted on pairs of the judges' half. Its scores are only comparable between replies to the same comment."""

    def __init__(self, pairs: Sequence[Compared]):
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"\w+|[^\w\s]")
        self.characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=5, sublinear_tf=True, max_features=200_000)
        both = self.features([(comment, replies[side]) for side in (0, 1) for _, comment, *replies in pairs], fit=True)
        self.weights = baselines.fit_differences(both[: len(pairs)], both[len(pairs) :], C)

    def features(self, pairs: Pairs, fit: bool = False) -> Any:
        """Sparse matrix (pairs, features): TF-IDF of the reply's words and characters, its overlap with the comment, its length."""
        import scipy.sparse

        comments, replies = ([pair[side] for pair in pairs] for side in (0, 1))
        beginnings = [reply[:CHARACTERS] for reply in replies]
        with baselines.fitting():
            words = self.words.fit_transform(replies) if fit else self.words.transform(replies)
            characters = self.characters.fit_transform(beginnings) if fit else self.characters.transform(beginnings)
        cosines = np.asarray(words.multiply(self.words.transform(comments)).sum(axis=1)).ravel()  # the rows are normalised
        overlap = np.array([[*shared_words(comment, reply), np.log1p(len(reply))] for comment, reply in pairs])
        return scipy.sparse.hstack([words, characters, cosines[:, None], overlap], format="csr")

    def score(self, pairs: Pairs) -> np.ndarray[Any, Any]:
        """Log-odds up to a constant per comment, (pairs,)."""
        return np.asarray(self.features(pairs) @ self.weights)


def shared_words(comment: str, reply: str) -> tuple[float, float]:
    """The share of the reply's words that occur in the comment, and the share of the comment's words that occur in the reply.

    >>> shared_words("Any good books?", "Books. Good old books")
    (0.75, 0.6666666666666666)
    """
    one, other = (Counter(_WORD.findall(body.casefold())) for body in (comment, reply))
    common_in_reply = sum(count for word, count in other.items() if word in one)
    common_in_comment = sum(count for word, count in one.items() if word in other)
    return common_in_reply / max(1, other.total()), common_in_comment / max(1, one.total())


def fit_judge(name: str, data: Path, seed: int) -> tuple[Judge, dict[str, Any]]:
    """The judge called `name`, fitted; and its facts: number of pairs, and accuracy on test pairs next to that of "longer wins".

    Raises:
        FileError: a file is missing or invalid.
        TooFew: there are too few training pairs in the judges' half, or no test pair.
    """
    kind, question = JUDGES[name]
    half = [pair for pair in compared.read(data, kind, "train", MIN_KARMA_GAP) if text.half_for(pair[0]) == "judge"]
    train = sample_rows(half, TRAINING_PAIRS, seed)
    test = sample_rows(compared.read(data, kind, "test", MIN_KARMA_GAP), TEST_PAIRS, seed)
    if not train or not test:
        raise TooFew(f"{data}/{compared.STEMS[kind]}_{'test' if train else 'train'}.csv has no pair to compare")
    with naming(data / f"{compared.STEMS[kind]}_train.csv"), cli.waiting(f"fitting the judge {name}"):
        judge = Judge(train)
    threads = [thread for thread, *_ in test]
    better, worse = (judge.score([(comment, replies[side]) for _, comment, *replies in test]) for side in (0, 1))
    longer = metrics.wins([len(good) for *_, good, _ in test], [len(bad) for *_, bad in test])
    accuracies = {"judge": metrics.wins(better, worse), "longer_wins": longer}
    return judge, {
        "question": question, "training_pairs": len(train), "pairs": len(test), "threads": len(set(threads)),
        **{each: {"pairwise_accuracy": [float(won.mean()), *metrics.bootstrap_mean(won, threads)]} for each, won in accuracies.items()},
    }  # fmt: skip
