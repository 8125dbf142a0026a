"""How well an upvote ranker orders siblings by karma, tells classes of karma, and does on subreddits that it learnt nothing of.

Reads, by way of model.py, DATA/upvote_pairs_{train,test}.csv; for a ranker that was trained on classes of karma upvote_{train,test}.csv
too. See measures.py for the shape of the results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bot import metrics, rankers
from bot.cli import UserError
from bot.evaluate import baselines
from bot.evaluate.measures import FEWEST_TOLD, PROBABILITIES, ScoredRows, counts
from bot.metrics import Array, mean_with_interval, with_intervals
from bot.rankers import score
from bot.rankers.score_files import Scorer
from bot.schema import UpvotePair, UpvoteRow, sample_rows
from bot.weights import cards

CLASS_ROWS = 2500  # test rows whose class is told, drawn at random
MOST_HOURS = 1.0  # between siblings, where times are real (DialogRPT's rule)
LARGE_GAPS = (5, 20)  # karma; DialogRPT counts from 20
GAP_BINS = (2, 5, 10, 20, 50, 100)  # least karma gap of each bin of the curve; the last is open
LIKE_LENGTH = 0.8  # the shorter reply's share of the longer one's characters, at least
FEWEST_PAIRS, FEWEST_THREADS = 50, 5  # of a subreddit that is shown by itself; intervals over fewer threads would be too narrow
LEFT_OUT = "left_out_"  # before a subset's name, of pairs of subreddits that were left out of training
TOLD_THE_TIME = "ranker_and_earlier"  # no baseline: it knows what isn't known of candidates
SCORERS = ("ranker", "tfidf", "longer_wins", "earlier_wins", "untuned_encoder", "generator_likelihood", TOLD_THE_TIME)


def score_pairs(
    ranker: Scorer, untuned: Scorer | None, train: Sequence[UpvotePair], test: Sequence[UpvotePair], name: str = "upvote_pairs_test"
) -> ScoredRows:
    """train: pairs that the ranker learnt from. untuned: the cosine under its base, None where that isn't there. name: of the score files.

    Raises UserError: no siblings are near enough in time.
    """
    test = [row for row in test if abs(row.hours_gap) <= MOST_HOURS]
    if not test:
        raise UserError(f"{name}: no pair is at most {MOST_HOURS:g} hours apart; prepare with a smaller --hours-gap")
    pairs = [(row.comment, row.chosen) for row in test] + [(row.comment, row.rejected) for row in test]
    bag = baselines.tfidf_pairwise([row.chosen for row in train], [row.rejected for row in train])
    hours = np.array([row.hours_gap or np.nan for row in test])  # 0: the month's times aren't real
    scores = {
        "ranker": sides(ranker(pairs, name)),
        "tfidf": sides(bag([reply for _, reply in pairs])),
        "longer_wins": sides([len(reply) for _, reply in pairs]),
        "earlier_wins": np.stack([-hours, 0 * hours], axis=1),
    }
    gaps = np.array([row.hours_gap for row in train if row.hours_gap])
    if len(gaps):
        earlier = float(np.clip(np.mean(gaps < 0), 0.01, 0.99))  # how often the earlier one has more karma
        by_time = np.stack([-np.sign(hours) * np.log(earlier / (1 - earlier)), 0 * hours], axis=1)
        scores[TOLD_THE_TIME] = score.log_odds(scores["ranker"]) + by_time
    if untuned:
        scores["untuned_encoder"] = sides(untuned(pairs, name))
    return ScoredRows(test, scores)


def sides(values: Sequence[float] | Array) -> Array:
    """(rows, 2) of first all rows' chosen replies, then all rejected ones."""
    return np.stack(np.split(np.asarray(values, float), 2), axis=1)


