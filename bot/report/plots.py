"""Plots for the notebooks, evaluation.html and report.html: rows in, a matplotlib figure out. Pure: nothing is read, shown or written.

To show a figure in a notebook, make it the last expression of a cell.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator, PercentFormatter
from numpy.typing import ArrayLike

from bot import metrics
from bot.schema import Verdict

if TYPE_CHECKING:  # otherwise imported in functions: `report` doesn't need it and saves half a second
    import pandas as pd  # type: ignore[import-untyped]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito's palette, safe for colour blindness
GREY = "#777777"
VERDICT_COLOURS = {Verdict.CHOSEN: COLOURS[2], Verdict.KEPT: COLOURS[5], Verdict.REFUSED: "#BBBBBB"}
KARMA_GAPS = (1, 2, 3, 5, 10, 20, 50, 100)  # lower gap of each bin of accuracy_by_karma_gap; the last bin is open


# --- data ---------------------------------------------------------------------------------------------------------------


def lengths(texts: Mapping[str, Sequence[str]], title: str = "Length of comments and replies") -> Figure:
    """Histograms of text lengths in characters (logarithmic), one per name, with dotted lines at the medians. Empty texts count as 1.

    What to look for: replies shorter than comments. A sharp edge on the right is a limit at which texts were cut.
    """
    figure, (axes,) = _figure()
    sizes = {name: np.maximum([len(text) for text in each], 1) for name, each in texts.items()}
    longest = max((int(each.max()) for each in sizes.values() if len(each)), default=1)
    # rounded, because for short texts logarithmic bins would fall between whole numbers
    edges = np.unique(np.round(np.geomspace(1, max(longest, 2) + 1, 36))) - 0.5
    for colour, (name, each) in zip(COLOURS, sizes.items(), strict=False):
        if not len(each):
            continue
        median = float(np.median(each))
        axes.hist(each, bins=list(edges), histtype="stepfilled", color=colour, alpha=0.25)
        axes.hist(
            each, bins=list(edges), histtype="step", color=colour, linewidth=1.6, label=f"{name}: {len(each):,}, median {median:,.0f}"
        )
        axes.axvline(median, color=colour, linestyle=":")
    axes.set(title=title, xlabel="characters (logarithmic)", ylabel="texts", xscale="log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    if axes.patches:
        axes.legend()
    return figure


def karma(values: Sequence[float], bounds: Sequence[float] = (), title: str = "Karma of replies", of: str = "replies") -> Figure:
    """Histogram of karma, both axes logarithmic, with one colour per class. of: label for what is counted.

    bounds: lower bounds of all classes but the first. What to look for: nearly all values are 1 or 2, so a classifier that always predicts
    the largest class is often right without having learned anything.
    """
    figure, (axes,) = _figure()
    known = np.asarray(values, float)
    known = known[~np.isnan(known)]
    edges = karma_edges(known)
    classes = np.digitize(known, bounds)
    low, names = -np.inf, []
    for high in (*bounds, np.inf):
        names.append(_span(low, high))
        low = high
    members = [known[classes == index] for index in range(len(names))]
    labels = [f"{name}: {len(each):,} ({len(each) / max(1, len(known)):.0%})" for name, each in zip(names, members, strict=True)]
    # stacked, because classes may share a bin
    axes.hist(members, bins=list(edges), stacked=True, color=list(COLOURS[: len(names)]), label=labels, edgecolor="white", linewidth=0.4)
    median = f", median {np.median(known):g}" if len(known) else ""
    axes.set(title=f"{title}: {len(known):,}{median}", xlabel="karma (logarithmic in both directions from 0)", ylabel=f"{of} (logarithmic)")
    axes.set_xscale("symlog", linthresh=2, linscale=0.5)
    if len(known):
        axes.set_yscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    if bounds:
        axes.legend(title="karma class")
    return figure


def karma_edges(values: ArrayLike) -> np.ndarray:
    """Bin edges for karma over the range of the values: one bin per whole number near 0, wider ones further out.

    >>> karma_edges([-1, 0, 3]).tolist()
    [-1.5, -0.5, 0.5, 1.5, 2.5, 3.5]
    """
    known = np.asarray(values, float)
    least, most = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    steps = np.unique(np.round(np.geomspace(1, max(abs(least), abs(most), 1) + 1, 40)))
    edges = np.concatenate([-steps[::-1], [0.0], steps]) - 0.5
    edges = np.unique(np.append(edges, [least - 0.5, most + 0.5]))
    return edges[(edges >= least - 0.5) & (edges <= most + 0.5)]


def vocabulary(counts: Sequence[int], known: Sequence[bool], size: int, name: str = "the vectors") -> Figure:
    """Two panels over the words of the training texts, most frequent first: how often they occur, with the share that has a vector among
    words of similar frequency; and the share with a vector among all words up to a rank. The dashed line is the vocabulary size.

    counts: of each word. known: whether it has a vector. What to look for: where the second share begins to fall; words beyond that add
    little but unknown names and misspellings.
    """
    figure, (left, right) = _figure(2)
    ranks, has = np.arange(1, len(counts) + 1), np.asarray(known, float)
    edges = np.unique(np.linspace(0, len(counts), 101).round().astype(int))
    shares = [has[low:high].mean() for low, high in itertools.pairwise(edges)]
    left.plot(ranks, counts, color=COLOURS[0])
    left.set(title="Frequency and coverage", xlabel="rank of the word", ylabel="occurrences (logarithmic)", yscale="log")
    left.yaxis.label.set_color(COLOURS[0])
    beside = left.twinx()
    beside.bar(edges[:-1], shares, width=np.diff(edges), align="edge", color=COLOURS[1], alpha=0.25)
    beside.set(ylim=(0, 1), ylabel=f"share of these words in {name}")
    beside.yaxis.label.set_color(COLOURS[1])
    cumulative = np.cumsum(has) / ranks
    right.plot(ranks, cumulative, color=COLOURS[1])
    lowest = float(cumulative[len(cumulative) // 100 :].min()) if len(cumulative) else 0.0
    right.set(title=f"Cumulative: {size:,} words chosen", xlabel="rank of the word", ylabel=f"share of words up to here in {name}")
    right.set_ylim(max(0.0, lowest - 0.02), 1.005)
    for axes in (left, right):
        axes.axvline(size, color="black", linestyle="--", linewidth=1)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    return figure


def dropped(read: int, dropped_rows: Mapping[str, int], kept: int) -> Figure:
    """Bar chart of the rows that `prepare` read: how many each rule dropped, most first, and how many were kept.

    What to look for: a rule that drops far more than the others; `prepare --explain 20` shows examples.
    """
    figure, (axes,) = _figure(height=0.8 + 0.32 * (len(dropped_rows) + 1))
    rules = sorted(dropped_rows.items(), key=lambda rule: -rule[1])
    names, counts = [*(name.replace("_", " ") for name, _ in rules), "kept"], [*(count for _, count in rules), kept]
    bars = axes.barh(names, counts, color=[COLOURS[1]] * len(rules) + [COLOURS[2]])
    axes.bar_label(bars, [f"{count:,} ({count / max(1, read):.1%})" for count in counts], padding=4, fontsize=9)
    axes.invert_yaxis()
    axes.set(title=f"{read:,} pairs by the first rule that applies", xlabel="pairs (logarithmic)")
    axes.set_xscale("symlog", linthresh=1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(0, max(counts, default=1) * 12 + 1)  # room for the labels
    axes.grid(axis="y", visible=False)
    return figure


# --- training -----------------------------------------------------------------------------------------------------------


def losses(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """Loss curves, one panel per model (rows of losses.csv): training loss with its running mean, and validation loss.

    The panels have separate axes, because losses over different tokens (another vocabulary, whole rows or replies only) are not comparable.
    What to look for: validation loss that falls with the training loss. Where it rises again, the model starts to overfit.
    """
    figure, panels = _figure(len(curves))
    for axes, (name, curve) in zip(panels, curves.items(), strict=True):
        train = curve.dropna(subset=["train_loss"])
        smooth = train["train_loss"].rolling(max(1, min(50, len(train) // 8)), min_periods=1).mean()
        axes.plot(train["step"], train["train_loss"], color=COLOURS[0], alpha=0.25, linewidth=0.8)
        axes.plot(train["step"], smooth, color=COLOURS[0], label="training, running mean")
        val = curve.dropna(subset=["val_loss"])
        if len(val):
            best = val.loc[val["val_loss"].idxmin()]
            label = f"validation, lowest {best['val_loss']:.3f} at step {best['step']:,.0f}"
            axes.plot(val["step"], val["val_loss"], "o-", color=COLOURS[1], label=label, markersize=4)
        axes.set(title=f"Loss of {name}", xlabel="training step", ylabel="loss (nats, mean of a step)")
        axes.legend()
    return figure


# --- rankers ------------------------------------------------------------------------------------------------------------


def roc_points(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The ROC curve from (0, 0) to (1, 1): false positive rates and true positive rates for each threshold, descending.

    Raises:
        ValueError: all labels are equal.

    >>> [each.tolist() for each in roc_points([1, 0, 1, 0], [.9, .8, .8, .1])]
    [[0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0]]
    """
    labels, scores = np.asarray(labels, bool), np.asarray(scores, float)
    if labels.all() or not labels.any():
        raise ValueError("a ROC curve needs rows of both labels")
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    true = np.cumsum(labels[order])[last_of_tie] / labels.sum()
    false = np.cumsum(~labels[order])[last_of_tie] / (~labels).sum()
    return np.append(0.0, false), np.append(0.0, true)


