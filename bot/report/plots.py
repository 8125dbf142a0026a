"""What a person looks at in the notebooks and in evaluation.html: rows in, a matplotlib figure out. Pure; nothing is read, shown or kept.

A figure that a notebook is to show is the last expression of its cell.
"""

from __future__ import annotations

import io
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

if TYPE_CHECKING:  # else inside functions: `report` draws without it, half a second sooner
    import pandas as pd  # type: ignore[import-untyped]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito: told apart by all eyes
GREY = "#777777"
VERDICT_COLOURS = {Verdict.CHOSEN: COLOURS[2], Verdict.KEPT: COLOURS[5], Verdict.REFUSED: "#BBBBBB"}
KARMA_GAPS = (1, 2, 3, 5, 10, 20, 50, 100)  # least gap of each bin of accuracy_by_karma_gap; the last is open


# --- data -------------------------------------------------------------------------------------------------------------------


def lengths(texts: Mapping[str, Sequence[str]], title: str = "Length of comments and replies") -> Figure:
    """How long the texts of each name are: characters on a logarithmic axis, the median of each as a dotted line. Empty texts count as 1.

    What to look for: replies shorter than comments; a wall at the right end is a limit that cut texts off.
    """
    figure, (axes,) = _figure()
    sizes = {name: np.maximum([len(text) for text in each], 1) for name, each in texts.items()}
    longest = max((int(each.max()) for each in sizes.values() if len(each)), default=1)
    # whole numbers' own bins at the short end, where logarithmic ones would lie between two of them
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
    """How many replies (or what else `of` says) have how much karma, both on logarithmic axes; with `bounds`, each class in its colour.

    A value belongs to class i where i of the bounds are at most as large. What to look for: nearly all lie at 1 or 2, so a classifier
    that always says the largest class is often right and knows nothing.
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
    # classes may share a bin; each bin's bar shows all of them
    axes.hist(members, bins=list(edges), stacked=True, color=list(COLOURS[: len(names)]), label=labels, edgecolor="white", linewidth=0.4)
    median = f", median {np.median(known):g}" if len(known) else ""
    axes.set(
        title=f"{title}: {len(known):,}{median}", xlabel="karma (logarithmic, upwards and downwards from 0)", ylabel=f"{of} (logarithmic)"
    )
    axes.set_xscale("symlog", linthresh=2, linscale=0.5)
    if len(known):
        axes.set_yscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    if bounds:
        axes.legend(title="class by karma")
    return figure


def karma_edges(values: ArrayLike) -> np.ndarray:
    """Bins for karma: one for each whole number near 0, wider ones further out, over the values' range.

    >>> karma_edges([-1, 0, 3]).tolist()
    [-1.5, -0.5, 0.5, 1.5, 2.5, 3.5]
    """
    known = np.asarray(values, float)
    least, most = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    steps = np.unique(np.round(np.geomspace(1, max(abs(least), abs(most), 1) + 1, 40)))
    edges = np.concatenate([-steps[::-1], [0.0], steps]) - 0.5
    edges = np.unique(np.append(edges, [least - 0.5, most + 0.5]))
    return edges[(edges >= least - 0.5) & (edges <= most + 0.5)]


def dropped(read: int, dropped_rows: Mapping[str, int], kept: int) -> Figure:
    """Of the rows that `prepare` read: how many each rule dropped, the most first, and how many it kept.

    What to look for: a rule that drops far more than the others; `prepare --explain 20` shows what it took.
    """
    figure, (axes,) = _figure(height=0.8 + 0.32 * (len(dropped_rows) + 1))
    rules = sorted(dropped_rows.items(), key=lambda rule: -rule[1])
    names, counts = [*(name.replace("_", " ") for name, _ in rules), "kept"], [*(count for _, count in rules), kept]
    bars = axes.barh(names, counts, color=[COLOURS[1]] * len(rules) + [COLOURS[2]])
    axes.bar_label(bars, [f"{count:,} ({count / max(1, read):.1%})" for count in counts], padding=4, fontsize=9)
    axes.invert_yaxis()
    axes.set(title=f"Where {read:,} pairs went, by the first rule that applies", xlabel="pairs (logarithmic)")
    axes.set_xscale("symlog", linthresh=1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(0, max(counts, default=1) * 12 + 1)  # room for the numbers
    axes.grid(axis="y", visible=False)
    return figure


# --- training ---------------------------------------------------------------------------------------------------------------


def losses(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """Each model's losses.csv (step, train_loss, val_loss) in a panel of its own: steps pale, their running mean, validation as dots.

    Panels have their own axes: losses over other tokens (another vocabulary, the whole row or the reply alone) can't be compared. What to
    look for: validation that falls with training; where it turns upwards, the model begins to learn rows by heart.
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
            said = f"validation, least {best['val_loss']:.3f} at step {best['step']:,.0f}"
            axes.plot(val["step"], val["val_loss"], "o-", color=COLOURS[1], label=said, markersize=4)
        axes.set(title=f"Loss of {name}", xlabel="training step", ylabel="loss (nats, mean of a step)")
        axes.legend()
    return figure


