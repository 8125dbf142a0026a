"""How the leaderboard measures rankers: one task per kind, each with its pairs and its measures.

A task says which pairs a ranker scores, in named sets, and measures their scores. Baselines are scorers like any other. A ranker does only
the task of its kind; a baseline does all.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bot import metrics
from bot.corpus.compared import STEMS
from bot.evaluate import baselines, measures, model, relevance, upvote
from bot.evaluate.leaderboard.generators import Answers
from bot.evaluate.leaderboard.sample import Asked
from bot.metrics import Array, mean_with_interval, with_intervals
from bot.rankers.scoring import Pairs
from bot.schema import LabelledRow, RealismRow, UpvotePair, sample_rows
from bot.train import graded
from bot.weights.cards import ModelCard

TFIDF_ROWS = 30_000  # maximum number of training rows of the TF-IDF baseline

Scored = Mapping[str, Array]  # name of a set of pairs -> scores
Baseline = Callable[[Pairs], Any]


@dataclass(frozen=True)
class Inputs:
    data: Path
    asked: Sequence[Asked]
    answers: Mapping[str, Answers]  # by generator


class Task(Protocol):
    """A class of `TASKS` raises UserError when it is created, if a file is missing or has too few rows."""

    sets: dict[str, Pairs]

    def measure(self, scored: Scored, known: Sequence[str] | None, is_probability: bool) -> dict[str, Any]:
        """The cells of the table, without those that cannot be measured. known: the generators that a realism ranker was trained on."""
        ...

    def tfidf(self) -> tuple[Baseline, Sequence[str]]:
        """The TF-IDF baseline, fitted, and the generators that it was fitted on."""
        ...


def calibration(labels: Array, probabilities: Array, units: Sequence[str]) -> dict[str, Any]:
    """units: what a resample draws, such as the thread of each row."""
    return with_intervals(lambda i: {"calibration": metrics.expected_calibration_error(labels[i], probabilities[i])}, units)


class Upvote:
    """Pairwise accuracy on siblings of the test split, by the rules of DialogRPT and SHP (corpus.karma_rules); calibration on all."""

    def __init__(self, inputs: Inputs):
        self.data = inputs.data
        self.rows = upvote.close_in_time(measures.read(inputs.data / f"{STEMS['upvote']}_test.csv", UpvotePair))
        pairs = [(row.comment, row.chosen) for row in self.rows] + [(row.comment, row.rejected) for row in self.rows]
        self.sets: dict[str, Pairs] = {"upvote_pairs_test": pairs}
        self.rules = upvote.by_rule(self.rows, model.read_karmas(inputs.data, ["test"]))

    def measure(self, scored: Scored, known: Sequence[str] | None, is_probability: bool) -> dict[str, Any]:
        scores = upvote.sides(scored["upvote_pairs_test"])
        won, threads = metrics.wins(*scores.T), np.array([row.thread_id for row in self.rows])
        cells: dict[str, Any] = {
            rule: mean_with_interval(won[inside], threads[inside].tolist())
            for rule, inside in self.rules.items()
            if inside.sum() >= measures.MIN_SCORED
        }
        if is_probability:
            p = upvote.pair_probabilities("ranker", scores)
            cells |= with_intervals(lambda rows: {"calibration": upvote.pair_calibration_error(p[rows])}, threads.tolist())
        return cells

    def tfidf(self) -> tuple[Baseline, Sequence[str]]:
        train = measures.rankers_half(measures.read(self.data / f"{STEMS['upvote']}_train.csv", UpvotePair))
        rows = sample_rows(upvote.measurable(train), TFIDF_ROWS, 1)
        fitted = baselines.tfidf_pairwise([row.chosen for row in rows], [row.rejected for row in rows])
        return lambda pairs: fitted([reply for _, reply in pairs]), ()


class Realism:
    """ROC-AUC of people's replies against the candidates of all generators, of those in the ranker's training and of the others."""

    def __init__(self, inputs: Inputs):
        self.data = inputs.data
        self.labels = {name: answers.label for name, answers in inputs.answers.items()}
        replies = {"people": [each.replies[0] for each in inputs.asked]}
        replies |= {f"candidates.{name}": answers.of(inputs.asked) for name, answers in inputs.answers.items()}
        if not inputs.answers:
            raise measures.TooFew("no candidates of a generator")
        self.threads = [each.thread_id for each in inputs.asked]
        self.sets: dict[str, Pairs] = {
            name: [(each.comment, reply) for each, reply in zip(inputs.asked, own, strict=True)] for name, own in replies.items()
        }

    def measure(self, scored: Scored, known: Sequence[str] | None, is_probability: bool) -> dict[str, Any]:
        cells: dict[str, Any] = {}
        for column, wanted in (("auc_known", True), ("auc_unseen", False)):
            names = [name for name, label in self.labels.items() if known is not None and (label in known) == wanted]
            if names:
                scores = np.concatenate([scored["people"], *(scored[f"candidates.{name}"] for name in names)])
                cells |= self._auc(column, scores, len(names))
        if is_probability:
            cells |= self._calibration(scored)
        return cells

    def _auc(self, column: str, scores: Array, generators: int) -> dict[str, Any]:
        labels = np.repeat([1, 0], [len(self.threads), len(self.threads) * generators])
        return with_intervals(lambda rows: {column: metrics.roc_auc(labels[rows], scores[rows])}, self.threads * (generators + 1))

    def _calibration(self, scored: Scored) -> dict[str, Any]:
        """Over people's replies and as many candidates: to each comment that of one generator, in turn."""
        names = [f"candidates.{name}" for name in self.labels]
        generated = [scored[names[place % len(names)]][place] for place in range(len(self.threads))]
        labels, p = np.repeat([1, 0], len(generated)), np.concatenate([scored["people"], generated])
        return calibration(labels, p, self.threads * 2)

    def tfidf(self) -> tuple[Baseline, Sequence[str]]:
        train = measures.rankers_half(measures.read(self.data / f"{STEMS['realism']}_train.csv", RealismRow))
        rows = sample_rows(train, TFIDF_ROWS, 1)
        fitted = baselines.tfidf_classifier([row.reply for row in rows], [row.label for row in rows])
        seen = sorted({row.generator for row in rows if not row.label})
        return lambda pairs: fitted.predict_proba([reply for _, reply in pairs])[:, 1], seen


