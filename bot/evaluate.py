"""evaluate: measure the rankers on the test split, their baselines in the same table.

Reads  DATA/realism_{train,test}.csv, DATA/upvote_pairs_{train,test}.csv and the rankers that the config names.
Writes OUT/metrics.json.

    python -m bot.evaluate --data data/prepared --out data/evaluation

Splits are by thread, and intervals (95 %) come from drawing whole threads again. A baseline that learns is given what the ranker was
given to train on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from bot import UserError, config, metrics, models, rankers, run_command, schema
from bot.schema import RealismRow, UpvotePair
from bot.train_lm import choose_rows

LARGE_KARMA_GAP = 20  # DialogRPT's rule
Interval = tuple[float, float, float]  # value, low, high


def tfidf_classifier(replies: Sequence[str], labels: Sequence[int]) -> Callable[[Sequence[str]], np.ndarray]:
    """Words and word pairs of the reply, logistic regression: the score of each reply, higher is more like label 1."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    pipeline = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"\S+"), LogisticRegression(C=1.0, max_iter=500)
    )
    pipeline.fit(list(replies), list(labels))
    return lambda texts: np.asarray(pipeline.decision_function(list(texts)))


def with_interval(measure: Callable[[np.ndarray], float], threads: Sequence[str]) -> Interval:
    low, high = metrics.bootstrap_interval(measure, threads)
    return measure(np.arange(len(threads))), low, high


def evaluate_upvote(ranker: rankers.Ranker, train: list[UpvotePair], test: list[UpvotePair]) -> dict[str, Any]:
    """Pairwise accuracy on test pairs, all and with a karma gap of at least 20, of the ranker and of each baseline."""
    bag = tfidf_classifier([row.chosen for row in train] + [row.rejected for row in train], [1] * len(train) + [0] * len(train))
    scores = {
        "ranker": (ranker.score([(r.comment, r.chosen) for r in test]), ranker.score([(r.comment, r.rejected) for r in test])),
        "tfidf": (bag([r.chosen for r in test]), bag([r.rejected for r in test])),
        "longer_wins": ([len(r.chosen) for r in test], [len(r.rejected) for r in test]),
        "earlier_wins": ([-r.hours_gap for r in test], [0.0 for r in test]),
    }
    large = np.flatnonzero([row.karma_gap >= LARGE_KARMA_GAP for row in test])
    subsets = {"all": np.arange(len(test)), f"gap_{LARGE_KARMA_GAP}": large}
    result: dict[str, Any] = {}
    for name, rows in subsets.items():
        if not len(rows):
            continue
        threads = [test[i].thread_id for i in rows]
        result[name] = {"pairs": len(rows), "threads": len(set(threads))}
        for scorer, (chosen, rejected) in scores.items():
            better, worse = np.asarray(chosen, float)[rows], np.asarray(rejected, float)[rows]
            result[name][scorer] = {
                "pairwise_accuracy": with_interval(lambda i, a=better, b=worse: metrics.pairwise_accuracy(a[i], b[i]), threads)  # type: ignore[misc]
            }
    return result


def evaluate_realism(ranker: rankers.Ranker, train: list[RealismRow], test: list[RealismRow]) -> dict[str, Any]:
    """Accuracy, balanced accuracy, ROC-AUC and calibration error on test rows, of the ranker and of each baseline."""
    labels = np.array([row.label for row in test])
    bag = tfidf_classifier([row.reply for row in train], [row.label for row in train])
    probabilities = {
        "ranker": np.array(ranker.score([(row.comment, row.reply) for row in test])),
        "tfidf": 1 / (1 + np.exp(-bag([row.reply for row in test]))),
        "always_real": np.ones(len(test)),
    }
    threads = [row.thread_id for row in test]
    result: dict[str, Any] = {"all": {"rows": len(test), "real": int(labels.sum()), "threads": len(set(threads))}}
    for name, p in probabilities.items():
        measures: dict[str, Callable[[np.ndarray], float]] = {
            "accuracy": lambda i, p=p: float(np.mean((p[i] >= 0.5) == labels[i])),  # type: ignore[misc]
            "balanced_accuracy": lambda i, p=p: metrics.balanced_accuracy(labels[i], p[i] >= 0.5),  # type: ignore[misc]
            "roc_auc": lambda i, p=p: metrics.roc_auc(labels[i], p[i]),  # type: ignore[misc]
            "calibration_error": lambda i, p=p: metrics.expected_calibration_error(labels[i], p[i]),  # type: ignore[misc]
        }
        result["all"][name] = {measure: with_interval(function, threads) for measure, function in measures.items()}
    return result


def evaluate(kind: str, ranker: rankers.Ranker, train: list[Any], test: list[Any]) -> dict[str, Any]:
    """{subset: {rows, …, scorer: {measure: (value, low, high)}}} for a ranker of this kind."""
    return evaluate_upvote(ranker, train, test) if kind == "upvote" else evaluate_realism(ranker, train, test)


def show(kind: str, measured: dict[str, Any]) -> None:
    for subset, content in measured.items():
        scorers = {name: values for name, values in content.items() if isinstance(values, dict)}
        facts = ", ".join(f"{value:,} {name}" for name, value in content.items() if name not in scorers)
        names = list(next(iter(scorers.values())))
        table = Table("", *names, title=f"{kind}, {subset}: {facts}; 95 % intervals over threads")
        for scorer, values in scorers.items():
            table.add_row(scorer, *(f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, low, high in (values[name] for name in names)))
        Console().print(table)


def main(
    data: Annotated[Path, typer.Option(help="folder of prepared files")] = Path("data/prepared"),
    out: Annotated[Path, typer.Option(help="folder for metrics.json")] = Path("data/evaluation"),
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings; names the rankers")] = None,
) -> None:
    """Measure the rankers on the test split beside their baselines."""
    settings = config.load(config_file).rank
    result: dict[str, Any] = {}
    for kind, folder, row_type, stem in (
        ("realism", settings.realism, RealismRow, "realism"),
        ("upvote", settings.upvote, UpvotePair, "upvote_pairs"),
    ):
        if folder is None:
            continue
        read = {each: schema.read_rows(data / f"{stem}_{each}.csv", row_type) for each in ("train", "test")}
        card = models.read_card(folder)
        train = choose_rows(read["train"], card.settings.get("rows", len(read["train"])), card.settings.get("seed", 0))
        result[kind] = evaluate(kind, rankers.load(settings.backend, folder), train, read["test"])
        show(kind, result[kind])
    if not result:
        raise UserError("no ranker is set (rank.realism, rank.upvote); there is nothing to evaluate")
    with schema.atomic_writer(out / "metrics.json") as file:
        json.dump(result, file, indent=1)
    print(f"{out}/metrics.json")


if __name__ == "__main__":
    run_command(main, "python -m bot.evaluate")
