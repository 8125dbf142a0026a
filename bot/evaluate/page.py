"""The page of an evaluation: what metrics.json holds, for a person, beside plots. One file that needs nothing else, no network, no script.

`write` is called by `evaluate`; the template is evaluation.html.j2.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bot import files
from bot.evaluate import measures
from bot.evaluate.choices import NEAR_VERBATIM, WAYS
from bot.evaluate.judges import JUDGES
from bot.evaluate.measures import ScoredRows
from bot.evaluate.upvote import TOLD_THE_TIME, pair_chances
from bot.report import plots
from bot.report.report import templates

# --- words ------------------------------------------------------------------------------------------------------------
# The names in metrics.json, said for a person: short in a table, and what is meant.

SCORERS = {
    "ranker": ("the ranker", "what the bot uses"),
    "tfidf": ("TF-IDF", "TF-IDF of words and word pairs with logistic regression, on what the ranker was given to learn from"),
    "generator_likelihood": (
        "generator likelihood",
        "mean log-likelihood of the reply's tokens under the bot's generator; for realism, the less likely the more real",
    ),
    "untuned_encoder": ("untuned encoder", "cosine of comment and reply under the ranker's base before training"),
    "longer_wins": ("the longer wins", "more characters"),
    "earlier_wins": ("the earlier wins", "only pairs whose times are real"),
    TOLD_THE_TIME: (
        "told the time",
        "the ranker, told which reply came first: its log-odds and those that the earlier one wins. So much of karma is time, which"
        " candidates don't have; no baseline",
    ),
    "always_real": ("always «real»", "says of every reply that a person wrote it"),
    "longer_is_real": ("longer is real", "more characters"),
    "longest": ("the longest", "most characters"),
    "majority": ("majority", "the shares of the training rows, for every reply"),
    "judge": ("the judge", "see below"),
    "rank_score": ("rank_score", "the scores combined, what `choose` orders by"),
    "realism_score": ("realism_score", ""),
    "upvote_score": ("upvote_score", ""),
    "relevance_score": ("relevance_score", ""),
}
MEASURES = {
    "pairwise_accuracy": ("pairwise accuracy", "share of pairs whose better reply scores higher, a tie counting half; 0.5 by chance"),
    "behind_ranker": ("behind the ranker", "the ranker's pairwise accuracy less this one's, on the same pairs"),
    "accuracy": ("accuracy", "share of rows told rightly at 0.5"),
    "precision": ("precision", "of replies said to be a person's, the share that are"),
    "recall": ("recall", "of people's replies, the share said to be"),
    "f1": ("F1", "harmonic mean of precision and recall"),
    "balanced_accuracy": ("balanced accuracy", "mean of the shares of people's and of generated replies told rightly; 0.5 by chance"),
    "roc_auc": ("ROC-AUC", "chance that a person's reply scores above a generated one; 0.5 by chance"),
    "pr_auc_generated": ("PR-AUC", "average precision of finding generated replies; by chance their share"),
    "calibration_error": ("calibration error", "mean gap between stated probability and what was found, ten bins; lower is better"),
    "macro_precision": ("macro precision", "mean over the classes"),
    "macro_recall": ("macro recall", "mean over the classes"),
    "macro_f1": ("macro F1", "mean over the classes"),
    "roc_auc_cuts": ("ROC-AUC", "chance that the reply of the higher class scores higher, mean over the cuts between classes"),
    "hits_at_1": ("hits@1", "share of comments whose own reply scores highest of its list; a tie counts as missed"),
    "answered": ("comments", "that get a pick"),
    "near_verbatim": (
        "near-verbatim",
        f"share of picks that another comment has as a candidate, nearly literally (edit ratio {NEAR_VERBATIM} of 100); lower is better",
    ),
    "distinct_1": ("distinct-1", "different words of the picks as a share of all; shorter texts have more, so compare like with like"),
    "distinct_2": ("distinct-2", "the same for pairs of words"),
    **{name: (f"«{name}»", f"win rate by the judge of {question}: the share of the other candidates that it puts below")
       for name, (_, question) in JUDGES.items()},
}  # fmt: skip
SUBSETS = {
    "all": "all",
    "gap_5": "karma gap of at least 5",
    "gap_20": "karma gap of at least 20",
    "like_length": "lengths within 20 %",
    "like_length_gap_20": "lengths within 20 %, karma gap of at least 20",
    "random_100": "1 of 100, the others by chance",
    "random_10": "1 of 10, the others by chance",
    "hard_10": "1 of 10, the others nearest to it",
}
TARGETS = {"upvote": 0.70, "left_out": 0.60, "relevance": 0.50, "stock": 0.90}


# --- tables -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """columns: (name, what is meant). rows: (name, note, whether it is the bot's own, cells as (value, interval)). own_column: which is."""

    columns: list[tuple[str, str]]
    rows: list[tuple[str, str, bool, list[tuple[str, str]]]]
    own_column: int = -1


def cell(value: Any) -> tuple[str, str]:
    """A number, and its interval.

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


def scorers_of(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: values for name, values in content.items() if isinstance(values, dict)}


def scorer(name: str) -> tuple[str, str]:
    """Its name for a person and what is meant; one without words here is a ranker given with --beside."""
    return SCORERS.get(name, (name, "another upvote ranker, measured beside the bot's"))


def by_scorer(content: Mapping[str, Any]) -> Table:
    """A row a scorer, a column a measure."""
    scorers = scorers_of(content)
    found = list(dict.fromkeys(name for values in scorers.values() for name in values if name in MEASURES))
    rows = []
    for name, values in scorers.items():
        fewer = next((f"{values[each]:,} {each}" for each in ("rows", "pairs") if each in values), "")
        rows.append((scorer(name)[0], fewer, name in ("ranker", "rank_score"), [cell(values.get(measure)) for measure in found]))
    return Table([MEASURES[name] for name in found], rows)


def by_subset(measured: Mapping[str, Any], names: Iterable[str], measure: str) -> Table:
    """A row a subset, a column a scorer."""
    names = list(names)
    scorers = list(dict.fromkeys(each for name in names for each in scorers_of(measured[name])))
    rows = []
    for name in names:
        content = measured[name]
        size = next(f"{content[each]:,} {each}" for each in ("pairs", "queries", "rows") if each in content)
        cells = []
        for told in (content.get(each, {}) for each in scorers):
            value, interval = cell(told.get(measure))
            fewer = next((told[each] for each in ("rows", "pairs") if each in told), None)
            cells.append((value, f"{interval} ({fewer:,})" if fewer and interval else interval))
        rows.append((subset_name(name), size + (", unseen in training" if content.get("unseen_in_training") else ""), False, cells))
    return Table([scorer(each) for each in scorers], rows, scorers.index("ranker") if "ranker" in scorers else -1)


def subset_name(name: str) -> str:
    """
    >>> subset_name("r/College_gap_20"), subset_name("gap_5"), subset_name("generator transformers:lm")
    ('r/College, karma gap of at least 20', 'karma gap of at least 5', 'transformers:lm')
    """
    subreddit, _, gap = name.rpartition("_gap_")
    if subreddit.startswith("r/"):
        return f"{subreddit}, karma gap of at least {gap}"
    return SUBSETS.get(name, name.removeprefix("generator "))


def way(name: str) -> str:
    """
    >>> way("longest"), way("without_upvote"), way("two_step_upvote-tfhub")
    ('the longest', 'rank_score without upvote', 'two-step with upvote-tfhub: realism above the threshold, then its best')
    """
    if name.startswith("two_step_"):
        return f"two-step with {name.removeprefix('two_step_')}: realism above the threshold, then its best"
    return WAYS.get(name) or f"rank_score without {name.removeprefix('without_')}"


def by_way(choices: Mapping[str, Mapping[str, Any]], columns: Sequence[str]) -> Table:
    rows = [(way(name), "", name == "rank_score", [cell(values.get(each)) for each in columns]) for name, values in choices.items()]
    return Table([MEASURES[column] for column in columns], rows)


# --- plots ------------------------------------------------------------------------------------------------------------


def picture(figure: Figure) -> str:
    """The figure as the address of an image, for an <img>."""
    written = io.BytesIO()
    figure.savefig(written, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(written.getvalue()).decode("ascii")


def realism_plots(tested: ScoredRows) -> dict[str, str]:
    people = np.array([row.label == 1 for row in tested.rows])
    if people.all() or not people.any():
        return {}
    curves = {}
    for name, scores in tested.scores.items():
        told = ~np.isnan(scores)
        if name != "always_real" and 0 < people[told].sum() < told.sum():
            curves[SCORERS[name][0]] = people[told], scores[told]
    generated = {name: (~labels, -scores) for name, (labels, scores) in curves.items()}
    return {
        "roc": picture(plots.roc(curves, "people's replies", "generated ones")),
        "precision_recall": picture(plots.precision_recall(generated, "generated replies")),
        "calibration": picture(plots.calibration(people, tested.scores["ranker"], "people's replies")),
    }


def upvote_plots(tested: ScoredRows, measured: Mapping[str, Any]) -> dict[str, str]:
    chances = pair_chances("ranker", tested.scores["ranker"])
    both = np.concatenate([chances, 1 - chances])  # each pair both ways round
    tables = list(measures.main_subsets(measured))
    bins = {name.removeprefix("gap_"): content for name, content in measured.items() if name not in tables}
    series: dict[str, dict[str, Any]] = {}
    for place, content in bins.items():
        for name, values in scorers_of(content).items():
            if name in ("ranker", "tfidf", "longer_wins", "earlier_wins"):  # more would hide one another
                series.setdefault(SCORERS[name][0], {})[f"{place}\n{content['pairs']:,}"] = values["pairwise_accuracy"]
    panel = {"Pairwise accuracy by karma gap": series}
    return {
        "karma_gap": picture(plots.with_intervals(panel, "karma gap, and pairs", "pairwise accuracy")) if bins else "",
        "calibration": picture(plots.calibration(np.repeat([1, 0], len(chances)), both, "pairs in which it is the better")),
    }


def gain_plot(gain: Mapping[str, Any]) -> str:
    panels = {
        f"judge «{judge}»": {way(name): found for name, found in ways.items()}
        for judge, ways in gain.items()
        if any(map(len, ways.values()))
    }
    return picture(plots.with_intervals(panels, "candidates to choose among", "win rate of the pick")) if panels else ""


# --- summary ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tile:
    name: str
    value: str
    interval: str
    beside: str
    state: str = ""  # met, missed, or empty where there is no target


def tile(name: str, content: Mapping[str, Any], own: str, measure: str, target: float | None = None, chance: str = "") -> Tile:
    """The bot's own number with the best baseline's; a target counts as met by the number, not by its interval."""
    scorers = scorers_of(content)
    value, interval = cell(scorers[own][measure])
    baselines = scorers.keys() & SCORERS.keys() - {own, TOLD_THE_TIME}
    others = [(scorers[name][measure][0], name) for name in baselines if measure in scorers[name] and not name.endswith("_score")]
    beside = chance
    if others:
        found, name_of_best = max(others)
        beside = f"best baseline: {SCORERS[name_of_best][0]} {found:.3f}"
        if ahead := scorers[name_of_best].get("behind_ranker"):
            beside += ", behind by {} ({})".format(*cell(ahead))
    state = "" if target is None else "met" if scorers[own][measure][0] >= target else "missed"
    return Tile(name, value, interval, beside + (f"; target {target:.2f}" if target else ""), state)


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
            tile(f"realism: ROC-AUC, people's against generated replies ({rows:,} rows)", result["realism"]["all"], "ranker", "roc_auc")
        )
    if "random_100" in result.get("relevance", {}):
        tiles.append(
            tile("relevance: the own reply first of 100", result["relevance"]["random_100"], "ranker", "hits_at_1", TARGETS["relevance"])
        )
    if stage := result.get("ranking_stage"):
        own, longest = stage["choices"].get("rank_score", {}), stage["choices"].get("longest", {})
        for judge in ("liked", "real", "belongs"):
            if judge in own:
                value, interval = cell(own[judge])
                beside = f"a random one 0.500, the longest {longest[judge][0]:.3f}"
                tiles.append(Tile(f"win rate of the best rank_score, judge «{judge}»", value, interval, beside))
        if own:
            value, interval = cell(own["near_verbatim"])
            beside = f"a random candidate {stage['choices']['random']['near_verbatim'][0]:.3f}"
            tiles.append(Tile("picks that other comments have too (lower is better)", value, interval, beside))
    if stock := result.get("stock_phrases"):
        name = f"people's replies above stock phrases ({stock['comments']:,} comments × {stock['phrases']} phrases)"
        tiles.append(tile(name, stock, "rank_score", "pairwise_accuracy", TARGETS["stock"]))
    return tiles


# --- the page ---------------------------------------------------------------------------------------------------------


def page(result: Mapping[str, Any], tested: Mapping[str, ScoredRows]) -> str:
    """The whole of evaluation.html. tested: by kind, what the curves are drawn from."""
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
        "choices": by_way(stage["choices"], ["answered", *judges]) if stage else None,
        "generic": by_way(stage["choices"], ["near_verbatim", "distinct_1", "distinct_2"]) if stage else None,
        "judges": by_subset(result["judges"], judges, "pairwise_accuracy") if judges else None,
        "stock": by_scorer(result["stock_phrases"]) if "stock_phrases" in result else None,
    }
    pictures: dict[str, Any] = {
        "realism": realism_plots(tested["realism"]) if "realism" in tested else {},
        "upvote": upvote_plots(tested["upvote"], upvote) if "upvote" in tested else {},
        "gain": gain_plot(stage["gain"]) if stage else "",
    }
    told = scorers_of(realism.get("all", {}))
    return (
        templates(Path(__file__).parent)
        .get_template("evaluation.html.j2")
        .render(
            result=result,
            made=result["made"],
            tiles=summary(result),
            tables=tables,
            pictures=pictures,
            scorers_of_realism=[scorer(name) for name in told if name != "ranker"],
            confusions={scorer(name)[0]: values["confusion"] for name, values in told.items() if "confusion" in values},
        )
    )


def write(result: Mapping[str, Any], tested: Mapping[str, ScoredRows], path: Path) -> None:
    content = page(result, tested)
    with files.atomic_writer(path) as file:
        file.write(content)
