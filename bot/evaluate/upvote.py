"""How well an upvote ranker orders siblings by karma, predicts karma classes, and does on subreddits that it was not trained on.

model.py reads DATA/upvote_pairs_{train,test}.csv for it, and upvote_{train,test}.csv for a ranker trained on karma classes. See measures.py
for the form of the results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bot import metrics, rankers
from bot.cli import UserError
from bot.corpus import karma_rules
from bot.corpus.karma_rules import Karmas
from bot.evaluate import baselines
from bot.evaluate.measures import MIN_SCORED, PROBABILITIES, ScoredRows, TooFew, counts
from bot.metrics import Array, mean_with_interval, with_intervals
from bot.rankers import score
from bot.rankers.score_files import Scorer
from bot.schema import UpvotePair, UpvoteRow, sample_rows
from bot.weights import cards

CLASS_ROWS = 2500  # maximum number of test rows for karma classes, drawn at random
MAX_HOURS_GAP = 1.0  # between siblings, where times are known (DialogRPT's rule)
LARGE_GAPS = (5, 20)  # karma; DialogRPT uses 20
GAP_BINS = (2, 5, 10, 20, 50, 100)  # lower karma gap of each bin of the curve; the last bin is open
LENGTH_RATIO = 0.8  # minimum ratio of the shorter to the longer reply, in characters, for the subsets of similar length
MIN_PAIRS, MIN_THREADS = 50, 5  # of a subreddit that is reported separately; intervals over fewer threads would be too narrow
LEFT_OUT = "left_out_"  # prefix of the subsets of subreddits that were left out of training
WITH_TIME = "ranker_and_earlier"  # not a baseline: it uses the order of the replies in time, which candidates don't have
SCORERS = ("ranker", "tfidf", "longer_wins", "earlier_wins", "untuned_encoder", "generator_likelihood", WITH_TIME)


def score_pairs(
    ranker: Scorer, untuned: Scorer | None, train: Sequence[UpvotePair], test: Sequence[UpvotePair], name: str = "upvote_pairs_test"
) -> ScoredRows:
    """Score test pairs. train: the ranker's training pairs. untuned: cosine under its base, None if not available. name: for score files.

    Raises TooFew if no siblings are close enough in time, or the baseline cannot be fitted.
    """
    test = close_in_time(test)
    if not test:
        raise TooFew(f"no pair of the test split is at most {MAX_HOURS_GAP:g} hours apart, as with a smaller --hours-gap")
    pairs = [(row.comment, row.chosen) for row in test] + [(row.comment, row.rejected) for row in test]
    tfidf = baselines.tfidf_pairwise([row.chosen for row in train], [row.rejected for row in train])
    hours = np.array([row.hours_gap or np.nan for row in test])  # 0: times are not known
    scores = {
        "ranker": sides(ranker(pairs, name)),
        "tfidf": sides(tfidf([reply for _, reply in pairs])),
        "longer_wins": sides([len(reply) for _, reply in pairs]),
        "earlier_wins": np.stack([-hours, 0 * hours], axis=1),
    }
    gaps = np.array([row.hours_gap for row in train if row.hours_gap])
    if len(gaps):
        earlier = float(np.clip(np.mean(gaps < 0), 0.01, 0.99))  # how often the earlier reply has more karma
        by_time = np.stack([-np.sign(hours) * np.log(earlier / (1 - earlier)), 0 * hours], axis=1)
        scores[WITH_TIME] = score.log_odds(scores["ranker"]) + by_time
    if untuned:
        scores["untuned_encoder"] = sides(untuned(pairs, name))
    return ScoredRows(test, scores)


def close_in_time(pairs: Sequence[UpvotePair]) -> list[UpvotePair]:
    """The pairs of siblings that are at most MAX_HOURS_GAP apart, or whose times are not known."""
    return [pair for pair in pairs if abs(pair.hours_gap) <= MAX_HOURS_GAP]


def sides(values: Sequence[float] | Array) -> Array:
    """(rows, 2) from a sequence of all chosen replies followed by all rejected ones."""
    return np.stack(np.split(np.asarray(values, float), 2), axis=1)


def measure(tested: ScoredRows, known: Karmas, subsets: Mapping[str, Array] | None = None) -> dict[str, Any]:
    """Pairwise accuracy of each scorer on each subset, and its distance to the ranker on the same pairs.

    known: the karma of all replies to these comments, for the subsets "dialogrpt" and "shp" (corpus.karma_rules). subsets: name -> mask
    (default: `subsets_of`). "all" and "gap_20" also get the calibration error of the pair probabilities.
    """
    result: dict[str, Any] = {}
    ranker_won = metrics.wins(*tested.scores["ranker"].T)
    for name, inside in {**(subsets or subsets_of(tested.rows)), **by_rule(tested.rows, known)}.items():
        if not inside.any():
            continue
        content: dict[str, Any] = counts([row for row, is_inside in zip(tested.rows, inside, strict=True) if is_inside], "pairs")
        for scorer, scores in tested.scores.items():
            scored = np.flatnonzero(inside & ~np.isnan(scores[:, 0]))
            if len(scored) < min(MIN_SCORED, content["pairs"]):
                continue
            threads = [tested.rows[row].thread_id for row in scored]
            won = metrics.wins(scores[scored, 0], scores[scored, 1])
            content[scorer] = {"pairwise_accuracy": mean_with_interval(won, threads)}
            if scorer != "ranker":
                content[scorer]["behind_ranker"] = mean_with_interval(ranker_won[scored] - won, threads, lowest=-1.0)
            if len(scored) < content["pairs"]:
                content[scorer]["pairs"] = len(scored)
            if scorer in PROBABILITIES and name in ("all", "gap_20"):
                p = pair_probabilities(scorer, scores[scored])
                content[scorer] |= with_intervals(lambda rows, p=p: {"calibration_error": pair_calibration_error(p[rows])}, threads)  # type: ignore[misc]
        result[name] = content
    return result


def pair_probabilities(scorer: str, scores: Array) -> Array:
    """Probability that the chosen reply is the better one, (pairs,), from the difference of the two log-odds."""
    log_odds = score.log_odds(scores) if scorer == "ranker" else scores
    probabilities: Array = 1 / (1 + np.exp(log_odds[:, 1] - log_odds[:, 0]))
    return probabilities


def pair_calibration_error(probabilities: Array) -> float:
    """Expected calibration error. Each pair counts in both orders, because the order has no meaning."""
    return metrics.expected_calibration_error(np.repeat([1, 0], len(probabilities)), np.concatenate([probabilities, 1 - probabilities]))


def subsets_of(rows: Sequence[UpvotePair]) -> dict[str, Array]:
    """Subset -> mask (rows,): all, large karma gaps, replies of similar length, subreddits with many pairs, each bin of the curve."""
    gaps = np.array([row.karma_gap for row in rows])
    longest = np.array([max(len(row.chosen), len(row.rejected)) for row in rows])
    similar = np.array([min(len(row.chosen), len(row.rejected)) for row in rows]) >= LENGTH_RATIO * longest
    subreddits = np.array([row.subreddit for row in rows])
    largest = LARGE_GAPS[-1]
    result = {"all": np.ones(len(rows), bool)}
    result |= {f"gap_{gap}": gaps >= gap for gap in LARGE_GAPS}
    result |= {"like_length": similar, f"like_length_gap_{largest}": similar & (gaps >= largest)}
    threads = np.array([row.thread_id for row in rows])
    for name, count in Counter(subreddits.tolist()).most_common():
        own = {f"r/{name}": subreddits == name, f"r/{name}_gap_{largest}": (subreddits == name) & (gaps >= largest)}
        if count >= MIN_PAIRS:
            result |= {subset: inside for subset, inside in own.items() if len(set(threads[inside])) >= MIN_THREADS}
    for low, high in zip(GAP_BINS, (*GAP_BINS[1:], np.inf), strict=True):
        result[f"gap_{low}+" if high == np.inf else f"gap_{low}-{high - 1}"] = (gaps >= low) & (gaps < high)
    return result


def by_rule(rows: Sequence[UpvotePair], known: Karmas) -> dict[str, Array]:
    """Rule -> mask (rows,): the pairs that DialogRPT's test and SHP count."""
    return {
        "dialogrpt": np.array([karma_rules.is_dialogrpt(row, known) for row in rows], bool),
        "shp": np.array([karma_rules.is_shp(row, known) for row in rows], bool),
    }


