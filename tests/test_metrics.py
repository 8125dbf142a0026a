"""bot.metrics compared with hand-computed values and with scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from bot import metrics

FEW_SCORES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])  # so that ties are common
LABELLED = st.lists(st.tuples(st.booleans(), FEW_SCORES | st.floats(0, 1)), min_size=2, max_size=40)


def test_pairwise_accuracy() -> None:
    assert metrics.pairwise_accuracy([0.9, 0.2, 0.6], [0.4, 0.3, 0.5]) == pytest.approx(2 / 3)
    assert metrics.pairwise_accuracy([0.5, 0.5, 0.9], [0.5, 0.5, 0.1]) == pytest.approx(2 / 3)  # two ties, one right
    assert metrics.pairwise_accuracy([1, 2], [3, 4]) == 0.0


@given(pairs=st.lists(st.tuples(FEW_SCORES, FEW_SCORES), min_size=1))
def test_pairwise_accuracy_of_swapped_pairs(pairs: list[tuple[float, float]]) -> None:
    one, other = zip(*pairs, strict=True)
    assert metrics.pairwise_accuracy(one, other) + metrics.pairwise_accuracy(other, one) == pytest.approx(1)


def test_roc_auc() -> None:
    assert metrics.roc_auc([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1]) == 0.75
    assert metrics.roc_auc([1, 0], [0.5, 0.5]) == 0.5
    assert metrics.roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75
    assert metrics.roc_auc([1, 1, 0], [0.3, 0.2, 0.3]) == 0.25  # a tie and a loss
    assert math.isnan(metrics.roc_auc([1, 1], [0.2, 0.3])) and math.isnan(metrics.roc_auc([0], [0.2]))


@given(rows=LABELLED)
def test_roc_auc_equals_sklearn(rows: list[tuple[bool, float]]) -> None:
    labels, scores = zip(*rows, strict=True)
    assume(len(set(labels)) == 2)
    assert metrics.roc_auc(labels, scores) == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores))


@given(rows=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40))
def test_balanced_accuracy_equals_sklearn(rows: list[tuple[bool, bool]]) -> None:
    labels, predicted = zip(*rows, strict=True)
    assume(len(set(labels)) == 2)
    assert metrics.balanced_accuracy(labels, predicted) == pytest.approx(sklearn_metrics.balanced_accuracy_score(labels, predicted))


def test_balanced_accuracy_of_a_constant_prediction_is_one_half() -> None:
    assert metrics.balanced_accuracy([1] * 92 + [0] * 8, [1] * 100) == 0.5
    assert metrics.balanced_accuracy([1, 1, 1, 0], [1, 1, 0, 0]) == pytest.approx((2 / 3 + 1) / 2)


@given(rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_confusion_precision_recall_f1_equal_sklearn(rows: list[tuple[int, int]]) -> None:
    """Also if a class never occurs or is never predicted."""
    labels, predicted = zip(*rows, strict=True)
    confusion = metrics.confusion_matrix(labels, predicted, 4)
    assert confusion.tolist() == sklearn_metrics.confusion_matrix(labels, predicted, labels=range(4)).tolist()
    expected = sklearn_metrics.precision_recall_fscore_support(labels, predicted, labels=range(4), zero_division=0)[:3]
    assert metrics.precision_recall_f1(confusion) == pytest.approx(np.array(expected))


@given(rows=st.lists(st.tuples(st.integers(0, 2), FEW_SCORES), max_size=30))
def test_roc_auc_of_cuts_equals_sklearn_at_each_cut(rows: list[tuple[int, float]]) -> None:
    labels, scores = np.array([*rows, (0, 0.5), (1, 0.75), (2, 0.1)]).T  # every class occurs
    expected = np.mean([sklearn_metrics.roc_auc_score(labels >= cut, scores) for cut in (1, 2)])
    assert metrics.roc_auc_of_cuts(labels, scores, 3) == pytest.approx(expected)
    assert math.isnan(metrics.roc_auc_of_cuts([0, 1], [0.5, 0.75], 3))


def test_hits_at_k() -> None:
    scores = [[0.9, 0.1, 0.2], [0.3, 0.8, 0.1], [0.1, 0.2, 0.3]]  # the correct reply is first, second, third
    assert [metrics.hits_at_k(scores, k) for k in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 1])
    assert metrics.hits_at_k([[0.5, 0.5, 0.5]], 1) == 0.0  # a ranker with constant scores has no hits
    assert metrics.hits_at_k([[0.5, 0.5, 0.5]], 3) == 1.0


def test_distinct_n() -> None:
    assert metrics.distinct_n(["a b", "a b"], 1) == 0.5
    assert metrics.distinct_n(["a b", "b a"], 2) == 1.0  # n-grams do not span texts
    assert metrics.distinct_n(["a b a b a"], 2) == 0.5
    assert metrics.distinct_n(["a", ""], 2) == 0.0
    assert metrics.distinct_n([], 1) == 0.0


def test_expected_calibration_error() -> None:
    assert metrics.expected_calibration_error([1, 0, 1, 0], [1.0, 0.0, 1.0, 0.0]) == 0.0
    assert metrics.expected_calibration_error([0, 0], [1.0, 1.0]) == 1.0
    # bins [0.1, 0.2): 2 rows, predicted 0.15, observed 0.5; [0.8, 0.9): 2 rows, predicted 0.85, observed 1
    assert metrics.expected_calibration_error([1, 0, 1, 1], [0.14, 0.16, 0.84, 0.86]) == pytest.approx(0.5 * 0.35 + 0.5 * 0.15)
    # one row of four is off by 0.95, the others by 0.05
    assert metrics.expected_calibration_error([0, 0, 0, 0], [0.95, 0.05, 0.05, 0.05]) == pytest.approx(0.25 * 0.95 + 0.75 * 0.05)
    assert metrics.expected_calibration_error([1, 0], [0.6, 0.4], bins=1) == pytest.approx(0)


@given(rows=LABELLED)
def test_expected_calibration_error_by_hand(rows: list[tuple[bool, float]]) -> None:
    expected = 0.0
    for each in range(10):
        inside = [(label, share) for label, share in rows if min(int(share * 10), 9) == each]
        expected += abs(sum(label for label, _ in inside) - sum(share for _, share in inside)) / len(rows)
    assert metrics.expected_calibration_error(*zip(*rows, strict=True)) == pytest.approx(expected)


def test_bootstrap_resamples_whole_groups() -> None:
    groups = ["a", "b", "a", "c", "b", "b"]
    sizes = {"a": 2, "b": 3, "c": 1}

    def measure(rows: np.ndarray) -> float:
        drawn = [groups[row] for row in rows]
        assert all(drawn.count(group) % size == 0 for group, size in sizes.items())
        assert sum(drawn.count(group) // size for group, size in sizes.items()) == 3
        return float(len(rows))

    low, high = metrics.bootstrap_interval(measure, groups, resamples=300)
    assert (low, high) == (3.0, 9.0)  # three times the smallest group, three times the largest


def test_bootstrap_interval_of_a_mean() -> None:
    values = np.arange(400) % 2  # mean 0.5, standard error 0.025
    low, high = metrics.bootstrap_interval(lambda rows: float(values[rows].mean()), range(400))
    assert low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.01) and high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.01)
    assert (low, high) == metrics.bootstrap_interval(lambda rows: float(values[rows].mean()), range(400), seed=0)
    assert (low, high) != metrics.bootstrap_interval(lambda rows: float(values[rows].mean()), range(400), seed=1)


def test_correlated_rows_of_a_group_widen_the_interval() -> None:
    values = np.repeat([0, 1] * 20, 10)  # 40 threads of ten equal rows
    by_row = metrics.bootstrap_interval(lambda rows: float(values[rows].mean()), range(400))
    by_thread = metrics.bootstrap_interval(lambda rows: float(values[rows].mean()), [row // 10 for row in range(400)])
    assert by_thread[1] - by_thread[0] > 2 * (by_row[1] - by_row[0])


@given(rows=LABELLED)
def test_average_precision_equals_sklearn(rows: list[tuple[bool, float]]) -> None:
    labels, scores = zip(*rows, strict=True)
    if any(labels):
        assert metrics.average_precision(labels, scores) == pytest.approx(sklearn_metrics.average_precision_score(labels, scores))
    else:
        assert math.isnan(metrics.average_precision(labels, scores))


def test_bootstrap_mean_equals_bootstrap_interval() -> None:
    rng = np.random.default_rng(3)
    values, groups = rng.random(200), rng.integers(0, 40, 200).tolist()
    slow = metrics.bootstrap_interval(lambda rows: float(values[rows].mean()), groups, seed=5)
    assert metrics.bootstrap_mean(values, groups, seed=5) == pytest.approx(slow, abs=1e-12)
    assert metrics.bootstrap_mean(values, groups, seed=6) != pytest.approx(slow, abs=1e-12)


def test_several_measures_use_the_same_resamples() -> None:
    values = np.arange(60.0) % 7
    both = metrics.bootstrap_intervals(lambda rows: [float(values[rows].mean()), float(np.nan)], range(60))
    assert both[0] == metrics.bootstrap_interval(lambda rows: float(values[rows].mean()), range(60))
    assert all(math.isnan(bound) for bound in both[1])