def measure(tested: ScoredRows, subsets: Mapping[str, Array] | None = None) -> dict[str, Any]:
    """Pairwise accuracy of each scorer on each subset (`subsets_of` unless told), and how far it is behind the ranker on the same
    pairs; of all and of large gaps, how well stated chances hold, too.
    """
    result: dict[str, Any] = {}
    of_ranker = metrics.wins(*tested.scores["ranker"].T)
    for name, inside in (subsets or subsets_of(tested.rows)).items():
        if not inside.any():
            continue
        content: dict[str, Any] = counts([row for row, has in zip(tested.rows, inside, strict=True) if has], "pairs")
        for scorer, scores in tested.scores.items():
            told = np.flatnonzero(inside & ~np.isnan(scores[:, 0]))
            if len(told) < min(FEWEST_TOLD, content["pairs"]):
                continue
            threads = [tested.rows[row].thread_id for row in told]
            won = metrics.wins(scores[told, 0], scores[told, 1])
            content[scorer] = {"pairwise_accuracy": mean_with_interval(won, threads)}
            if scorer != "ranker":
                content[scorer]["behind_ranker"] = mean_with_interval(of_ranker[told] - won, threads, lowest=-1.0)
            if len(told) < content["pairs"]:
                content[scorer]["pairs"] = len(told)
            if scorer in PROBABILITIES and name in ("all", "gap_20"):
                chances = pair_chances(scorer, scores[told])
                content[scorer] |= with_intervals(lambda rows, p=chances: {"calibration_error": pair_calibration_error(p[rows])}, threads)  # type: ignore[misc]
        result[name] = content
    return result


def pair_chances(scorer: str, scores: Array) -> Array:
    """The chance that the chosen reply is the better one, as the two scores state it: the difference of their log-odds."""
    log_odds = score.log_odds(scores) if scorer == "ranker" else scores
    chances: Array = 1 / (1 + np.exp(log_odds[:, 1] - log_odds[:, 0]))
    return chances


def pair_calibration_error(chances: Array) -> float:
    """Each pair counts both ways round, since the order of the two means nothing."""
    return metrics.expected_calibration_error(np.repeat([1, 0], len(chances)), np.concatenate([chances, 1 - chances]))


def subsets_of(rows: Sequence[UpvotePair]) -> dict[str, Array]:
    """Which rows, (rows,) of bool: all, large karma gaps, replies of like length, subreddits of many pairs, and each bin of the curve."""
    gaps = np.array([row.karma_gap for row in rows])
    longest = np.array([max(len(row.chosen), len(row.rejected)) for row in rows])
    alike = np.array([min(len(row.chosen), len(row.rejected)) for row in rows]) >= LIKE_LENGTH * longest
    subreddits = np.array([row.subreddit for row in rows])
    largest = LARGE_GAPS[-1]
    result = {"all": np.ones(len(rows), bool)}
    result |= {f"gap_{gap}": gaps >= gap for gap in LARGE_GAPS}
    result |= {"like_length": alike, f"like_length_gap_{largest}": alike & (gaps >= largest)}
    threads = np.array([row.thread_id for row in rows])
    for name, count in Counter(subreddits.tolist()).most_common():
        own = {f"r/{name}": subreddits == name, f"r/{name}_gap_{largest}": (subreddits == name) & (gaps >= largest)}
        if count >= FEWEST_PAIRS:
            result |= {subset: inside for subset, inside in own.items() if len(set(threads[inside])) >= FEWEST_THREADS}
    for low, high in zip(GAP_BINS, (*GAP_BINS[1:], np.inf), strict=True):
        result[f"gap_{low}+" if high == np.inf else f"gap_{low}-{high - 1}"] = (gaps >= low) & (gaps < high)
    return result


def measurable(pairs: Sequence[UpvotePair]) -> list[UpvotePair]:
    """Those with the least of LARGE_GAPS, at most MOST_HOURS apart."""
    return [row for row in pairs if row.karma_gap >= LARGE_GAPS[0] and abs(row.hours_gap) <= MOST_HOURS]


def measure_left_out(ranker: Scorer, train: Sequence[UpvotePair], unseen: Sequence[UpvotePair]) -> dict[str, Any]:
    """Accuracy on subreddits that the ranker learnt nothing of, at each of LARGE_GAPS: all together, and each, however few its pairs.

    Raises UserError: none of their pairs is `measurable`.
    """
    tested = score_pairs(ranker, None, train, measurable(unseen), "upvote_pairs_left_out")
    gaps = np.array([row.karma_gap for row in tested.rows])
    names = np.array([row.subreddit.lower() for row in tested.rows])
    subsets = {f"gap_{gap}": gaps >= gap for gap in LARGE_GAPS}
    subsets |= {f"r/{name}_gap_{gap}": (names == name) & (gaps >= gap) for name in sorted(set(names.tolist())) for gap in LARGE_GAPS}
    return {f"{LEFT_OUT}{name}": found for name, found in measure(tested, subsets).items()}