class Relevance:
    """hits@1: how often the comment's own reply scores highest among 100 of its subreddit."""

    def __init__(self, inputs: Inputs):
        self.data = inputs.data
        lists = relevance.candidate_lists(measures.read(inputs.data / f"{STEMS['relevance']}_test.csv", LabelledRow), None)
        if "random_100" not in lists:
            raise measures.TooFew("no comment of the test split has 99 replies of other threads of its subreddit")
        self.lists = {"random_100": lists["random_100"]}
        self.sets: dict[str, Pairs] = {"relevance_test": relevance.pairs_of(self.lists)}

    def measure(self, scored: Scored, known: Sequence[str] | None, is_probability: bool) -> dict[str, Any]:
        cells: dict[str, Any] = {"hits_at_1": relevance.hits_at_1(self.lists, scored["relevance_test"])["random_100"]}
        if is_probability:  # of the own replies, and of one of the 99 for each
            queries = self.lists["random_100"][0]
            p = np.concatenate(scored["relevance_test"].reshape(len(queries), -1)[:, :2].T)
            cells |= calibration(np.repeat([1, 0], len(queries)), p, [row.thread_id for row in queries] * 2)
        return cells

    def tfidf(self) -> tuple[Baseline, Sequence[str]]:
        train = measures.rankers_half(measures.read(self.data / f"{STEMS['relevance']}_train.csv", LabelledRow), lambda row: row.label == 1)
        rows = sample_rows(train, TFIDF_ROWS, 1)
        with baselines.fitting():
            fitted = baselines.tfidf().fit([row.comment for row in rows] + [row.reply for row in rows])

        def cosines(pairs: Pairs) -> Any:
            comments, replies = (fitted.transform([pair[side] for pair in pairs]) for side in (0, 1))
            return np.asarray(comments.multiply(replies).sum(axis=1)).ravel()

        return cosines, ()


class Choice:
    """ROC-AUC of accepted candidates against the others, in the part of data/choice/graded.csv that is held out."""

    def __init__(self, inputs: Inputs):
        self.parts = graded.read([graded.FILE])
        self.sets: dict[str, Pairs] = {"graded": [(row.comment, row.reply) for row in self.parts["held_out"]]}

    def measure(self, scored: Scored, known: Sequence[str] | None, is_probability: bool) -> dict[str, Any]:
        rows, scores = self.parts["held_out"], scored["graded"]
        accepted, comments = np.array([row.grade >= graded.ACCEPTABLE for row in rows]), [row.comment_id for row in rows]
        cells: dict[str, Any] = with_intervals(lambda i: {"auc_accepted": metrics.roc_auc(accepted[i], scores[i])}, comments)
        if is_probability:
            cells |= calibration(accepted.astype(int), scores, comments)
        return cells

    def tfidf(self) -> tuple[Baseline, Sequence[str]]:
        rows = self.parts["train"]
        fitted = baselines.tfidf_classifier([row.reply for row in rows], [int(row.grade >= graded.ACCEPTABLE) for row in rows])
        return lambda pairs: fitted.predict_proba([reply for _, reply in pairs])[:, 1], ()


TASKS: dict[str, Callable[[Inputs], Task]] = {"upvote": Upvote, "realism": Realism, "relevance": Relevance, "choice": Choice}


def longer(pairs: Pairs) -> Array:
    """Scores by the number of characters of the reply."""
    return np.array([len(reply) for _, reply in pairs], float)


def at_random(pairs: Pairs) -> Array:
    """A number in [0, 1) for each pair, by a hash of its text."""
    return np.array([zlib.crc32(f"{comment}\n{reply}".encode()) / 2**32 for comment, reply in pairs])


def known_generators(card: ModelCard) -> list[str] | None:
    """The generators that a realism ranker was trained on; None if its card does not list them."""
    names = card.settings.get("generators")
    return [str(name) for name in names] if isinstance(names, list) else None


def unseen_subreddits(card: ModelCard) -> dict[str, Any]:
    """Pairwise accuracy on the subreddits left out of training, at a karma gap of at least 5, from the card (by `evaluate --model`)."""
    measured = card.metrics.get(f"{upvote.LEFT_OUT}gap_{upvote.LARGE_GAPS[0]}", {}).get("ranker", {}).get("pairwise_accuracy")
    return {"unseen": tuple(measured)} if measured else {}