def roc(scored: Mapping[str, tuple[ArrayLike, ArrayLike]], positive: str = "label 1", negative: str = "label 0") -> Figure:
    """ROC curves with their areas, one per name. scored: name -> (labels, scores). The dashed diagonal is chance level.

    What to look for: the share of positives that pass (upwards) and the share of negatives that pass with them (to the right).
    """
    figure, (axes,) = _figure(width=5.6, height=5.0)
    for colour, (name, (labels, scores)) in zip(COLOURS, scored.items(), strict=False):
        axes.plot(*roc_points(labels, scores), color=colour, label=f"{name}: area {metrics.roc_auc(labels, scores):.3f}")
    axes.plot([0, 1], [0, 1], linestyle="--", color=GREY, label="chance: area 0.500")
    axes.set(title="ROC curve on the test split", xlabel=f"share of {negative} that pass", ylabel=f"share of {positive} that pass")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.legend(loc="lower right")
    return figure


def precision_recall(scored: Mapping[str, tuple[ArrayLike, ArrayLike]], positive: str = "label 1") -> Figure:
    """Precision-recall curves with their average precision, one per name. scored: name -> (labels, scores).

    The dashed line is chance level, the share of positives. What to look for: how precision (upwards) falls as more of the positives are
    found (to the right).
    """
    figure, (axes,) = _figure(width=5.6, height=5.0)
    for colour, (name, (labels, scores)) in zip(COLOURS, scored.items(), strict=False):
        precision, recall = metrics.precision_recall(labels, scores)
        area = metrics.average_precision(labels, scores)
        axes.step(np.append(0.0, recall), np.append(precision[0], precision), color=colour, label=f"{name}: {area:.3f}", where="pre")
    share = float(np.mean([np.mean(np.asarray(labels, float)) for labels, _ in scored.values()]))
    axes.axhline(share, linestyle="--", color=GREY, label=f"chance: {share:.3f}")
    axes.set(
        title="Precision and recall on the test split",
        xlabel=f"recall: share of {positive} found",
        ylabel=f"precision: share of {positive} among those found",
    )
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.legend(loc="lower left")
    return figure