def measurable(pairs: Sequence[UpvotePair]) -> list[UpvotePair]:
    """The pairs with at least the smallest karma gap of LARGE_GAPS and at most MAX_HOURS_GAP."""
    return [row for row in pairs if row.karma_gap >= LARGE_GAPS[0] and abs(row.hours_gap) <= MAX_HOURS_GAP]


def measure_left_out(ranker: Scorer, train: Sequence[UpvotePair], unseen: Sequence[UpvotePair], known: Karmas) -> dict[str, Any]:
    """Accuracy on subreddits that the ranker was not trained on, for each karma gap of LARGE_GAPS: all together, and one by one; and on
    all together by DialogRPT's and SHP's rules. known: as in `measure`.

    Raises UserError if none of their pairs is `measurable`.
    """
    pairs = measurable(unseen)
    if not pairs:
        subreddits = ", ".join(sorted({row.subreddit.lower() for row in unseen}))
        limits = f"a karma gap of at least {LARGE_GAPS[0]} and at most {MAX_HOURS_GAP:g} hours apart"
        raise UserError(f"left-out subreddits ({subreddits}): no pair with {limits}; prepare more data, or leave out others")
    tested = score_pairs(ranker, None, train, pairs, "upvote_pairs_left_out")
    gaps = np.array([row.karma_gap for row in tested.rows])
    names = np.array([row.subreddit.lower() for row in tested.rows])
    subsets = {f"gap_{gap}": gaps >= gap for gap in LARGE_GAPS}
    subsets |= {f"r/{name}_gap_{gap}": (names == name) & (gaps >= gap) for name in sorted(set(names.tolist())) for gap in LARGE_GAPS}
    return {f"{LEFT_OUT}{name}": content for name, content in measure(tested, known, subsets).items()}


