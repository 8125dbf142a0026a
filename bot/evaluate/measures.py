"""How well one ranker does on test rows, beside its baselines; what `evaluate` prints and model cards hold.

`measure` reads DATA/{realism,upvote_pairs,upvote,relevance}_{train,test}.csv as far as the ranker's kind asks for them. Splits are by
thread, and intervals (95 %) come from drawing whole threads again. A baseline that learns is given what the ranker was given to train on.
The result is {subset: {counts, scorer: {measure: (value, low, high), confusion: counts}}}.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bot import metrics, rankers, schema, text
from bot.cli import UserError
from bot.evaluate import baselines
from bot.evaluate.baselines import Pairs
from bot.rankers import score
from bot.schema import LabelledRow, RealismRow, UpvotePair, UpvoteRow, sample_rows
from bot.weights import bases, cards

REALISM_ROWS = 2500  # test rows scored at most, drawn by chance
CLASS_ROWS = 2500
MOST_HOURS = 1.0  # between siblings, where times are real (DialogRPT's rule)
LARGE_GAPS = (5, 20)  # karma; DialogRPT counts from 20
GAP_BINS = (2, 5, 10, 20, 50, 100)  # least karma gap of each bin of the curve; the last is open
LIKE_LENGTH = 0.8  # the shorter reply's share of the longer one's characters, at least
FEWEST_PAIRS, FEWEST_THREADS = 50, 5  # of a subreddit that is shown by itself; intervals over fewer threads would be too narrow
FEWEST_TOLD = 20  # pairs of a scorer that ran on some only; fewer would say nothing
LEFT_OUT = "left_out_"  # before a subset's name, of pairs of subreddits that were left out of training
RELEVANCE_QUERIES = 1000  # comments whose reply is looked for
RELEVANCE_POOL = 200  # replies of the subreddit that the others are taken from
TOLD_THE_TIME = "ranker_and_earlier"  # no baseline: it knows what isn't known of candidates
UPVOTE_SCORERS = ("ranker", "tfidf", "longer_wins", "earlier_wins", "untuned_encoder", "generator_likelihood", TOLD_THE_TIME)
# Scorers whose numbers are probabilities that label 1 is right; the others' only order rows.
PROBABILITIES = ("ranker", "tfidf", "always_real")


@dataclass
class ScoredRows:
    """Test rows and what each scorer says: (rows,), or of siblings (rows, 2), chosen and rejected. NaN where a scorer can't tell."""

    rows: list[Any]
    scores: dict[str, metrics.Array]
    seen: frozenset[str] = frozenset()  # generators in the training file

    @property
    def threads(self) -> list[str]:
        return [row.thread_id for row in self.rows]


def with_intervals(measure: Callable[[metrics.Array], Mapping[str, float]], threads: Sequence[str]) -> dict[str, metrics.Interval]:
    """Each number in [0, 1] that `measure` makes of row indices, with its interval, to four places; one that isn't defined is left out."""
    whole = measure(np.arange(len(threads)))
    one_thread = len(set(threads)) == 1
    bounds = [(0.0, 1.0)] * len(whole) if one_thread else metrics.bootstrap_intervals(lambda rows: [*measure(rows).values()], threads)
    return {
        name: (round(value, 4), round(low, 4), round(high, 4))
        for (name, value), (low, high) in zip(whole.items(), bounds, strict=True)
        if not np.isnan(value)
    }


def counts(rows: Sequence[Any], name: str) -> dict[str, Any]:
    return {name: len(rows), "threads": len({row.thread_id for row in rows})}


def ranker_scores(ranker: rankers.Ranker, pairs: Pairs) -> metrics.Array:
    """(pairs,), each different pair scored once; the numbers that `score` writes."""
    different = list(dict.fromkeys(pairs))
    found = dict(zip(different, ranker.score(score.cleaned(different)), strict=True))
    return np.array([found[pair] for pair in pairs], float)


# --- upvote -----------------------------------------------------------------------------------------------------------------