# --- rankers ----------------------------------------------------------------------------------------------------------------


def roc_points(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The ROC curve from (0, 0) to (1, 1): share of label 0, and of label 1, that scores at least as high as each threshold in turn.

    Raises:
        ValueError: one class only.

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
    """The ROC curve of each name's (labels, scores), with its area; the dashed diagonal is chance.

    What to look for: how many of the positives pass (upwards) at the price of how many negatives (to the right).
    """
    figure, (axes,) = _figure(width=5.6, height=5.0)
    for colour, (name, (labels, scores)) in zip(COLOURS, scored.items(), strict=False):
        axes.plot(*roc_points(labels, scores), color=colour, label=f"{name}: area {metrics.roc_auc(labels, scores):.3f}")
    axes.plot([0, 1], [0, 1], linestyle="--", color=GREY, label="chance: area 0.500")
    axes.set(title="ROC curve on the test split", xlabel=f"{negative} that pass, share", ylabel=f"{positive} that pass, share")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.legend(loc="lower right")
    return figure


def precision_recall(scored: Mapping[str, tuple[ArrayLike, ArrayLike]], positive: str = "label 1") -> Figure:
    """The precision-recall curve of each name's (labels, scores), with its average precision; the dashed line is the share of positives.

    What to look for: how pure the rows are that are said to be positive (upwards), the more of the positives are found (to the right).
    """
    figure, (axes,) = _figure(width=5.6, height=5.0)
    for colour, (name, (labels, scores)) in zip(COLOURS, scored.items(), strict=False):
        precision, recall = metrics.precision_recall(labels, scores)
        area = metrics.average_precision(labels, scores)
        axes.step(np.append(0.0, recall), np.append(precision[0], precision), color=colour, label=f"{name}: {area:.3f}", where="pre")
    share = float(np.mean([np.mean(np.asarray(labels, float)) for labels, _ in scored.values()]))
    axes.axhline(share, linestyle="--", color=GREY, label=f"chance: {share:.3f}")
    axes.set(
        title="Precision and recall on the test split", xlabel=f"recall: share of {positive} found", ylabel=f"precision: {positive}, share"
    )
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.legend(loc="lower left")
    return figure


def with_intervals(
    panels: Mapping[str, Mapping[str, Mapping[str, tuple[float, float, float]]]], xlabel: str, ylabel: str, chance: float = 0.5
) -> Figure:
    """By panel and series, a value with its 95 % interval at each named place; the dashed line is chance.

    What to look for: bars of two series that don't overlap.
    """
    figure, axes_of = _figure(len(panels), width=8.5 if len(panels) == 1 else 4.6 * len(panels), height=4.8)
    for axes, (title, series) in zip(axes_of, panels.items(), strict=True):
        places = list(dict.fromkeys(place for found in series.values() for place in found))
        for number, (colour, (name, found)) in enumerate(zip(COLOURS, series.items(), strict=False)):
            at = np.array([places.index(place) for place in found]) + 0.12 * (number - (len(series) - 1) / 2)  # beside one another
            values = np.array(list(found.values())).reshape(-1, 3)
            spread = np.abs(values[:, 1:].T - values[:, 0])  # (2, places)
            axes.errorbar(at, values[:, 0], yerr=spread, fmt="o-", color=colour, capsize=2, markersize=4, linewidth=1, label=name)
        axes.axhline(chance, linestyle="--", color=GREY, linewidth=1)
        axes.set_xticks(range(len(places)), places)
        axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    if axes_of:
        axes_of[0].legend(fontsize=8)
    return figure


def calibration_bins(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> pd.DataFrame:
    """For each bin of equal width that has rows: the mean probability that was stated, the share of label 1 that was found, the rows.

    The same bins as metrics.expected_calibration_error.

    >>> calibration_bins([1, 0, 1], [.92, .98, .15]).round(2).to_dict("list")
    {'stated': [0.15, 0.95], 'found': [1.0, 0.5], 'rows': [1, 2]}
    """
    import pandas as pd

    labels, probabilities = np.asarray(labels, float), np.asarray(probabilities, float)
    frame = pd.DataFrame({"bin": np.minimum((probabilities * bins).astype(int), bins - 1), "stated": probabilities, "found": labels})
    grouped = frame.groupby("bin").agg(stated=("stated", "mean"), found=("found", "mean"), rows=("found", "size"))
    return grouped.reset_index(drop=True)


def calibration(labels: ArrayLike, probabilities: ArrayLike, positive: str = "label 1") -> Figure:
    """Stated probability against the share that was found, in ten bins; a dot's area, and the number beside it, tell the bin's rows.

    What to look for: dots on the diagonal. Below it the ranker is too sure of label 1, above it too doubtful. Dots of few rows say little.
    """
    figure, (axes,) = _figure(width=5.6, height=5.0)
    bins = calibration_bins(labels, probabilities)
    axes.plot([0, 1], [0, 1], linestyle="--", color=GREY, label="stated = found")
    axes.plot(bins["stated"], bins["found"], color=COLOURS[0], linewidth=1, alpha=0.6)
    axes.scatter(bins["stated"], bins["found"], s=20 + 180 * bins["rows"] / bins["rows"].max(), color=COLOURS[0], zorder=3)
    for stated, found, rows in bins.itertuples(index=False):
        axes.annotate(f"{rows:,.0f}", (stated, found), xytext=(9, -11), textcoords="offset points", fontsize=8, color=GREY)
    error = metrics.expected_calibration_error(labels, probabilities)
    axes.set(
        title=f"Calibration on the test split: mean gap {error:.3f}", xlabel="stated probability", ylabel=f"found: share of {positive}"
    )
    axes.set(xlim=(-0.03, 1.06), ylim=(-0.06, 1.06), aspect="equal")
    axes.legend(loc="upper left")
    return figure


def scores_by_label(scored: Mapping[str, ArrayLike], threshold: float | None = None, score: str = "realism score") -> Figure:
    """How each name's rows are scored, as shares of that name's rows, 20 bins over [0, 1]; the dashed line is the threshold.

    What to look for: two hills apart. What lies right of the threshold passes.
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
    """upvote_pairs rows with the scores of both replies (chosen_score, rejected_score), looked up by reply_id.

    Raises:
        ValueError: a reply of a pair has no score.
    """
    by_id = scored.drop_duplicates("reply_id").set_index("reply_id")[score]
    result = pairs.assign(chosen_score=pairs["chosen_id"].map(by_id), rejected_score=pairs["rejected_id"].map(by_id))
    if without := int(result[["chosen_score", "rejected_score"]].isna().any(axis=1).sum()):
        raise ValueError(f"{without:,} of {len(pairs):,} pairs have a reply without a score; score the same split")
    return result


def gap_accuracies(pairs: pd.DataFrame, gaps: Sequence[int] = KARMA_GAPS) -> pd.DataFrame:
    """Pairwise accuracy by karma gap of rows as scored_pairs makes them: columns gap, pairs, accuracy, low, high, longer_wins.

    low, high: 95 % from drawing threads again. longer_wins: the accuracy of taking the longer reply. Gaps without pairs are left out.
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
    """How often the reply with more karma has the higher score, by how much more karma it has; bars are 95 % intervals over threads.

    What to look for: a rise to the right (the further apart, the easier), dots above chance, and above the crosses: a ranker that is no
    better than «the longer reply wins» has learnt length.
    """
    figure, (axes,) = _figure()
    table = gap_accuracies(pairs)
    places = np.arange(len(table))
    spread = np.abs(table[["low", "high"]].to_numpy().T - table["accuracy"].to_numpy())  # (2, gaps)
    axes.errorbar(places, table["accuracy"], yerr=spread, fmt="o", color=COLOURS[0], capsize=4, label="ranker, 95 %")
    axes.plot(places, table["longer_wins"], "x", color=COLOURS[1], markersize=8, label="the longer reply wins")
    axes.axhline(0.5, linestyle="--", color=GREY, label="chance")
    axes.set_xticks(places, [f"{gap}\n{count:,} pairs" for gap, count in zip(table["gap"], table["pairs"], strict=True)])
    overall = metrics.pairwise_accuracy(pairs["chosen_score"], pairs["rejected_score"])
    axes.set(title=f"Pairwise accuracy by karma gap; over all {len(pairs):,} pairs {overall:.3f}", xlabel="karma gap", ylabel="accuracy")
    axes.set_ylim(min(0.4, table["low"].min() - 0.03), max(0.8, table["high"].max() + 0.03))
    axes.legend()
    return figure


# --- candidates -------------------------------------------------------------------------------------------------------------


def log_likelihoods(candidates: pd.DataFrame) -> Figure:
    """How likely its generator held each candidate: mean log-likelihood a token, by generator.

    What to look for: one hill. Candidates at the far left are noise, those at the right end worn phrases or repetitions.
    """
    figure, (axes,) = _figure()
    known = candidates.dropna(subset=["log_likelihood"])
    edges = np.histogram_bin_edges(known["log_likelihood"].to_numpy(float), bins=30) if len(known) else np.array([-1.0, 0.0])
    for colour, (name, rows) in zip(COLOURS, known.groupby("generator"), strict=False):
        axes.hist(rows["log_likelihood"], bins=list(edges), color=colour, alpha=0.6, label=f"{name}: {len(rows):,}")
    axes.set(title="How likely the generator held its candidates", xlabel="mean log-likelihood of a token (nats)", ylabel="candidates")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    if len(known):
        axes.legend()
    return figure


def scores(scored: pd.DataFrame, minimum_realism: float | None = None) -> Figure:
    """A panel for each score that a ranker gave, see `score_histogram`; scored: rows of scored.csv.

    What to look for: whether a score tells candidates apart at all, and how many the threshold (choose.minimum_realism) refuses.
    """
    given = [name for name in ("realism_score", "upvote_score", "relevance_score") if scored[name].notna().any()]
    figure, panels = _figure(max(1, len(given)), width=9.0 if len(given) < 2 else 5.2 * len(given), height=3.6)
    for axes, name in zip(panels, given, strict=False):
        members = {verdict: scored.loc[scored["verdict"] == verdict, name].dropna() for verdict in VERDICT_COLOURS}
        score_histogram(axes, name.replace("_", " "), members, minimum_realism if name == "realism_score" else None)
        axes.set_title(f"{name.replace('_', ' ').capitalize()} of {scored[name].notna().sum():,} candidates")
    return figure


def score_histogram(axes: Axes, name: str, members: Mapping[Verdict, Sequence[float]], threshold: float | None = None) -> None:
    """Candidates in 20 bins of a score over [0, 1], chosen, kept and refused on top of one another; the dashed line is the threshold."""
    labels = [f"{verdict}: {len(members[verdict]):,}" for verdict in VERDICT_COLOURS]
    stacked = [members[verdict] for verdict in VERDICT_COLOURS]
    axes.hist(stacked, bins=20, range=(0, 1), stacked=True, color=list(VERDICT_COLOURS.values()), label=labels)
    if threshold is not None:
        axes.axvline(threshold, color="black", linestyle="--", linewidth=1, label=f"threshold {threshold:g}")
    axes.set(xlabel=name, ylabel="candidates", xlim=(0, 1))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)


def score_svg(name: str, members: Mapping[Verdict, Sequence[float]], threshold: float | None = None) -> str:
    """`score_histogram` as an <svg> for a page. Black becomes the page's text colour, so that it reads on light and on dark."""
    figure, (axes,) = _figure(width=5.6, height=2.4)
    figure.set_layout_engine(None)  # which would draw everything twice
    figure.subplots_adjust(left=0.1, right=0.98, bottom=0.2, top=0.97)
    score_histogram(axes, name, members, threshold)
    written = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report"}):  # text as text; the same figure, the same ids
        figure.savefig(written, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    _, _, svg = written.getvalue().partition("<svg ")
    return f'<svg role="img" aria-label="Histogram of the {name} of candidates" {svg.replace("#000000", "currentColor")}'


# --- small helpers ------------------------------------------------------------------------------------------------------------


def _figure(panels: int = 1, width: float | None = None, height: float = 4.2) -> tuple[Figure, list[Axes]]:
    """A figure (inches) and its panels, side by side. Not pyplot's: it would be shown a second time, and kept."""
    figure = Figure(figsize=(width or (8.0 if panels == 1 else 5.6 * panels), height), layout="constrained")
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    for each in axes:
        each.grid(alpha=0.25)
        each.set_axisbelow(True)
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _span(low: float, high: float) -> str:
    """Whole numbers from low up to but not including high.

    >>> _span(2, 5), _span(2, 3), _span(20, float("inf")), _span(float("-inf"), 1)
    ('2 to 4', '2', '20 and more', '0 and less')
    """
    if high == float("inf"):
        return "all" if low == -float("inf") else f"{low:g} and more"
    if low == -float("inf"):
        return f"{high - 1:g} and less"
    return f"{low:g}" if high - low == 1 else f"{low:g} to {high - 1:g}"
