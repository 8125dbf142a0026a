"""The page of an evaluation: the content of metrics.json as tables, with plots. A single self-contained file without scripts.

`evaluate` calls `write`; the template is evaluation.html.j2.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from bot import files
from bot.evaluate import measures
from bot.evaluate.choices import NEAR_VERBATIM, SHORT_WORDS, STRATEGIES
from bot.evaluate.judges import JUDGES
from bot.evaluate.measures import ScoredRows
from bot.evaluate.upvote import WITH_TIME, pair_probabilities
from bot.report import plots
from bot.report.report import templates

# --- labels -----------------------------------------------------------------------------------------------------------
# Name in metrics.json -> (label for tables, explanation).

SCORERS = {
    "ranker": ("ranker", "the bot's ranker"),
    "tfidf": ("TF-IDF", "logistic regression on TF-IDF of words and word pairs, fitted on the ranker's training rows"),
    "generator_likelihood": (
        "generator likelihood",
        "mean log-likelihood of the reply's tokens under the bot's generator; for realism, a less likely reply counts as more real",
    ),
    "untuned_encoder": ("untuned encoder", "cosine similarity of comment and reply under the ranker's base before training"),
    "longer_wins": ("longer wins", "more characters"),
    "earlier_wins": ("earlier wins", "only pairs whose times are known"),
    WITH_TIME: (
        "ranker with time",
        "the ranker's log-odds plus the log-odds that the earlier reply wins. Shows how much of karma is due to time, which candidates"
        " don't have; not a baseline",
    ),
    "always_real": ("always human", "predicts human for every reply"),
    "longer_is_real": ("longer is human", "more characters"),
    "longest": ("longest", "most characters"),
    "majority": ("majority", "predicts the most frequent class of the training rows"),
    "judge": ("judge", "see below"),
    "rank_score": ("rank_score", "the combined score by which `choose` orders candidates"),
    "realism_score": ("realism_score", ""),
    "upvote_score": ("upvote_score", ""),
    "relevance_score": ("relevance_score", ""),
}
MEASURES = {
    "pairwise_accuracy": ("pairwise accuracy", "share of pairs whose better reply scores higher, a tie counting half; chance level 0.5"),
    "behind_ranker": ("behind ranker", "pairwise accuracy of the ranker minus that of this scorer, on the same pairs"),
    "accuracy": ("accuracy", "share of correct predictions at a threshold of 0.5"),
    "precision": ("precision", "share of human replies among those predicted to be human"),
    "recall": ("recall", "share of human replies that are predicted to be human"),
    "f1": ("F1", "harmonic mean of precision and recall"),
    "balanced_accuracy": ("balanced accuracy", "mean of the accuracies on human and on generated replies; chance level 0.5"),
    "roc_auc": ("ROC-AUC", "probability that a human reply scores above a generated one; chance level 0.5"),
    "pr_auc_generated": ("PR-AUC", "average precision of finding generated replies; chance level is their share"),
    "calibration_error": ("calibration error", "mean gap between predicted probability and observed share, ten bins; lower is better"),
    "macro_precision": ("macro precision", "mean over the classes"),
    "macro_recall": ("macro recall", "mean over the classes"),
    "macro_f1": ("macro F1", "mean over the classes"),
    "roc_auc_cuts": ("ROC-AUC", "probability that the reply of the higher class scores higher, mean over the cuts between classes"),
    "hits_at_1": ("hits@1", "share of comments whose own reply scores highest in its list; a tie counts as a miss"),
    "answered": ("comments", "number of comments with a pick"),
    "near_verbatim": (
        "near-verbatim",
        f"share of picks that are nearly identical (edit ratio {NEAR_VERBATIM} of 100) to a candidate of another comment; lower is better",
    ),
    "echo": ("echo", "share of picks that repeat three consecutive words of the comment"),
    "short": ("short", f"share of picks with at most {SHORT_WORDS} words"),
    "median_words": ("median words", "median number of words of the picks"),
    "distinct_1": ("distinct-1", "share of distinct words in all words of the picks; it falls with the amount of text"),
    "distinct_2": ("distinct-2", "the same for word pairs"),
    **{name: (name, f"win rate by the judge “{question}?”: share of the other candidates that it scores lower")
       for name, (_, question) in JUDGES.items()},
}  # fmt: skip
SUBSETS = {
    "all": "all",
    "gap_5": "karma gap of at least 5",
    "gap_20": "karma gap of at least 20",
    "dialogrpt": "DialogRPT's rule: karma gap of at least 20, ranks half apart",
    "shp": "SHP's rule: the later reply has twice the karma",
    "like_length": "lengths within 20 %",
    "like_length_gap_20": "lengths within 20 %, karma gap of at least 20",
    "random_100": "1 of 100, random distractors",
    "random_10": "1 of 10, random distractors",
    "hard_10": "1 of 10, most similar distractors",
}
TARGETS = {"upvote": 0.70, "left_out": 0.60, "relevance": 0.50, "stock": 0.90}


# --- tables -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """columns: (label, explanation). rows: (label, note, highlighted, cells as (value, interval)). own_column: column to highlight."""

    columns: list[tuple[str, str]]
    rows: list[tuple[str, str, bool, list[tuple[str, str]]]]
    own_column: int = -1


def cell(value: Any) -> tuple[str, str]:
    """A number or (value, low, high) as text: value and interval.

    >>> cell((0.5, 0.41, 0.6)), cell(12), cell(None)
    (('0.500', '0.410 – 0.600'), ('12', ''), ('–', ''))
    """
    if value is None:
        return "–", ""
    if isinstance(value, int):
        return f"{value:,}", ""
    if isinstance(value, float):
        return f"{value:.3f}", ""
    middle, low, high = value
    return f"{middle:.3f}", f"{low:.3f} – {high:.3f}"


def scorer(name: str) -> tuple[str, str]:
    """Label and explanation of a scorer. Names that are not in SCORERS are rankers given with --beside."""
    return SCORERS.get(name, (name, "another upvote ranker, for comparison"))


def by_scorer(content: Mapping[str, Any]) -> Table:
    """One row per scorer, one column per measure."""
    scorers = measures.scorers_of(content)
    present = list(dict.fromkeys(name for values in scorers.values() for name in values if name in MEASURES))
    rows = []
    for name, values in scorers.items():
        count = next((f"{values[each]:,} {each}" for each in ("rows", "pairs") if each in values), "")
        rows.append((scorer(name)[0], count, name in ("ranker", "rank_score"), [cell(values.get(measure)) for measure in present]))
    return Table([MEASURES[name] for name in present], rows)


def by_subset(measured: Mapping[str, Any], names: Iterable[str], measure: str) -> Table:
    """One row per subset, one column per scorer."""
    names = list(names)
    scorers = list(dict.fromkeys(each for name in names for each in measures.scorers_of(measured[name])))
    rows = []
    for name in names:
        content = measured[name]
        size = next(f"{content[each]:,} {each}" for each in ("pairs", "queries", "rows") if each in content)
        cells = []
        for values in (content.get(each, {}) for each in scorers):
            value, interval = cell(values.get(measure))
            count = next((values[each] for each in ("rows", "pairs") if each in values), None)
            cells.append((value, f"{interval} ({count:,})" if count and interval else interval))
        rows.append((subset_name(name), size + (", unseen in training" if content.get("unseen_in_training") else ""), False, cells))
    return Table([scorer(each) for each in scorers], rows, scorers.index("ranker") if "ranker" in scorers else -1)


def subset_name(name: str) -> str:
    """Label of a subset.

    >>> subset_name("r/College_gap_20"), subset_name("gap_5"), subset_name("generator transformers:lm")
    ('r/College, karma gap of at least 20', 'karma gap of at least 5', 'transformers:lm')
    """
    subreddit, _, gap = name.rpartition("_gap_")
    if subreddit.startswith("r/"):
        return f"{subreddit}, karma gap of at least {gap}"
    return SUBSETS.get(name, name.removeprefix("generator "))


def strategy_name(name: str) -> str:
    """Label of a strategy.

    >>> strategy_name("longest"), strategy_name("without_upvote"), strategy_name("two_step_upvote-tfhub")
    ('longest', 'rank_score without upvote', 'two-step with upvote-tfhub: realism above the threshold, then its best')
    """
    if name.startswith("two_step_"):
        return f"two-step with {name.removeprefix('two_step_')}: realism above the threshold, then its best"
    return STRATEGIES.get(name) or f"rank_score without {name.removeprefix('without_')}"


def by_strategy(choices: Mapping[str, Mapping[str, Any]], columns: Sequence[str]) -> Table:
    """One row per strategy, one column per measure."""
    rows = [
        (strategy_name(name), "", name == "rank_score", [cell(values.get(each)) for each in columns]) for name, values in choices.items()
    ]
    return Table([MEASURES[column] for column in columns], rows)


# --- plots ------------------------------------------------------------------------------------------------------------


def picture(figure: Figure) -> str:
    """The figure as a data URL for an <img>."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "page"}):  # reproducible ids
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def realism_plots(tested: ScoredRows) -> dict[str, str]:
    human = np.array([row.label == 1 for row in tested.rows])
    if human.all() or not human.any():
        return {}
    curves = {}
    for name, scores in tested.scores.items():
        scored = ~np.isnan(scores)
        if name != "always_real" and 0 < human[scored].sum() < scored.sum():
            curves[SCORERS[name][0]] = human[scored], scores[scored]
    generated = {name: (~labels, -scores) for name, (labels, scores) in curves.items()}
    return {
        "roc": picture(plots.roc(curves, "human replies", "generated replies")),
        "precision_recall": picture(plots.precision_recall(generated, "generated replies")),
        "calibration": picture(plots.calibration(human, tested.scores["ranker"], "human replies")),
    }


