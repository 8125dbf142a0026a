"""bot.report.plots: the numbers in a figure, compared with scikit-learn or computed by hand; and that every figure renders."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve

from bot import metrics
from bot.report import plots

LABELLED = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1)), min_size=2, max_size=40)


def rendered(figure: Figure) -> bytes:
    """The figure as a PNG, as in a notebook."""
    target = io.BytesIO()
    figure.savefig(target, format="png")
    return target.getvalue()


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes]


def legend(figure: Figure, panel: int = 0) -> list[str]:
    return [text.get_text() for text in figure.axes[panel].get_legend().get_texts()]


def bar_heights(figure: Figure, panel: int = 0) -> list[float]:
    return [bar.get_height() for bar in figure.axes[panel].patches]


def pair(gap: int, chosen: float, rejected: float, thread: str = "t3_a", longer: bool = True) -> dict[str, object]:
    texts = ("a longer reply", "short") if longer else ("short", "a longer reply")
    return {
        "thread_id": thread,
        "karma_gap": gap,
        "chosen_score": chosen,
        "rejected_score": rejected,
        "chosen": texts[0],
        "rejected": texts[1],
    }


# --- curves -------------------------------------------------------------------------------------------------------------


@given(rows=LABELLED)
def test_roc_points_equal_those_of_sklearn(rows: list[tuple[bool, float]]) -> None:
    labels, scores = zip(*rows, strict=True)
    assume(len(set(labels)) == 2)
    false, true = plots.roc_points(labels, scores)
    expected_false, expected_true, _ = sklearn_metrics.roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose([false, true], [expected_false, expected_true])
    assert np.trapezoid(true, false) == pytest.approx(metrics.roc_auc(labels, scores))


@pytest.mark.parametrize("labels", [[1, 1], [0, 0]])
def test_a_roc_curve_of_one_class_is_an_error(labels: list[int]) -> None:
    with pytest.raises(ValueError, match="both labels"):
        plots.roc_points(labels, [0.1, 0.9])


@given(rows=LABELLED)
def test_calibration_bins_equal_those_of_sklearn_and_give_the_error(rows: list[tuple[bool, float]]) -> None:
    labels, probabilities = zip(*rows, strict=True)
    assume(not any(0 < p < 1 and p * 10 == round(p * 10) for p in probabilities))  # sklearn counts an edge in the lower bin
    bins = plots.calibration_bins(labels, probabilities)
    observed, predicted = calibration_curve(labels, probabilities, n_bins=10)
    np.testing.assert_allclose(bins[["observed", "predicted"]].to_numpy().T, [observed, predicted])
    assert bins["rows"].sum() == len(labels)
    gap = float((bins["rows"] * (bins["observed"] - bins["predicted"]).abs()).sum() / len(labels))
    assert gap == pytest.approx(metrics.expected_calibration_error(labels, probabilities))


def test_roc_and_calibration_show_their_values() -> None:
    labels, scores = [1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1]
    roc = plots.roc({"better": (labels, scores), "worse": (labels, [0.1, 0.2, 0.3, 0.4])}, "human replies", "generated replies")
    assert legend(roc) == ["better: area 0.750", "worse: area 0.250", "chance: area 0.500"]
    assert roc.axes[0].get_ylabel() == "share of human replies that pass" and "generated replies" in roc.axes[0].get_xlabel()
    calibration = plots.calibration(labels, scores, "human replies")
    assert titles(calibration) == [f"Calibration on the test split: mean gap {metrics.expected_calibration_error(labels, scores):.3f}"]
    assert [text.get_text() for text in calibration.axes[0].texts] == ["1", "1", "1", "1"]
    assert rendered(roc)[:4] == rendered(calibration)[:4] == b"\x89PNG"


# --- histograms ---------------------------------------------------------------------------------------------------------


@given(values=st.lists(st.integers(-5000, 90_000), min_size=1, max_size=50))
def test_every_karma_value_is_in_a_bin(values: list[int]) -> None:
    edges = plots.karma_edges(values)
    assert (np.diff(edges) > 0).all() and np.histogram(values, edges)[0].sum() == len(values)


def test_karma_classes() -> None:
    figure = plots.karma([-3, 0, 1, 1, 1, 2, 50, np.nan], bounds=[1, 2, 10])
    assert legend(figure) == ["0 or less: 2 (29%)", "1: 3 (43%)", "2 to 9: 1 (14%)", "10 or more: 1 (14%)"]
    assert titles(figure) == ["Karma of replies: 7, median 1"] and rendered(figure)
    assert max(bar_heights(figure)) == 3 and rendered(plots.karma([])) and rendered(plots.karma([4]))


def test_lengths() -> None:
    figure = plots.lengths({"comment": ["four", "four", "eleven char"], "reply": ["", "NA"]})
    assert legend(figure) == ["comment: 3, median 4", "reply: 2, median 2"]
    assert rendered(figure) and rendered(plots.lengths({"reply": []}))


def test_dropped_shows_each_rule_and_its_share() -> None:
    figure = plots.dropped(200, {"bot_notice": 0, "too_short": 20}, 180)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["too short", "bot notice", "kept"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["20 (10.0%)", "0 (0.0%)", "180 (90.0%)"]
    assert titles(figure) == ["200 pairs by the first rule that applies"] and rendered(figure)


def test_scores_by_label() -> None:
    figure = plots.scores_by_label({"human": [0.1, 0.3, 0.9, 1.0], "generated": [0.1, 0.2]}, threshold=0.2)
    assert legend(figure) == ["human: 4, 75% pass", "generated: 2, 50% pass", "threshold 0.2"] and rendered(figure)


def test_scores_of_candidates_are_stacked_by_verdict() -> None:
    columns = ["verdict", "realism_score", "upvote_score", "relevance_score"]
    rows = [("chosen", 0.9, 0.72, np.nan), ("kept", 0.91, 0.6, np.nan), ("refused", 0.1, np.nan, np.nan)]
    figure = plots.scores(pd.DataFrame(rows, columns=columns), 0.2)
    assert titles(figure) == ["Realism score of 3 candidates", "Upvote score of 2 candidates"]  # no panel without a ranker
    assert sorted(legend(figure)) == ["chosen: 1", "kept: 1", "refused: 1", "threshold 0.2"]
    assert sum(bar_heights(figure)) == 3 and sum(bar_heights(figure, 1)) == 2 and rendered(figure)


def test_log_likelihoods_omit_missing_values() -> None:
    rows = pd.DataFrame({"generator": ["a", "a", "b"], "log_likelihood": [-1.0, -2.0, np.nan]})
    assert legend(plots.log_likelihoods(rows)) == ["a: 2"] and rendered(plots.log_likelihoods(rows.iloc[2:]))


# --- training and pairs -------------------------------------------------------------------------------------------------


def test_losses_name_the_lowest_validation_loss() -> None:
    curve = pd.DataFrame({"step": [1, 2, 3, 4], "train_loss": [4.0, 3.0, 2.0, 1.0], "val_loss": [np.nan, 3.5, np.nan, 3.6]})
    figure = plots.losses({"gpt-2-simple": curve, "transformers": curve.assign(val_loss=np.nan)})
    assert titles(figure) == ["Loss of gpt-2-simple", "Loss of transformers"]
    assert legend(figure) == ["training, running mean", "validation, lowest 3.500 at step 2"]
    assert legend(figure, 1) == ["training, running mean"] and rendered(figure)


def test_scores_are_joined_to_pairs_by_id() -> None:
    pairs = pd.DataFrame({"chosen_id": ["t1_a", "t1_b"], "rejected_id": ["t1_b", "t1_c"]})
    scored = pd.DataFrame({"reply_id": ["t1_c", "t1_b", "t1_a"], "upvote_score": [0.3, 0.2, 0.1]})
    joined = plots.scored_pairs(pairs, scored)
    assert joined[["chosen_score", "rejected_score"]].to_numpy().tolist() == [[0.1, 0.2], [0.2, 0.3]]
    with pytest.raises(ValueError, match="1 of 2 pairs have a reply without a score"):
        plots.scored_pairs(pairs, scored.iloc[1:])


def test_accuracy_by_karma_gap() -> None:
    near = [pair(3, 0.4, 0.6, "t3_a"), pair(4, 0.6, 0.4, "t3_b"), pair(3, 0.5, 0.5, "t3_c", longer=False)]
    pairs = pd.DataFrame([*near, pair(150, 0.9, 0.1), pair(99, 0.9, 0.1), pair(100, 0.1, 0.9, longer=False)])
    table = plots.gap_accuracies(pairs)
    assert table["gap"].tolist() == ["3 to 4", "50 to 99", "100 or more"] and table["pairs"].tolist() == [3, 1, 2]
    assert table["accuracy"].tolist() == [0.5, 1.0, 0.5] and table["longer_wins"].tolist() == [pytest.approx(2 / 3), 1.0, 0.5]
    assert table.loc[0, ["low", "high"]].tolist() == [0.0, 1.0]
    figure = plots.accuracy_by_karma_gap(pairs)
    assert titles(figure) == ["Pairwise accuracy by karma gap (all 6 pairs: 0.583)"] and rendered(figure)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()][2] == "100 or more\n2 pairs"


# --- evaluation.html ----------------------------------------------------------------------------------------------------


def test_precision_recall_shows_average_precision_and_chance_level() -> None:
    labels, scores = [1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1]
    figure = plots.precision_recall({"one": (labels, scores)}, "generated")
    assert legend(figure) == ["one: 0.833", "chance: 0.500"]
    line = figure.axes[0].lines[0]
    assert line.get_xdata().tolist() == pytest.approx([0, 0.5, 0.5, 1, 1]) and line.get_ydata().tolist() == pytest.approx(
        [1, 1, 0.5, 2 / 3, 0.5]
    )
    assert rendered(figure)


def test_values_are_drawn_at_their_categories_with_intervals() -> None:
    series = {"first": {"1": (0.5, 0.4, 0.6), "2": (0.7, 0.65, 0.8)}, "second": {"2": (0.6, 0.5, 0.65)}}
    figure = plots.with_intervals({"liked": series, "real": {}}, "candidates", "win rate")
    assert titles(figure) == ["liked", "real"] and [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["1", "2"]
    first, second = figure.axes[0].containers
    assert first[0].get_ydata().tolist() == [0.5, 0.7] and second[0].get_xdata()[0] == pytest.approx(1, abs=0.1)
    (low, high), *_ = [segment[:, 1] for segment in first[2][0].get_segments()]
    assert (low, high) == pytest.approx((0.4, 0.6)) and rendered(figure)