def with_intervals(
    panels: Mapping[str, Mapping[str, Mapping[str, tuple[float, float, float]]]], xlabel: str, ylabel: str, chance: float = 0.5
) -> Figure:
    """Values with 95 % intervals. panels: title -> series -> category on the x axis -> (value, low, high). The dashed line is chance level.

    What to look for: intervals of two series that don't overlap.
    """
    figure, axes_of = _figure(len(panels), width=8.5 if len(panels) == 1 else 4.6 * len(panels), height=4.8)
    for axes, (title, series) in zip(axes_of, panels.items(), strict=True):
        categories = list(dict.fromkeys(category for points in series.values() for category in points))
        for index, (colour, (name, points)) in enumerate(zip(COLOURS, series.items(), strict=False)):
            x = np.array([categories.index(category) for category in points]) + 0.12 * (index - (len(series) - 1) / 2)  # side by side
            values = np.array(list(points.values())).reshape(-1, 3)
            errors = np.abs(values[:, 1:].T - values[:, 0])  # (2, points)
            axes.errorbar(x, values[:, 0], yerr=errors, fmt="o-", color=colour, capsize=2, markersize=4, linewidth=1, label=name)
        axes.axhline(chance, linestyle="--", color=GREY, linewidth=1)
        axes.set_xticks(range(len(categories)), categories)
        axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    if axes_of:
        axes_of[0].legend(fontsize=8)
    return figure


