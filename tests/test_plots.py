"""bot.report.plots: what stands in a figure, against figures found in another way; that it can be drawn at all."""

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


def drawn(figure: Figure) -> bytes:
    """The figure as a PNG, as a notebook makes it."""
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


# --- curves ---------------------------------------------------------------------------------------------------------------------


@given(rows=LABELLED)
def test_roc_points_are_sklearns(rows: list[tuple[bool, float]]) -> None:
    labels, scores = zip(*rows, strict=True)
    assume(len(set(labels)) == 2)
    false, true = plots.roc_points(labels, scores)
    expected_false, expected_true, _ = sklearn_metrics.roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose([false, true], [expected_false, expected_true])
    assert np.trapezoid(true, false) == pytest.approx(metrics.roc_auc(labels, scores))


@pytest.mark.parametrize("labels", [[1, 1], [0, 0]])
def test_a_roc_curve_of_one_class_is_refused(labels: list[int]) -> None:
    with pytest.raises(ValueError, match="both labels"):
        plots.roc_points(labels, [0.1, 0.9])


@given(rows=LABELLED)
def test_calibration_bins_are_sklearns_and_give_the_error(rows: list[tuple[bool, float]]) -> None:
    labels, probabilities = zip(*rows, strict=True)
    assume(not any(0 < p < 1 and p * 10 == round(p * 10) for p in probabilities))  # sklearn puts an edge into the bin below
    bins = plots.calibration_bins(labels, probabilities)
    found, stated = calibration_curve(labels, probabilities, n_bins=10)
    np.testing.assert_allclose(bins[["found", "stated"]].to_numpy().T, [found, stated])
    assert bins["rows"].sum() == len(labels)
    gap = float((bins["rows"] * (bins["found"] - bins["stated"]).abs()).sum() / len(labels))
    assert gap == pytest.approx(metrics.expected_calibration_error(labels, probabilities))


def test_roc_and_calibration_say_their_figures() -> None:
    labels, scores = [1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1]
    roc = plots.roc({"ours": (labels, scores), "worse": (labels, [0.1, 0.2, 0.3, 0.4])}, "people's", "generated")
    assert legend(roc) == ["ours: area 0.750", "worse: area 0.250", "chance: area 0.500"]
    assert roc.axes[0].get_ylabel().startswith("people's") and roc.axes[0].get_xlabel().startswith("generated")
    calibration = plots.calibration(labels, scores, "people's")
    assert titles(calibration) == [f"Calibration on the test split: mean gap {metrics.expected_calibration_error(labels, scores):.3f}"]
    assert [text.get_text() for text in calibration.axes[0].texts] == ["1", "1", "1", "1"]
    assert drawn(roc)[:4] == drawn(calibration)[:4] == b"\x89PNG"


# --- histograms -----------------------------------------------------------------------------------------------------------------


@given(values=st.lists(st.integers(-5000, 90_000), min_size=1, max_size=50))
def test_every_karma_lies_in_a_bin(values: list[int]) -> None:
    edges = plots.karma_edges(values)
    assert (np.diff(edges) > 0).all() and np.histogram(values, edges)[0].sum() == len(values)


def test_karma_classes() -> None:
    figure = plots.karma([-3, 0, 1, 1, 1, 2, 50, np.nan], bounds=[1, 2, 10])
    assert legend(figure) == ["0 and less: 2 (29%)", "1: 3 (43%)", "2 to 9: 1 (14%)", "10 and more: 1 (14%)"]
    assert titles(figure) == ["Karma of replies: 7, median 1"] and drawn(figure)
    assert max(bar_heights(figure)) == 3 and drawn(plots.karma([])) and drawn(plots.karma([4]))


def test_lengths() -> None:
    figure = plots.lengths({"comment": ["four", "four", "eleven char"], "reply": ["", "NA"]})
    assert legend(figure) == ["comment: 3, median 4", "reply: 2, median 2"]
    assert drawn(figure) and drawn(plots.lengths({"reply": []}))