def merge_left_out(cards: Sequence[cards.ModelCard]) -> dict[str, Any]:
    """The results of `measure_left_out` in the cards of several rankers: all subreddits together, then each.

    The intervals of all together come from a bootstrap over subreddits, because they are about performance on another subreddit.

    Raises UserError if two cards have the same subreddit.
    """
    by_subreddit: dict[str, dict[str, Any]] = {}
    for card in cards:
        own = {name.removeprefix(LEFT_OUT): content for name, content in card.metrics.items() if name.startswith(f"{LEFT_OUT}r/")}
        if duplicates := sorted(own.keys() & by_subreddit.keys()):
            raise UserError(f"--left-out: two of these rankers left out {duplicates[0].rpartition('_gap_')[0]}; drop one of them")
        by_subreddit |= own
    result: dict[str, Any] = {}
    for gap in reversed(LARGE_GAPS):
        of_gap = {name: content for name, content in sorted(by_subreddit.items()) if name.endswith(f"_gap_{gap}")}
        if not of_gap:
            continue
        total: dict[str, Any] = {"pairs": sum(content["pairs"] for content in of_gap.values()), "subreddits": len(of_gap)}
        for scorer in ("ranker", "tfidf", "longer_wins"):  # the scorers that score every pair
            accuracies, sizes = zip(*((each[scorer]["pairwise_accuracy"][0], each["pairs"]) for each in of_gap.values()), strict=True)
            total[scorer] = {"pairwise_accuracy": mean_with_interval(np.repeat(accuracies, sizes), np.repeat([*of_gap], sizes).tolist())}
        result[f"gap_{gap}"] = total
    return result | dict(sorted(by_subreddit.items()))


# --- karma classes ------------------------------------------------------------------------------------------------------


def measure_classes(ranker: Scorer, train: Sequence[UpvoteRow], test: list[UpvoteRow], classes: int) -> dict[str, Any]:
    """How well the ranker and each baseline predict the karma class of test rows. macro_*: mean over the classes.

    The class follows from the score, which is the mean class divided by the highest class: `score * (classes - 1)`, rounded.
    """
    test = sample_rows(test, CLASS_ROWS, 1)
    labels = np.array([rankers.karma_class(row.reply_karma, classes) for row in test])
    train_labels = [rankers.karma_class(row.reply_karma, classes) for row in train]
    tfidf = baselines.tfidf_classifier([row.reply for row in train], train_labels)
    scores = {
        "ranker": ranker([(row.comment, row.reply) for row in test], "upvote_test"),
        "tfidf": tfidf.predict_proba([row.reply for row in test]) @ tfidf.classes_ / (classes - 1),
        "majority": np.full(len(test), np.bincount(train_labels).argmax() / (classes - 1)),
    }
    threads = [row.thread_id for row in test]
    result: dict[str, Any] = counts(test, "rows")
    for name, p in scores.items():
        result[name] = with_intervals(lambda i, p=p: class_measures(labels[i], p[i], classes), threads)  # type: ignore[misc]
        result[name]["confusion"] = metrics.confusion_matrix(labels, class_of(p, classes), classes).tolist()
    return {f"{classes}_classes": result}


def class_of(scores: Array, classes: int) -> Array:
    """Karma classes (rows,) from scores.

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