def score_upvote(ranker: rankers.Ranker, encoder: str | None, train: list[UpvotePair], test: list[UpvotePair]) -> ScoredRows:
    """encoder: a base for the untuned one's cosine; None leaves it out. Raises UserError: no siblings are near enough in time."""
    test = [row for row in test if abs(row.hours_gap) <= MOST_HOURS]
    if not test:
        raise UserError(f"upvote_pairs_test.csv: no pair is at most {MOST_HOURS:g} hours apart; prepare with a smaller --hours-gap")
    pairs = [(row.comment, row.chosen) for row in test] + [(row.comment, row.rejected) for row in test]
    bag = baselines.tfidf_pairwise([row.chosen for row in train], [row.rejected for row in train])
    hours = np.array([row.hours_gap or np.nan for row in test])  # 0: the month's times aren't real
    scores = {
        "ranker": sides(ranker_scores(ranker, pairs)),
        "tfidf": sides(bag([reply for _, reply in pairs])),
        "longer_wins": sides([len(reply) for _, reply in pairs]),
        "earlier_wins": np.stack([-hours, 0 * hours], axis=1),
    }
    gaps = np.array([row.hours_gap for row in train if row.hours_gap])
    if len(gaps):
        earlier = float(np.clip(np.mean(gaps < 0), 0.01, 0.99))  # how often the earlier one has more karma
        told = np.stack([-np.sign(hours) * np.log(earlier / (1 - earlier)), 0 * hours], axis=1)
        scores[TOLD_THE_TIME] = score.log_odds(scores["ranker"]) + told
    if encoder is not None:
        scores["untuned_encoder"] = sides(baselines.cosines(encoder, pairs))
    return ScoredRows(test, scores)


def sides(values: Sequence[float] | metrics.Array) -> metrics.Array:
    """(rows, 2) of first all rows' chosen replies, then all rejected ones."""
    return np.stack(np.split(np.asarray(values, float), 2), axis=1)


def measure_upvote(tested: ScoredRows, subsets: Mapping[str, metrics.Array] | None = None) -> dict[str, Any]:
    """Pairwise accuracy of each scorer on each subset (`upvote_subsets` unless told), and how far it is behind the ranker on the same
    pairs; of all and of large gaps, how well stated chances hold, too.
    """
    result: dict[str, Any] = {}
    of_ranker = metrics.wins(*tested.scores["ranker"].T)
    for name, inside in (subsets or upvote_subsets(tested.rows)).items():
        if not inside.any():
            continue
        content: dict[str, Any] = counts([row for row, has in zip(tested.rows, inside, strict=True) if has], "pairs")
        for scorer, scores in tested.scores.items():
            told = np.flatnonzero(inside & ~np.isnan(scores[:, 0]))
            if len(told) < min(FEWEST_TOLD, content["pairs"]):
                continue
            threads = [tested.rows[row].thread_id for row in told]
            won = metrics.wins(scores[told, 0], scores[told, 1])
            content[scorer] = {"pairwise_accuracy": metrics.mean_with_interval(won, threads)}
            if scorer != "ranker":
                content[scorer]["behind_ranker"] = metrics.mean_with_interval(of_ranker[told] - won, threads, lowest=-1.0)
            if len(told) < content["pairs"]:
                content[scorer]["pairs"] = len(told)
            if scorer in PROBABILITIES and name in ("all", "gap_20"):
                chances = pair_chances(scorer, scores[told])
                content[scorer] |= with_intervals(lambda rows, p=chances: {"calibration_error": pair_calibration_error(p[rows])}, threads)  # type: ignore[misc]
        result[name] = content
    return result


def pair_chances(scorer: str, scores: metrics.Array) -> metrics.Array:
    """The chance that the chosen reply is the better one, as the two scores state it: the difference of their log-odds."""
    log_odds = score.log_odds(scores) if scorer == "ranker" else scores
    chances: metrics.Array = 1 / (1 + np.exp(log_odds[:, 1] - log_odds[:, 0]))
    return chances


def pair_calibration_error(chances: metrics.Array) -> float:
    """Each pair counts both ways round, since the order of the two means nothing."""
    return metrics.expected_calibration_error(np.repeat([1, 0], len(chances)), np.concatenate([chances, 1 - chances]))


def upvote_subsets(rows: Sequence[UpvotePair]) -> dict[str, metrics.Array]:
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


