"""evaluate: measure the rankers on the test split, their baselines in the same table.

Reads  DATA/realism_{train,test}.csv, DATA/upvote_pairs_{train,test}.csv and the rankers that the config names; for an upvote ranker that
       was trained on classes of karma, DATA/upvote_{train,test}.csv too; for relevance DATA/relevance_{train,test}.csv.
Writes OUT/metrics.json.

    python -m bot.evaluate --data data/prepared --out data/evaluation

Splits are by thread, and intervals (95 %) come from drawing whole threads again. A baseline that learns is given what the ranker was
given to train on.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from bot import UserError, config, metrics, models, rankers, run_command, schema
from bot.schema import LabelledRow, RealismRow, UpvotePair, UpvoteRow
from bot.train_lm import choose_rows

LARGE_KARMA_GAP = 20  # DialogRPT's rule
RELEVANCE_QUERIES = 1000  # comments whose reply is looked for
RELEVANCE_POOL = 200  # replies of the subreddit that the others are taken from
Interval = tuple[float, float, float]  # value, low, high


def tfidf_classifier(replies: Sequence[str], labels: Sequence[int]) -> Any:
    """Words and word pairs of the reply, logistic regression; fitted."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    pipeline = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"\S+"), LogisticRegression(C=1.0, max_iter=500)
    )
    return pipeline.fit(list(replies), list(labels))


def with_interval(measure: Callable[[np.ndarray], float], threads: Sequence[str]) -> Interval:
    low, high = metrics.bootstrap_interval(measure, threads)
    return measure(np.arange(len(threads))), low, high


