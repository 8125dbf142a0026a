"""Baselines fitted in this process, in seconds: TF-IDF of the reply with logistic regression, on rows or on pairs.

The other baselines (cosine under an untuned encoder, generator likelihood) are read from score files (see rankers.score_files).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from bot import cli
from bot.evaluate.measures import TooFew

PAIRWISE_C = 0.1  # scikit-learn's C; best of 0.03 to 1 on validation pairs


@contextmanager
def fitting() -> Iterator[None]:
    """Turn scikit-learn's error about too few texts or only one class into a TooFew."""
    try:
        with cli.waiting("fitting a baseline"):
            yield
    except ValueError as error:
        raise TooFew(f"too few training rows ({cli.first_line(error)})") from None


def tfidf() -> Any:
    """Unfitted TF-IDF vectorizer over words and word pairs."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"\S+")


def tfidf_classifier(replies: Sequence[str], labels: Sequence[int]) -> Any:
    """Fitted classifier: TF-IDF of the reply, logistic regression. Raises TooFew."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    with fitting():
        return make_pipeline(tfidf(), LogisticRegression(C=1.0, max_iter=500)).fit(list(replies), list(labels))


def fit_differences(better: Any, worse: Any, c: float) -> np.ndarray[Any, Any]:
    """Weights of a logistic regression on feature differences within pairs, (features,) (Bradley and Terry 1952).

    better, worse: sparse matrices (pairs, features). c: scikit-learn's C. What the two replies of a pair have in common, such as comment
    and subreddit, cancels out. Half of the pairs, drawn at random, are reversed so that there are two classes; without an intercept this
    has no other effect. Raises TooFew if there is only one pair.
    """
    import scipy.sparse
    from sklearn.linear_model import LogisticRegression

    signs = np.where(np.random.default_rng(0).random(better.shape[0]) < 0.5, 1.0, -1.0)
    if len(signs) > 1:
        signs[:2] = 1.0, -1.0
    rows = scipy.sparse.csr_matrix(better - worse).multiply(signs[:, None]).tocsr()
    with fitting():
        model = LogisticRegression(C=c, fit_intercept=False, max_iter=500).fit(rows, signs > 0)
    weights: np.ndarray[Any, Any] = model.coef_[0]
    return weights


def tfidf_pairwise(better: Sequence[str], worse: Sequence[str]) -> Callable[[Sequence[str]], np.ndarray[Any, Any]]:
    """Fitted scorer (replies -> log-odds): TF-IDF of the reply, logistic regression on differences within pairs. Raises TooFew."""
    with fitting():
        vectorizer = tfidf().fit([*better, *worse])
    weights = fit_differences(vectorizer.transform(better), vectorizer.transform(worse), PAIRWISE_C)
    return lambda replies: np.asarray(vectorizer.transform(replies) @ weights)