def evaluate_left_out(ranker: rankers.Ranker, train: list[UpvotePair], unseen: list[UpvotePair]) -> dict[str, Any]:
    """Accuracy on subreddits that the ranker learnt nothing of, at each of LARGE_GAPS: all together, and each, however few its pairs.

    Raises UserError: none of their pairs is `measurable`.
    """
    tested = score_upvote(ranker, None, train, measurable(unseen))
    gaps = np.array([row.karma_gap for row in tested.rows])
    names = np.array([row.subreddit.lower() for row in tested.rows])
    subsets = {f"gap_{gap}": gaps >= gap for gap in LARGE_GAPS}
    subsets |= {f"r/{name}_gap_{gap}": (names == name) & (gaps >= gap) for name in sorted(set(names.tolist())) for gap in LARGE_GAPS}
    return {f"{LEFT_OUT}{name}": found for name, found in measure_upvote(tested, subsets).items()}


def gather_left_out(cards: Sequence[cards.ModelCard]) -> dict[str, Any]:
    """What these rankers' cards say of the subreddits that each didn't learn from (`evaluate_left_out`): all together, then each.

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
            whole[scorer] = {
                "pairwise_accuracy": metrics.mean_with_interval(np.repeat(accuracies, sizes), np.repeat([*there], sizes).tolist())
            }
        result[f"gap_{gap}"] = whole
    return result | dict(sorted(each.items()))


# --- realism ----------------------------------------------------------------------------------------------------------------


def score_realism(ranker: rankers.Ranker, encoder: str | None, train: list[RealismRow], test: list[RealismRow]) -> ScoredRows:
    test = sample_rows(test, REALISM_ROWS, 1)
    pairs = [(row.comment, row.reply) for row in test]
    bag = baselines.tfidf_classifier([row.reply for row in train], [row.label for row in train])
    scores = {
        "ranker": ranker_scores(ranker, pairs),
        "tfidf": bag.predict_proba([row.reply for row in test])[:, 1],
        "always_real": np.ones(len(test)),
        "longer_is_real": np.array([len(row.reply) for row in test], float),
    }
    if encoder is not None:
        scores["untuned_encoder"] = baselines.cosines(encoder, pairs)
    return ScoredRows(test, scores, frozenset(row.generator for row in train if not row.label))


def measure_realism(tested: ScoredRows) -> dict[str, Any]:
    """How well test rows are told apart, people's being the positive class: all, and each generator's against all people's."""
    people = np.array([row.label == 1 for row in tested.rows])
    names = sorted({row.generator for row in tested.rows if not row.label})
    subsets: dict[str, tuple[metrics.Array, dict[str, Any]]] = {"all": (np.ones(len(people), bool), {})}
    if len(names) > 1 or set(names) - tested.seen:
        for name in names:
            own = np.array([row.generator == name for row in tested.rows])
            subsets[f"generator {name}"] = (people | (own & ~people), {} if name in tested.seen else {"unseen_in_training": True})
    result: dict[str, Any] = {}
    for subset, (inside, facts) in subsets.items():
        rows = [row for row, has in zip(tested.rows, inside, strict=True) if has]
        content: dict[str, Any] = {**counts(rows, "rows"), "real": int(people[inside].sum()), **facts}
        for scorer, scores in tested.scores.items():
            told = np.flatnonzero(inside & ~np.isnan(scores))
            labels, p = people[told].astype(int), scores[told]
            threads = [tested.rows[row].thread_id for row in told]
            certain = scorer in PROBABILITIES
            content[scorer] = with_intervals(
                lambda i, labels=labels, p=p, certain=certain: realism_measures(labels[i], p[i], certain),  # type: ignore[misc]
                threads,
            )
            if certain:
                content[scorer]["confusion"] = metrics.confusion_matrix(labels, p >= 0.5).tolist()
            if len(told) < content["rows"]:
                content[scorer]["rows"] = len(told)
        result[subset] = content
    return result


def realism_measures(labels: metrics.Array, scores: metrics.Array, probabilities: bool) -> dict[str, float]:
    """precision, recall and F1 are people's; pr_auc_generated is the average precision of finding generated replies."""
    result = {}
    if probabilities:
        predicted = scores >= 0.5
        precision, recall, f1 = metrics.precision_recall_f1(metrics.confusion_matrix(labels, predicted))[:, 1]
        result = {
            "accuracy": float(np.mean(labels == predicted)), "precision": float(precision), "recall": float(recall), "f1": float(f1),
            "balanced_accuracy": metrics.balanced_accuracy(labels, predicted) if 0 < labels.sum() < len(labels) else np.nan,
        }  # fmt: skip
    result |= {"roc_auc": metrics.roc_auc(labels, scores), "pr_auc_generated": metrics.average_precision(1 - labels, -scores)}
    if probabilities:
        result["calibration_error"] = metrics.expected_calibration_error(labels, scores)
    return result