def side_by_side(panels: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> Figure:
    """One panel per measure, three in a row, with a line per model. panels: measure -> model -> (value, low, high).

    What to look for: intervals of two models that don't overlap.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    tallest = max(map(len, panels.values()))
    figure = Figure(figsize=(4.4 * columns, rows * (1.0 + 0.3 * tallest)), layout="constrained")
    every = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (title, models) in zip(every, panels.items(), strict=False):
        values = np.array(list(models.values()), float).reshape(-1, 3)
        errors = np.abs(values[:, 1:].T - values[:, 0])  # (2, models)
        axes.errorbar(values[:, 0], range(len(models)), xerr=errors, fmt="o", color=COLOURS[0], capsize=2, markersize=4, linewidth=1)
        axes.set_yticks(range(len(models)), list(models))
        axes.invert_yaxis()
        axes.set_title(title)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in every[len(panels) :]:
        axes.set_axis_off()
    return figure


def calibration_bins(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> pd.DataFrame:
    """For each non-empty bin of equal width: mean predicted probability, observed share of label 1, number of rows.

    The bins are those of metrics.expected_calibration_error.

    >>> calibration_bins([1, 0, 1], [.92, .98, .15]).round(2).to_dict("list")
    {'predicted': [0.15, 0.95], 'observed': [1.0, 0.5], 'rows': [1, 2]}
    """
    import pandas as pd

    labels, probabilities = np.asarray(labels, float), np.asarray(probabilities, float)
    frame = pd.DataFrame({"bin": np.minimum((probabilities * bins).astype(int), bins - 1), "predicted": probabilities, "observed": labels})
    grouped = frame.groupby("bin").agg(predicted=("predicted", "mean"), observed=("observed", "mean"), rows=("observed", "size"))
    return grouped.reset_index(drop=True)


def calibration(labels: ArrayLike, probabilities: ArrayLike, positive: str = "label 1") -> Figure:
    """Calibration plot: predicted probability against observed share, in ten bins. A dot's area and label show the rows in its bin.

    What to look for: dots on the diagonal. Below it the predictions are too high, above it too low. Dots of few rows mean little.
    """
    figure, (axes,) = _figure(width=5.6, height=5.0)
    bins = calibration_bins(labels, probabilities)
    axes.plot([0, 1], [0, 1], linestyle="--", color=GREY, label="perfect calibration")
    axes.plot(bins["predicted"], bins["observed"], color=COLOURS[0], linewidth=1, alpha=0.6)
    axes.scatter(bins["predicted"], bins["observed"], s=20 + 180 * bins["rows"] / bins["rows"].max(), color=COLOURS[0], zorder=3)
    for predicted, observed, rows in bins.itertuples(index=False):
        axes.annotate(f"{rows:,.0f}", (predicted, observed), xytext=(9, -11), textcoords="offset points", fontsize=8, color=GREY)
    error = metrics.expected_calibration_error(labels, probabilities)
    axes.set(
        title=f"Calibration on the test split: mean gap {error:.3f}",
        xlabel="predicted probability",
        ylabel=f"observed share of {positive}",
    )
    axes.set(xlim=(-0.03, 1.06), ylim=(-0.06, 1.06), aspect="equal")
    axes.legend(loc="upper left")
    return figure


def scores_by_label(scored: Mapping[str, ArrayLike], threshold: float | None = None, score: str = "realism score") -> Figure:
    """Histograms of scores, one per name, as shares of the rows of that name, in 20 bins over [0, 1]. The dashed line is the threshold.

    What to look for: two separate peaks. Rows to the right of the threshold pass.
    """
    figure, (axes,) = _figure()
    for colour, (name, values) in zip(COLOURS, scored.items(), strict=False):
        values = np.asarray(values, float)
        passing = "" if threshold is None else f", {np.mean(values >= threshold):.0%} pass"
        weights = np.full(len(values), 1 / max(1, len(values)))
        style: dict[str, Any] = {"bins": 20, "range": (0, 1), "weights": weights, "color": colour}
        axes.hist(values, histtype="stepfilled", alpha=0.25, **style)
        axes.hist(values, histtype="step", linewidth=1.6, label=f"{name}: {len(values):,}{passing}", **style)
    if threshold is not None:
        axes.axvline(threshold, color="black", linestyle="--", linewidth=1, label=f"threshold {threshold:g}")
    axes.set(title=f"{score.capitalize()} on the test split", xlabel=score, ylabel="share of the rows", xlim=(0, 1))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.legend()
    return figure


def scored_pairs(pairs: pd.DataFrame, scored: pd.DataFrame, score: str = "upvote_score") -> pd.DataFrame:
    """Rows of upvote_pairs with the scores of both replies (columns chosen_score, rejected_score), looked up by reply_id.

    Raises:
        ValueError: a reply of a pair has no score.
    """
    by_id = scored.drop_duplicates("reply_id").set_index("reply_id")[score]
    result = pairs.assign(chosen_score=pairs["chosen_id"].map(by_id), rejected_score=pairs["rejected_id"].map(by_id))
    if missing := int(result[["chosen_score", "rejected_score"]].isna().any(axis=1).sum()):
        raise ValueError(f"{missing:,} of {len(pairs):,} pairs have a reply without a score; score the same split")
    return result


def gap_accuracies(pairs: pd.DataFrame, gaps: Sequence[int] = KARMA_GAPS) -> pd.DataFrame:
    """Pairwise accuracy by karma gap, for rows of scored_pairs. Columns: gap, pairs, accuracy, low, high, longer_wins.

    low, high: 95 % interval from a bootstrap over threads. longer_wins: the accuracy of picking the longer reply. Gaps without pairs are
    omitted.
    """
    import pandas as pd

    rows = []
    for low, high in zip(gaps, (*gaps[1:], float("inf")), strict=True):
        inside = pairs[(pairs["karma_gap"] >= low) & (pairs["karma_gap"] < high)]
        if not len(inside):
            continue
        chosen, rejected = inside["chosen_score"].to_numpy(float), inside["rejected_score"].to_numpy(float)
        interval = metrics.bootstrap_interval(
            lambda i, a=chosen, b=rejected: metrics.pairwise_accuracy(a[i], b[i]),  # type: ignore[misc]
            list(inside["thread_id"]),
        )
        longer = metrics.pairwise_accuracy(inside["chosen"].str.len(), inside["rejected"].str.len())
        rows.append((_span(low, high), len(inside), metrics.pairwise_accuracy(chosen, rejected), *interval, longer))
    return pd.DataFrame(rows, columns=["gap", "pairs", "accuracy", "low", "high", "longer_wins"])


def accuracy_by_karma_gap(pairs: pd.DataFrame) -> Figure:
    """How often the reply with more karma has the higher score, by karma gap, with 95 % intervals over threads.

    What to look for: a rise to the right (larger gaps are easier), and dots above chance level and above the crosses. A ranker that is no
    better than picking the longer reply has only learned length.
    """
    figure, (axes,) = _figure()
    table = gap_accuracies(pairs)
    x = np.arange(len(table))
    errors = np.abs(table[["low", "high"]].to_numpy().T - table["accuracy"].to_numpy())  # (2, gaps)
    axes.errorbar(x, table["accuracy"], yerr=errors, fmt="o", color=COLOURS[0], capsize=4, label="ranker, 95 % interval")
    axes.plot(x, table["longer_wins"], "x", color=COLOURS[1], markersize=8, label="longer reply wins")
    axes.axhline(0.5, linestyle="--", color=GREY, label="chance")
    axes.set_xticks(x, [f"{gap}\n{count:,} pairs" for gap, count in zip(table["gap"], table["pairs"], strict=True)])
    overall = metrics.pairwise_accuracy(pairs["chosen_score"], pairs["rejected_score"])
    axes.set(title=f"Pairwise accuracy by karma gap (all {len(pairs):,} pairs: {overall:.3f})", xlabel="karma gap", ylabel="accuracy")
    axes.set_ylim(min(0.4, table["low"].min() - 0.03), max(0.8, table["high"].max() + 0.03))
    axes.legend()
    return figure


# --- candidates ---------------------------------------------------------------------------------------------------------


def log_likelihoods(candidates: pd.DataFrame) -> Figure:
    """Histogram of the candidates' mean log-likelihood per token, by generator.

    What to look for: a single peak. Candidates at the far left are noise, those at the far right are stock phrases or repetitions.
    """
    figure, (axes,) = _figure()
    known = candidates.dropna(subset=["log_likelihood"])
    edges = np.histogram_bin_edges(known["log_likelihood"].to_numpy(float), bins=30) if len(known) else np.array([-1.0, 0.0])
    for colour, (name, rows) in zip(COLOURS, known.groupby("generator"), strict=False):
        axes.hist(rows["log_likelihood"], bins=list(edges), color=colour, alpha=0.6, label=f"{name}: {len(rows):,}")
    axes.set(title="Log-likelihood of the candidates", xlabel="mean log-likelihood per token (nats)", ylabel="candidates")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    if len(known):
        axes.legend()
    return figure


def scores(scored: pd.DataFrame, minimum_realism: float | None = None) -> Figure:
    """Histograms of the rankers' scores, one panel per score (see `score_histogram`). scored: rows of scored.csv.

    What to look for: whether a score separates candidates at all, and how many the threshold (choose.minimum_realism) refuses.
    """
    names = ("realism_score", "upvote_score", "relevance_score", "choice_score")
    present = [name for name in names if name in scored and scored[name].notna().any()]  # older files have no choice_score
    figure, panels = _figure(max(1, len(present)), width=9.0 if len(present) < 2 else 5.2 * len(present), height=3.6)
    for axes, name in zip(panels, present, strict=False):
        members = {verdict: scored.loc[scored["verdict"] == verdict, name].dropna() for verdict in VERDICT_COLOURS}
        score_histogram(axes, name.replace("_", " "), members, minimum_realism if name == "realism_score" else None)
        axes.set_title(f"{name.replace('_', ' ').capitalize()} of {scored[name].notna().sum():,} candidates")
    return figure


def score_histogram(axes: Axes, name: str, members: Mapping[Verdict, Sequence[float]], threshold: float | None = None) -> None:
    """Histogram of a score in 20 bins over [0, 1], stacked by verdict. The dashed line is the threshold."""
    labels = [f"{verdict}: {len(members[verdict]):,}" for verdict in VERDICT_COLOURS]
    stacked = [members[verdict] for verdict in VERDICT_COLOURS]
    axes.hist(stacked, bins=20, range=(0, 1), stacked=True, color=list(VERDICT_COLOURS.values()), label=labels)
    if threshold is not None:
        axes.axvline(threshold, color="black", linestyle="--", linewidth=1, label=f"threshold {threshold:g}")
    axes.set(xlabel=name, ylabel="candidates", xlim=(0, 1))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)


def score_svg(name: str, members: Mapping[Verdict, Sequence[float]], threshold: float | None = None) -> str:
    """`score_histogram` as an <svg> element. Black becomes the text colour of the page, for light and dark mode."""
    figure, (axes,) = _figure(width=5.6, height=2.4)
    figure.set_layout_engine(None)  # constrained layout takes twice the time
    figure.subplots_adjust(left=0.1, right=0.98, bottom=0.2, top=0.97)
    score_histogram(axes, name, members, threshold)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report"}):  # text as text; reproducible ids
        figure.savefig(buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    _, _, svg = buffer.getvalue().partition("<svg ")
    return f'<svg role="img" aria-label="Histogram of the {name} of candidates" {svg.replace("#000000", "currentColor")}'


# --- helpers ------------------------------------------------------------------------------------------------------------


def _figure(panels: int = 1, width: float | None = None, height: float = 4.2) -> tuple[Figure, list[Axes]]:
    """A figure (size in inches) and its panels, side by side. Without pyplot, which would show it twice in a notebook and keep it."""
    figure = Figure(figsize=(width or (8.0 if panels == 1 else 5.6 * panels), height), layout="constrained")
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    for each in axes:
        each.grid(alpha=0.25)
        each.set_axisbelow(True)
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _span(low: float, high: float) -> str:
    """Label for the whole numbers from low up to, but not including, high.

    >>> _span(2, 5), _span(2, 3), _span(20, float("inf")), _span(float("-inf"), 1)
    ('2 to 4', '2', '20 or more', '0 or less')
    """
    if high == float("inf"):
        return "all" if low == -float("inf") else f"{low:g} or more"
    if low == -float("inf"):
        return f"{high - 1:g} or less"
    return f"{low:g}" if high - low == 1 else f"{low:g} to {high - 1:g}"