def upvote_plots(tested: ScoredRows, measured: Mapping[str, Any]) -> dict[str, str]:
    probabilities = pair_probabilities("ranker", tested.scores["ranker"])
    both_orders = np.concatenate([probabilities, 1 - probabilities])
    labels = np.repeat([1, 0], len(probabilities))
    tables = list(measures.main_subsets(measured))
    bins = {name.removeprefix("gap_"): content for name, content in measured.items() if name not in tables}
    series: dict[str, dict[str, Any]] = {}
    for gap, content in bins.items():
        for name, values in measures.scorers_of(content).items():
            if name in ("ranker", "tfidf", "longer_wins", "earlier_wins"):  # more would overlap
                series.setdefault(SCORERS[name][0], {})[f"{gap}\n{content['pairs']:,}"] = values["pairwise_accuracy"]
    panel = {"Pairwise accuracy by karma gap": series}
    return {
        "karma_gap": picture(plots.with_intervals(panel, "karma gap (number of pairs below)", "pairwise accuracy")) if bins else "",
        "calibration": picture(plots.calibration(labels, both_orders, "pairs won")),
    }


def gain_plot(gain: Mapping[str, Any]) -> str:
    panels = {
        f"judge: {judge}": {strategy_name(name): by_count for name, by_count in by_name.items()}
        for judge, by_name in gain.items()
        if any(map(len, by_name.values()))
    }
    return picture(plots.with_intervals(panels, "number of candidates", "win rate of the pick")) if panels else ""