# --- classes of karma ---------------------------------------------------------------------------------------------------------


def evaluate_classes(ranker: rankers.Classifier, train: list[UpvoteRow], test: list[UpvoteRow], classes: int) -> dict[str, Any]:
    """How well the classes of karma of test rows are told, by the ranker and by each baseline; the mean over classes is «macro»."""
    test = sample_rows(test, CLASS_ROWS, 1)
    labels = np.array([rankers.karma_class(row.reply_karma, classes) for row in test])
    learnt = [rankers.karma_class(row.reply_karma, classes) for row in train]
    bag = baselines.tfidf_classifier([row.reply for row in train], learnt)
    shares = np.bincount(learnt, minlength=classes) / len(learnt)
    probabilities = {
        "ranker": ranker.probabilities(score.cleaned([(row.comment, row.reply) for row in test])),
        "tfidf": bag.predict_proba([row.reply for row in test]),
        "majority": np.tile(shares, (len(test), 1)),
    }
    threads = [row.thread_id for row in test]
    result: dict[str, Any] = counts(test, "rows")
    for name, p in probabilities.items():
        result[name] = with_intervals(lambda i, p=p: class_measures(labels[i], p[i]), threads)  # type: ignore[misc]
        result[name]["confusion"] = metrics.confusion_matrix(labels, p.argmax(axis=1), classes).tolist()
    return {f"{classes}_classes": result}


def class_measures(labels: metrics.Array, probabilities: metrics.Array) -> dict[str, float]:
    """probabilities: (rows, classes)."""
    classes, predicted = probabilities.shape[1], probabilities.argmax(axis=1)
    means = metrics.precision_recall_f1(metrics.confusion_matrix(labels, predicted, classes)).mean(axis=1)
    result = {"accuracy": float(np.mean(labels == predicted))}
    result |= {f"macro_{name}": float(mean) for name, mean in zip(("precision", "recall", "f1"), means, strict=True)}
    if classes == 2:
        return {**result, "roc_auc": metrics.roc_auc(labels, probabilities[:, 1])}
    averages = ("macro", "micro")
    return result | {f"roc_auc_{average}": metrics.roc_auc_one_vs_rest(labels, probabilities, average) for average in averages}  # type: ignore[arg-type]


# --- relevance --------------------------------------------------------------------------------------------------------------


def evaluate_relevance(ranker: rankers.Ranker, base: str, train: list[LabelledRow], test: list[LabelledRow]) -> dict[str, Any]:
    """How often a comment's own reply scores above those of other threads of its subreddit (hits@1), of the ranker and of each baseline.

    random: by chance; hard: those that an untuned encoder (`base`) finds nearest to the own reply. A tie counts as missed.
    """
    from bot.rankers.transformers import DualEncoder, load_encoder

    untuned = DualEncoder(*load_encoder(base), scale=1.0, offset=0.0)
    bag = baselines.words().fit([row.comment for row in train] + [row.reply for row in train])

    def overlap(pairs: Pairs) -> metrics.Array:
        comments, replies = (bag.transform([pair[side] for pair in pairs]) for side in (0, 1))
        return np.asarray(comments.multiply(replies).sum(axis=1))[:, 0]

    scorers: dict[str, Callable[[Pairs], Any]] = {
        "ranker": lambda pairs: ranker_scores(ranker, pairs), "untuned_encoder": untuned.cosines, "tfidf": overlap,
        "longest": lambda pairs: [len(reply) for _, reply in pairs],
    }  # fmt: skip
    lists = lists_of_replies(test, untuned)
    pairs = [
        (row.comment, reply)
        for queries, others in lists.values()
        for row, wrong in zip(queries, others, strict=True)
        for reply in (row.reply, *wrong)
    ]
    scores = {scorer: np.asarray(score(pairs), float) for scorer, score in scorers.items()}  # at once: the lists share their texts
    result: dict[str, Any] = {}
    start = 0
    for name, (queries, others) in lists.items():
        stop = start + len(queries) * (1 + len(others[0]))
        content = counts(queries, "queries")
        for scorer, told in scores.items():
            hit = np.array([metrics.hits_at_k(row[None], 1) for row in told[start:stop].reshape(len(queries), -1)])
            content[scorer] = {"hits_at_1": metrics.mean_with_interval(hit, [row.thread_id for row in queries])}
        result[name] = content
        start = stop
    return result


