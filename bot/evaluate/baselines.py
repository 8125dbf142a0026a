"""Baselines that learn in this process, in seconds: TF-IDF of the reply with logistic regression, of rows or of pairs.

The others, an untuned encoder's cosine and the generator's own likelihood, are score files (see rankers.score_files).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

PAIRWISE_C = 0.1  # scikit-learn's C, the best on validation pairs among 0.03 to 1


def words() -> Any:
    """Words and word pairs, weighted by rarity; not fitted."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"\S+")


def tfidf_classifier(replies: Sequence[str], labels: Sequence[int]) -> Any:
    """TF-IDF of the reply, logistic regression; fitted."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    return make_pipeline(words(), LogisticRegression(C=1.0, max_iter=500)).fit(list(replies), list(labels))


def fit_differences(better: Any, worse: Any, strength: float) -> np.ndarray[Any, Any]:
    """Weights of a logistic regression on the features' differences within pairs, (features,): Bradley and Terry 1952.

    better, worse: sparse matrices (pairs, features). What both replies of a pair share, their comment and subreddit, cancels. Every second
    pair by chance is turned round, so that there are two classes; without an intercept that changes nothing else.
    """
    import scipy.sparse
    from sklearn.linear_model import LogisticRegression

    signs = np.where(np.random.default_rng(0).random(better.shape[0]) < 0.5, 1.0, -1.0)
    if len(signs) > 1:
        signs[:2] = 1.0, -1.0
    rows = scipy.sparse.csr_matrix(better - worse).multiply(signs[:, None]).tocsr()
    model = LogisticRegression(C=strength, fit_intercept=False, max_iter=500).fit(rows, signs > 0)
    weights: np.ndarray[Any, Any] = model.coef_[0]
    return weights


def tfidf_pairwise(better: Sequence[str], worse: Sequence[str]) -> Callable[[Sequence[str]], np.ndarray[Any, Any]]:
    """TF-IDF of the reply, logistic regression on differences within pairs; fitted. Returns replies -> log-odds."""
    bag = words().fit([*better, *worse])
    weights = fit_differences(bag.transform(better), bag.transform(worse), PAIRWISE_C)
    return lambda replies: np.asarray(bag.transform(replies) @ weights)