def gather_left_out(cards: Sequence[cards.ModelCard]) -> dict[str, Any]:
    """What these rankers' cards say of the subreddits that each didn't learn from (`measure_left_out`): all together, then each.

    Of all together the intervals come from drawing subreddits again, as the question is how it does on another one.

    Raises UserError: two of them measured the same subreddit.
    """
    each: dict[str, dict[str, Any]] = {}
    for card in cards:
        own = {name.removeprefix(LEFT_OUT): told for name, told in card.metrics.items() if name.startswith(f"{LEFT_OUT}r/")}
        if twice := sorted(own.keys() & each.keys()):
            raise UserError(f"--left-out: {twice[0].rpartition('_gap_')[0]} was left out of two of these rankers; give one of them")
        each |= own
    result: dict[str, Any] = {}
    for gap in reversed(LARGE_GAPS):
        there = {name: told for name, told in sorted(each.items()) if name.endswith(f"_gap_{gap}")}
        if not there:
            continue
        whole: dict[str, Any] = {"pairs": sum(told["pairs"] for told in there.values()), "subreddits": len(there)}
        for scorer in ("ranker", "tfidf", "longer_wins"):  # those that tell every pair
            accuracies, sizes = zip(*((told[scorer]["pairwise_accuracy"][0], told["pairs"]) for told in there.values()), strict=True)
            whole[scorer] = {"pairwise_accuracy": mean_with_interval(np.repeat(accuracies, sizes), np.repeat([*there], sizes).tolist())}
        result[f"gap_{gap}"] = whole
    return result | dict(sorted(each.items()))


# --- classes of karma -----------------------------------------------------------------------------------------------------


def measure_classes(ranker: Scorer, train: Sequence[UpvoteRow], test: list[UpvoteRow], classes: int) -> dict[str, Any]:
    """How well the classes of karma of test rows are told, by the ranker and by each baseline; the mean over classes is «macro».

    A score alone says the class: it is the mean class as a share of the highest, so the class is `score * (classes - 1)`, rounded.
    """
    test = sample_rows(test, CLASS_ROWS, 1)
    labels = np.array([rankers.karma_class(row.reply_karma, classes) for row in test])
    learnt = [rankers.karma_class(row.reply_karma, classes) for row in train]
    bag = baselines.tfidf_classifier([row.reply for row in train], learnt)
    scores = {
        "ranker": ranker([(row.comment, row.reply) for row in test], "upvote_test"),
        "tfidf": bag.predict_proba([row.reply for row in test]) @ bag.classes_ / (classes - 1),
        "majority": np.full(len(test), np.bincount(learnt).argmax() / (classes - 1)),
    }
    threads = [row.thread_id for row in test]
    result: dict[str, Any] = counts(test, "rows")
    for name, p in scores.items():
        result[name] = with_intervals(lambda i, p=p: class_measures(labels[i], p[i], classes), threads)  # type: ignore[misc]
        result[name]["confusion"] = metrics.confusion_matrix(labels, class_of(p, classes), classes).tolist()
    return {f"{classes}_classes": result}


def class_of(scores: Array, classes: int) -> Array:
    """
    >>> class_of(np.array([0.1, 0.2, 0.5, 1.0]), 4).tolist(), class_of(np.array([0.4, 0.5]), 2).tolist()
    ([0, 1, 2, 3], [0, 1])
    """
    return np.floor(scores * (classes - 1) + 0.5).astype(int)


def class_measures(labels: Array, scores: Array, classes: int) -> dict[str, float]:
    predicted = class_of(scores, classes)
    means = metrics.precision_recall_f1(metrics.confusion_matrix(labels, predicted, classes)).mean(axis=1)
    result = {"accuracy": float(np.mean(labels == predicted))}
    result |= {f"macro_{name}": float(mean) for name, mean in zip(("precision", "recall", "f1"), means, strict=True)}
    return {**result, "roc_auc_cuts": metrics.roc_auc_of_cuts(labels, scores, classes)}