def evaluate_upvote(ranker: rankers.Ranker, train: list[UpvotePair], test: list[UpvotePair]) -> dict[str, Any]:
    """Pairwise accuracy on test pairs, all and with a karma gap of at least 20, of the ranker and of each baseline."""
    bag = tfidf_classifier([row.chosen for row in train] + [row.rejected for row in train], [1] * len(train) + [0] * len(train))
    tfidf = [np.asarray(bag.decision_function([getattr(row, side) for row in test])) for side in ("chosen", "rejected")]
    scores = {
        "ranker": (ranker.score([(r.comment, r.chosen) for r in test]), ranker.score([(r.comment, r.rejected) for r in test])),
        "tfidf": (tfidf[0], tfidf[1]),
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
    """How well test rows are told apart, people's being the positive class, by the ranker and by each baseline."""
    labels = np.array([row.label for row in test])
    bag = tfidf_classifier([row.reply for row in train], [row.label for row in train])
    probabilities = {
        "ranker": np.array(ranker.score([(row.comment, row.reply) for row in test])),
        "tfidf": bag.predict_proba([row.reply for row in test])[:, 1],
        "always_real": np.ones(len(test)),
    }
    threads = [row.thread_id for row in test]
    result: dict[str, Any] = {"rows": len(test), "real": int(labels.sum()), "threads": len(set(threads))}
    for name, p in probabilities.items():
        predicted = (p >= 0.5).astype(int)
        measures: dict[str, Callable[[np.ndarray], float]] = {
            **class_measures(labels, predicted, 2, lambda of_classes: of_classes[1]),
            "balanced_accuracy": lambda i, predicted=predicted: metrics.balanced_accuracy(labels[i], predicted[i]),  # type: ignore[misc]
            "roc_auc": lambda i, p=p: metrics.roc_auc(labels[i], p[i]),  # type: ignore[misc]
            "calibration_error": lambda i, p=p: metrics.expected_calibration_error(labels[i], p[i]),  # type: ignore[misc]
        }
        result[name] = {measure: with_interval(function, threads) for measure, function in measures.items()}
        result[name]["confusion"] = metrics.confusion_matrix(labels, predicted).tolist()
    return {"all": result}


def evaluate_classes(ranker: rankers.Classifier, train: list[UpvoteRow], test: list[UpvoteRow], classes: int) -> dict[str, Any]:
    """How well the classes of karma of test rows are told, by the ranker and by each baseline; the mean over classes is «macro»."""
    labels = np.array([rankers.karma_class(row.reply_karma, classes) for row in test])
    learnt = [rankers.karma_class(row.reply_karma, classes) for row in train]
    bag = tfidf_classifier([row.reply for row in train], learnt)
    shares = np.bincount(learnt, minlength=classes) / len(learnt)
    probabilities = {
        "ranker": ranker.probabilities([(row.comment, row.reply) for row in test]),
        "tfidf": bag.predict_proba([row.reply for row in test]),
        "majority": np.tile(shares, (len(test), 1)),
    }
    threads = [row.thread_id for row in test]
    result: dict[str, Any] = {"rows": len(test), "threads": len(set(threads))}
    for name, p in probabilities.items():
        predicted = p.argmax(axis=1)
        measures = class_measures(labels, predicted, classes, np.mean, "macro_")
        if classes == 2:
            measures["roc_auc"] = lambda i, p=p: metrics.roc_auc(labels[i], p[i, 1])  # type: ignore[misc]
        else:
            measures["roc_auc_macro"] = lambda i, p=p: metrics.roc_auc_one_vs_rest(labels[i], p[i], "macro")  # type: ignore[misc]
            measures["roc_auc_micro"] = lambda i, p=p: metrics.roc_auc_one_vs_rest(labels[i], p[i], "micro")  # type: ignore[misc]
        result[name] = {measure: with_interval(function, threads) for measure, function in measures.items()}
        result[name]["confusion"] = metrics.confusion_matrix(labels, predicted, classes).tolist()
    return {f"{classes}_classes": result}


def evaluate_relevance(ranker: rankers.Ranker, base: str, train: list[LabelledRow], test: list[LabelledRow]) -> dict[str, Any]:
    """How often a comment's own reply scores above those of other threads of its subreddit (hits@1), of the ranker and of each baseline.

    random: by chance; hard: those that an untuned encoder (`base`) finds nearest to the own reply. A tie counts as missed.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    from bot.rankers.transformers import DualEncoder, load_encoder

    untuned = DualEncoder(*load_encoder(base), scale=1.0, offset=0.0)
    bag = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"\S+").fit(
        [row.comment for row in train] + [row.reply for row in train]
    )

    def overlap(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        comments, replies = (bag.transform([pair[side] for pair in pairs]) for side in (0, 1))
        return np.asarray(comments.multiply(replies).sum(axis=1))[:, 0]

    scorers: dict[str, Callable[[Sequence[tuple[str, str]]], Any]] = {
        "ranker": ranker.score, "untuned_encoder": untuned.cosines, "tfidf": overlap,
        "longest": lambda pairs: [len(reply) for _, reply in pairs],
    }  # fmt: skip
    result: dict[str, Any] = {}
    for name, (queries, others) in lists_of_replies(test, untuned).items():
        threads = [row.thread_id for row in queries]
        content: dict[str, Any] = {"queries": len(queries), "threads": len(set(threads))}
        pairs = [(row.comment, reply) for row, wrong in zip(queries, others, strict=True) for reply in (row.reply, *wrong)]
        for scorer, score in scorers.items():
            scores = np.asarray(score(pairs), float).reshape(len(queries), -1)
            content[scorer] = {"hits_at_1": with_interval(lambda i, s=scores: metrics.hits_at_k(s[i], 1), threads)}  # type: ignore[misc]
        result[name] = content
    return result


def lists_of_replies(test: list[LabelledRow], untuned: Any) -> dict[str, tuple[list[LabelledRow], list[list[str]]]]:
    """For random_100, random_10 and hard_10: rows whose reply is to be found, and for each the other replies of its list."""
    by_subreddit: dict[str, list[LabelledRow]] = {}
    for row in test:
        if row.label == 1:
            by_subreddit.setdefault(row.subreddit.lower(), []).append(row)
    chance = random.Random(1)
    queries = choose_rows([row for row in test if row.label == 1], RELEVANCE_QUERIES, 1)
    vectors: dict[str, Any] = {}
    result: dict[str, tuple[list[LabelledRow], list[list[str]]]] = {"random_100": ([], []), "random_10": ([], []), "hard_10": ([], [])}
    for row in queries:
        siblings = by_subreddit[row.subreddit.lower()]
        drawn = siblings if len(siblings) <= RELEVANCE_POOL else chance.sample(siblings, RELEVANCE_POOL)
        others = sorted({each.reply for each in drawn if each.thread_id != row.thread_id and each.reply != row.reply})
        chance.shuffle(others)
        for name, count in (("random_100", 99), ("random_10", 9)):
            if len(others) >= count:
                result[name][0].append(row)
                result[name][1].append(others[:count])
        if len(others) >= 99:  # of fewer the nearest would be near to nothing
            new = [reply for reply in (row.reply, *others) if reply not in vectors]
            vectors |= dict(zip(new, untuned.vectors(new), strict=True)) if new else {}
            near = np.array([float(vectors[row.reply] @ vectors[reply]) for reply in others])
            result["hard_10"][0].append(row)
            result["hard_10"][1].append([others[place] for place in np.argsort(-near)[:9]])
    return {name: found for name, found in result.items() if found[0]}


def class_measures(
    labels: np.ndarray, predicted: np.ndarray, classes: int, summary: Callable[[np.ndarray], Any], prefix: str = ""
) -> dict[str, Callable[[np.ndarray], float]]:
    """Accuracy, and a summary over the classes of precision, recall and F1, each as a function of row indices."""

    def confusion(rows: np.ndarray) -> np.ndarray:
        return metrics.confusion_matrix(labels[rows], predicted[rows], classes)

    result: dict[str, Callable[[np.ndarray], float]] = {"accuracy": lambda rows: float(np.mean(labels[rows] == predicted[rows]))}
    for place, name in enumerate(("precision", "recall", "f1")):
        result[prefix + name] = lambda rows, place=place: float(summary(metrics.precision_recall_f1(confusion(rows))[place]))  # type: ignore[misc]
    return result


def evaluate(kind: str, ranker: rankers.Ranker, train: list[Any], test: list[Any]) -> dict[str, Any]:
    """{subset: {rows, …, scorer: {measure: (value, low, high), confusion: counts}}} for a ranker of this kind."""
    return evaluate_upvote(ranker, train, test) if kind == "upvote" else evaluate_realism(ranker, train, test)


def measure(card: models.ModelCard, ranker: Any, data: Path) -> dict[str, Any]:
    """What `evaluate` says of the ranker with this card, and, where it was trained on classes of karma, how well it tells those."""
    result: dict[str, Any] = {}
    if card.kind == "relevance":
        rows = {each: schema.read_rows(data / f"relevance_{each}.csv", LabelledRow) for each in ("train", "test")}
        belongs = choose_rows([row for row in rows["train"] if row.label == 1], card.settings["rows"], card.settings["seed"])
        return evaluate_relevance(ranker, card.base, belongs, rows["test"])
    sources: list[tuple[type, str]] = [(UpvotePair, "upvote_pairs")] if card.kind == "upvote" else [(RealismRow, "realism")]
    if card.kind == "upvote" and "classes" in card.settings:
        sources.append((UpvoteRow, "upvote"))
    for row_type, stem in sources:
        read: dict[str, list[Any]] = {each: schema.read_rows(data / f"{stem}_{each}.csv", row_type) for each in ("train", "test")}
        for each, found in read.items():
            if not found:
                raise UserError(f"{data}/{stem}_{each}.csv: no rows; prepare more data")
        train = choose_rows(read["train"], card.settings.get("rows", len(read["train"])), card.settings.get("seed", 0))
        if row_type is UpvoteRow:
            result |= evaluate_classes(ranker, train, read["test"], card.settings["classes"])
        else:
            result |= evaluate(card.kind, ranker, train, read["test"])
    return result


def show(kind: str, measured: dict[str, Any]) -> None:
    """A table for each subset: a column for each scorer, a row for each measure."""
    for subset, content in measured.items():
        scorers = {name: values for name, values in content.items() if isinstance(values, dict)}
        facts = ", ".join(f"{value:,} {name}" for name, value in content.items() if name not in scorers)
        table = Table("", *scorers, title=f"{kind}, {subset}: {facts}; 95 % intervals over threads")
        for name in next(iter(scorers.values())):
            found = [values[name] for values in scorers.values()]
            if name == "confusion":
                table.add_row(
                    "true (down) × predicted", *("\n".join(" ".join(f"{n:>6}" for n in row) for row in counts) for counts in found)
                )
            else:
                table.add_row(name, *(f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, low, high in found))
        Console(width=None if sys.stdout.isatty() else 140).print(table)


def main(
    data: Annotated[Path, typer.Option(help="folder of prepared files")] = Path("data/prepared"),
    out: Annotated[Path, typer.Option(help="folder for metrics.json")] = Path("data/evaluation"),
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings; names the rankers")] = None,
) -> None:
    """Measure the rankers on the test split beside their baselines."""
    settings = config.load(config_file).rank
    result: dict[str, Any] = {}
    for kind, folder in (("realism", settings.realism), ("upvote", settings.upvote), ("relevance", settings.relevance)):
        if folder is None:
            continue
        card = models.read_card(folder)
        if card.kind != kind:
            raise UserError(f"{folder}: a model of kind {card.kind}; set rank.{kind} to a folder of kind {kind}")
        result[kind] = measure(card, rankers.load(settings.backend, folder, settings.precision), data)
        show(kind, result[kind])
    if not result:
        raise UserError("no ranker is set (rank.realism, rank.upvote, rank.relevance); there is nothing to evaluate")
    with schema.atomic_writer(out / "metrics.json") as file:
        json.dump(result, file, indent=1)
    print(f"{out}/metrics.json")


if __name__ == "__main__":
    run_command(main, "python -m bot.evaluate")