def test_dropped_shows_each_rule_and_its_share() -> None:
    figure = plots.dropped(200, {"bot_notice": 0, "too_short": 20}, 180)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["too short", "bot notice", "kept"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["20 (10.0%)", "0 (0.0%)", "180 (90.0%)"]
    assert titles(figure) == ["Where 200 pairs went, by the first rule that applies"] and drawn(figure)


def test_scores_by_label() -> None:
    figure = plots.scores_by_label({"people's": [0.1, 0.3, 0.9, 1.0], "generated": [0.1, 0.2]}, threshold=0.2)
    assert legend(figure) == ["people's: 4, 75% pass", "generated: 2, 50% pass", "threshold 0.2"] and drawn(figure)


def test_scores_of_candidates_stand_on_one_another_by_verdict() -> None:
    columns = ["verdict", "realism_score", "upvote_score", "relevance_score"]
    rows = [("chosen", 0.9, 0.72, np.nan), ("kept", 0.91, 0.6, np.nan), ("refused", 0.1, np.nan, np.nan)]
    figure = plots.scores(pd.DataFrame(rows, columns=columns), 0.2)
    assert titles(figure) == ["Realism score of 3 candidates", "Upvote score of 2 candidates"]  # no panel without a ranker
    assert legend(figure) == ["threshold 0.2", "chosen: 1", "kept: 1", "refused: 1"] or legend(figure)[-1] == "threshold 0.2"
    assert sum(bar_heights(figure)) == 3 and sum(bar_heights(figure, 1)) == 2 and drawn(figure)


def test_log_likelihoods_leave_out_what_a_back_end_cannot_tell() -> None:
    rows = pd.DataFrame({"generator": ["a", "a", "b"], "log_likelihood": [-1.0, -2.0, np.nan]})
    assert legend(plots.log_likelihoods(rows)) == ["a: 2"] and drawn(plots.log_likelihoods(rows.iloc[2:]))


# --- training and pairs -----------------------------------------------------------------------------------------------------------


def test_losses_name_the_best_validation() -> None:
    curve = pd.DataFrame({"step": [1, 2, 3, 4], "train_loss": [4.0, 3.0, 2.0, 1.0], "val_loss": [np.nan, 3.5, np.nan, 3.6]})
    figure = plots.losses({"gpt-2-simple": curve, "transformers": curve.assign(val_loss=np.nan)})
    assert titles(figure) == ["Loss of gpt-2-simple", "Loss of transformers"]
    assert legend(figure) == ["training, running mean", "validation, least 3.500 at step 2"]
    assert legend(figure, 1) == ["training, running mean"] and drawn(figure)


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
    assert table["gap"].tolist() == ["3 to 4", "50 to 99", "100 and more"] and table["pairs"].tolist() == [3, 1, 2]
    assert table["accuracy"].tolist() == [0.5, 1.0, 0.5] and table["longer_wins"].tolist() == [pytest.approx(2 / 3), 1.0, 0.5]
    assert table.loc[0, ["low", "high"]].tolist() == [0.0, 1.0]
    figure = plots.accuracy_by_karma_gap(pairs)
    assert titles(figure) == ["Pairwise accuracy by karma gap; over all 6 pairs 0.583"] and drawn(figure)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()][2] == "100 and more\n2 pairs"


# --- evaluation.html ------------------------------------------------------------------------------------------------------------


def test_precision_recall_says_average_precision_and_chance() -> None:
    labels, scores = [1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1]
    figure = plots.precision_recall({"one": (labels, scores)}, "generated")
    assert legend(figure) == ["one: 0.833", "chance: 0.500"]
    line = figure.axes[0].lines[0]
    assert line.get_xdata().tolist() == pytest.approx([0, 0.5, 0.5, 1, 1]) and line.get_ydata().tolist() == pytest.approx(
        [1, 1, 0.5, 2 / 3, 0.5]
    )
    assert drawn(figure)


def test_values_stand_at_their_places_with_their_intervals() -> None:
    series = {"ours": {"1": (0.5, 0.4, 0.6), "2": (0.7, 0.65, 0.8)}, "theirs": {"2": (0.6, 0.5, 0.65)}}
    figure = plots.with_intervals({"liked": series, "real": {}}, "candidates", "win rate")
    assert titles(figure) == ["liked", "real"] and [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["1", "2"]
    ours, theirs = figure.axes[0].containers
    assert ours[0].get_ydata().tolist() == [0.5, 0.7] and theirs[0].get_xdata()[0] == pytest.approx(1, abs=0.1)
    (low, high), *_ = [segment[:, 1] for segment in ours[2][0].get_segments()]
    assert (low, high) == pytest.approx((0.4, 0.6)) and drawn(figure)