# --- summary ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tile:
    name: str
    value: str
    interval: str
    note: str
    state: str = ""  # met, missed, or empty without a target


def tile(name: str, content: Mapping[str, Any], own: str, measure: str, target: float | None = None) -> Tile:
    """The measure of the scorer `own` next to that of the best baseline. The target is compared with the value, not with its interval."""
    scorers = measures.scorers_of(content)
    value, interval = cell(scorers[own][measure])
    baselines = scorers.keys() & SCORERS.keys() - {own, WITH_TIME}
    others = [(scorers[name][measure][0], name) for name in baselines if measure in scorers[name] and not name.endswith("_score")]
    notes = []
    if others:
        best, best_name = max(others)
        note = f"best baseline: {SCORERS[best_name][0]} {best:.3f}"
        if gap := scorers[best_name].get("behind_ranker"):
            note += ", behind by {} ({})".format(*cell(gap))
        notes.append(note)
    if target:
        notes.append(f"target {target:.2f}")
    state = "" if target is None else "met" if scorers[own][measure][0] >= target else "missed"
    return Tile(name, value, interval, "; ".join(notes), state)


def summary(result: Mapping[str, Any]) -> list[Tile]:
    tiles = []
    upvote = result.get("upvote", {})
    if "gap_20" in upvote:
        pairs = upvote["gap_20"]["pairs"]
        name = f"upvote: pairwise accuracy, karma gap of at least 20 ({pairs:,} pairs)"
        tiles.append(tile(name, upvote["gap_20"], "ranker", "pairwise_accuracy", TARGETS["upvote"]))
    if "gap_20" in (unseen := result.get("left_out", {})):
        name = f"upvote on {unseen['gap_20']['subreddits']} subreddits left out of training, karma gap of at least 20"
        tiles.append(tile(name, unseen["gap_20"], "ranker", "pairwise_accuracy", TARGETS["left_out"]))
    if "roc_auc" in result.get("realism", {}).get("all", {}).get("ranker", {}):
        rows = result["realism"]["all"]["rows"]
        tiles.append(
            tile(f"realism: ROC-AUC, human against generated replies ({rows:,} rows)", result["realism"]["all"], "ranker", "roc_auc")
        )
    if "random_100" in result.get("relevance", {}):
        tiles.append(
            tile("relevance: hits@1, own reply among 100", result["relevance"]["random_100"], "ranker", "hits_at_1", TARGETS["relevance"])
        )
    if stage := result.get("ranking_stage"):
        own, longest = stage["choices"].get("rank_score", {}), stage["choices"].get("longest", {})
        for judge in ("liked", "real", "belongs"):
            if judge in own:
                value, interval = cell(own[judge])
                note = f"random candidate 0.500, longest {longest[judge][0]:.3f}"
                tiles.append(Tile(f"win rate of the best rank_score, judge: {judge}", value, interval, note))
        if own:
            value, interval = cell(own["near_verbatim"])
            note = f"random candidate {stage['choices']['random']['near_verbatim'][0]:.3f}"
            tiles.append(
                Tile("share of picks that are near-verbatim candidates of other comments (lower is better)", value, interval, note)
            )
    if stock := result.get("stock_phrases"):
        name = f"share of human replies above stock phrases ({stock['comments']:,} comments × {stock['phrases']} phrases)"
        tiles.append(tile(name, stock, "rank_score", "pairwise_accuracy", TARGETS["stock"]))
    return tiles