def lists_of_replies(test: list[LabelledRow], untuned: Any) -> dict[str, tuple[list[LabelledRow], list[list[str]]]]:
    """For random_100, random_10 and hard_10: rows whose reply is to be found, and for each the other replies of its list."""
    by_subreddit: dict[str, list[LabelledRow]] = {}
    for row in test:
        if row.label == 1:
            by_subreddit.setdefault(row.subreddit.lower(), []).append(row)
    chance = random.Random(1)
    queries = sample_rows([row for row in test if row.label == 1], RELEVANCE_QUERIES, 1)
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


# --- any ranker -------------------------------------------------------------------------------------------------------------


def encoder_of(card: cards.ModelCard) -> str | None:
    """The ranker's base, if it is one that PyTorch reads: TensorFlow's rankers share no process with it."""
    return card.base if (bases.BASE_DIR / card.base.replace("/", "--") / "config.json").exists() else None


def read(data: Path, stem: str, row_type: type[schema.Row], card: cards.ModelCard, of: Callable[[Any], bool] = lambda _: True) -> Any:
    """What the ranker with this card learnt from (rows of its half that are `of` a kind, drawn as its trainer drew), and the test rows."""
    found: dict[str, list[Any]] = {each: schema.read_rows(data / f"{stem}_{each}.csv", row_type) for each in ("train", "test")}
    for each, rows in found.items():
        if not rows:
            raise UserError(f"{data}/{stem}_{each}.csv: no rows; prepare more data")
    half = [row for row in found["train"] if text.half_for(row.thread_id) == "rankers" and of(row)]
    return sample_rows(half, card.settings.get("rows", len(half)), card.settings.get("seed", 0)), found["test"]


def score_test(card: cards.ModelCard, ranker: Any, data: Path) -> ScoredRows:
    """Raises UserError: a file is missing or empty."""
    if card.kind == "upvote":
        left_out, least_gap = card.settings.get("left_out", []), card.settings.get("karma_gap", 0)
        learnt = lambda row: row.karma_gap >= least_gap and row.subreddit.lower() not in left_out  # noqa: E731
        return score_upvote(ranker, encoder_of(card), *read(data, "upvote_pairs", UpvotePair, card, learnt))
    return score_realism(ranker, encoder_of(card), *read(data, "realism", RealismRow, card))


def measure(card: cards.ModelCard, ranker: Any, data: Path, tested: ScoredRows | None = None) -> dict[str, Any]:
    """What `evaluate` says of the ranker with this card, and, where it was trained on classes of karma, how well it tells those."""
    if card.kind == "relevance":
        train, rows = read(data, "relevance", LabelledRow, card, lambda row: row.label == 1)
        return evaluate_relevance(ranker, card.base, train, rows)
    tested = tested or score_test(card, ranker, data)
    result = measure_upvote(tested) if card.kind == "upvote" else measure_realism(tested)
    if card.kind == "upvote" and "classes" in card.settings:
        train, rows = read(data, "upvote", UpvoteRow, card)
        result |= evaluate_classes(ranker, train, rows, card.settings["classes"])
    return result


def evaluate(kind: str, ranker: rankers.Ranker, train: list[Any], test: list[Any], encoder: str | None = None) -> dict[str, Any]:
    """`measure` for rows that are read already."""
    if kind == "upvote":
        return measure_upvote(score_upvote(ranker, encoder, train, test))
    return measure_realism(score_realism(ranker, encoder, train, test))


def main_subsets(measured: Mapping[str, Any]) -> Iterable[str]:
    """Those that stand in tables; the bins of the curve don't."""
    return (name for name in measured if not (name.startswith("gap_") and ("-" in name or "+" in name)))