# --- the page ---------------------------------------------------------------------------------------------------------


def page(result: Mapping[str, Any], tested: Mapping[str, ScoredRows]) -> str:
    """The content of evaluation.html. tested: kind -> scored test rows, for the curves."""
    realism, upvote, relevance = (result.get(kind, {}) for kind in ("realism", "upvote", "relevance"))
    stage = result.get("ranking_stage", {})
    in_tables = list(measures.main_subsets(upvote))
    classes = next((content for name, content in upvote.items() if name.endswith("_classes")), None)
    upvote_names = [name for name in in_tables if not name.endswith("_classes")]
    subreddits = [name for name in upvote_names if name.startswith("r/")]
    generators = [name for name in realism if name.startswith("generator ")]
    judges = [name for name in JUDGES if name in result.get("judges", {})]
    tables = {
        "realism": by_scorer(realism["all"]) if realism else None,
        "classes": by_scorer(classes) if classes else None,
        "generators": by_subset(realism, generators, "roc_auc") if generators else None,
        "upvote": by_subset(upvote, [name for name in upvote_names if name not in subreddits], "pairwise_accuracy") if upvote else None,
        "subreddits": by_subset(upvote, subreddits, "pairwise_accuracy") if subreddits else None,
        "left_out": by_subset(result["left_out"], result["left_out"], "pairwise_accuracy") if "left_out" in result else None,
        "relevance": by_subset(relevance, relevance, "hits_at_1") if relevance else None,
        "choices": by_strategy(stage["choices"], ["answered", *judges]) if stage else None,
        "generic": by_strategy(stage["choices"], ["near_verbatim", "echo", "short", "median_words", "distinct_1", "distinct_2"])
        if stage
        else None,
        "judges": by_subset(result["judges"], judges, "pairwise_accuracy") if judges else None,
        "stock": by_scorer(result["stock_phrases"]) if "stock_phrases" in result else None,
    }
    pictures: dict[str, Any] = {
        "realism": realism_plots(tested["realism"]) if "realism" in tested else {},
        "upvote": upvote_plots(tested["upvote"], upvote) if "upvote" in tested else {},
        "gain": gain_plot(stage["gain"]) if stage else "",
    }
    realism_scorers = measures.scorers_of(realism.get("all", {}))
    return (
        templates(Path(__file__).parent)
        .get_template("evaluation.html.j2")
        .render(
            result=result,
            made=result["made"],
            tiles=summary(result),
            tables=tables,
            pictures=pictures,
            realism_scorers=[scorer(name) for name in realism_scorers if name != "ranker"],
            confusions={scorer(name)[0]: values["confusion"] for name, values in realism_scorers.items() if "confusion" in values},
        )
    )


def write(result: Mapping[str, Any], tested: Mapping[str, ScoredRows], path: Path) -> None:
    """Write the page. See `page` for the arguments."""
    content = page(result, tested)
    with files.atomic_writer(path) as file:
        file.write(content)
