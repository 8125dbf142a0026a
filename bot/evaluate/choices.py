"""Evaluation of the ranking stage: win rates of the picked candidates by independent judges, genericness, and stock phrases.

Reads rows, candidates and score files. The win rate of a pick is the share of the comment's other candidates that a judge (judges.py)
scores lower, a tie counting half; 0.5 is chance level. Intervals come from a bootstrap over threads.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bot import config, metrics, schema, text
from bot.cli import UserError
from bot.evaluate.judges import Judge
from bot.metrics import Array, Interval, mean_with_interval
from bot.rankers import score
from bot.rankers.score_files import Scorer
from bot.rankers.scoring import Pairs
from bot.schema import Candidate, LmRow, sample_rows

CANDIDATE_COUNTS = (1, 2, 5, 10, 20)
NEAR_VERBATIM = 90  # rapidfuzz's ratio, 0 to 100
SHORT_WORDS = 3  # a reply with at most so many words, such as "LOL", says little
STOCK_PHRASES = Path(__file__).with_name("stock_phrases.txt")
STOCK_COMMENTS = 300
HARDEST_PHRASES = 8

# Labels of the strategies and of their references. Those of without_KIND and two_step_NAME are made in page.py.
STRATEGIES = {
    "rank_score": "best rank_score",
    "choose": "like the stage choose: best rank_score of those that pass its rules",
    "two_step": "two-step: realism above the threshold, then best upvote",
    "most_likely": "most likely",
    "longest": "longest",
    "random": "random candidate",
    "person": "the human reply",
}
GAIN_STRATEGIES = ("rank_score", "most_likely", "longest")


Strategy = Callable[["Choice", int | None], int | None]  # (comment, use only the first n candidates) -> index of the pick, None for no pick


@dataclass
class Choice:
    """A test comment with its first human reply, and its cleaned candidates in order with their scores."""

    thread_id: str
    comment: str
    reply: str
    candidates: list[str]
    scores: list[dict[str, float | None]]  # per candidate: column -> score
    log_likelihoods: list[float | None]
    beside: dict[str, list[float]] = field(default_factory=dict)  # other upvote rankers: name -> scores

    def ranks(self, weights: config.RankWeights, columns: Sequence[str], first: int | None = None) -> list[float | None]:
        """The rank_score of the first candidates (default: all), from the scores in `columns`."""
        return [
            score.rank_score({column: scores[column] for column in columns}, score.Ranked(self.comment, reply, likelihood), weights)
            for reply, scores, likelihood in zip(self.candidates[:first], self.scores, self.log_likelihoods, strict=False)
        ]

    def best(self, values: Sequence[float | None], first: int | None = None) -> int | None:
        """Index of the highest of the first `first` values (default: all); the earliest in a tie, as in `choose`.

        None if there are no values or one of them is None.
        """
        head = values[:first]
        known = [value for value in head if value is not None]
        return None if len(known) < len(head) or not head else max(range(len(head)), key=lambda index: known[index])


def read_choices(
    candidates: Path,
    human: Sequence[LmRow],
    rankers: Mapping[str, Scorer],
    beside: Mapping[str, Scorer] | None = None,
) -> list[Choice]:
    """The comments of the file `candidates` that have at least two non-empty candidates, scored.

    human: the rows of lm_test.csv. rankers: column -> ranker. beside: other upvote rankers, by name.

    Raises:
        UserError: a comment isn't in `human`, or no comment has two candidates.
    """
    by_id = first_replies(human)
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in schema.read_rows(candidates, Candidate):
        if candidate.comment_id not in by_id:
            raise UserError(f"{candidates}: {candidate.comment_id} isn't in lm_test.csv; generate from that file's comments")
        if text.clean(candidate.reply):
            groups[candidate.comment_id].append(candidate)
    groups = {name: group for name, group in groups.items() if len(group) > 1}
    if not groups:
        raise UserError(f"{candidates}: no comment has two candidates; generate with --num-candidates 20")
    pairs = [(by_id[name].comment, candidate.reply) for name, group in groups.items() for candidate in group]
    scores = iter(score_pairs(pairs, rankers, "candidates"))
    others = {name: iter(scorer(pairs, "candidates").tolist()) for name, scorer in (beside or {}).items()}
    return [
        Choice(
            by_id[name].thread_id, by_id[name].comment, by_id[name].reply, [text.clean(candidate.reply) for candidate in group],
            [next(scores) for _ in group], [candidate.log_likelihood for candidate in group],
            {other: [next(values) for _ in group] for other, values in others.items()},
        )
        for name, group in groups.items()
    ]  # fmt: skip


def score_pairs(pairs: Pairs, rankers: Mapping[str, Scorer], name: str) -> list[score.Scores]:
    """The scores of each pair, as `score` writes them. name: name of this set of pairs, for the score files."""
    return score.by_row({column: scorer(pairs, name).tolist() for column, scorer in rankers.items()}, len(pairs))


def first_replies(human: Sequence[LmRow]) -> dict[str, LmRow]:
    """comment_id -> first row."""
    result: dict[str, LmRow] = {}
    for row in human:
        result.setdefault(row.comment_id, row)
    return result


# --- strategies ---------------------------------------------------------------------------------------------------------


def strategies(
    columns: Sequence[str], weights: config.RankWeights, settings: config.ChooseSettings, beside: Sequence[str] = ()
) -> dict[str, Strategy]:
    """The strategies to pick a candidate, by name. columns: the available scores. beside: names of other upvote rankers.

    rank_score: the best rank_score. without_KIND: the same without one score. most_likely: under the generator. longest: in characters.
    choose: the best rank_score among the candidates that rankers.score.refusal lets pass, like the stage of that name. two_step: the best
    upvote_score among those with a realism_score of at least settings.minimum_realism, the rule of the original bot. two_step_NAME: the
    same with another upvote ranker.
    """

    def by_rank(left_out: str | None) -> Strategy:
        kept = [column for column in columns if column != left_out]
        return lambda choice, first: choice.best(choice.ranks(weights, kept, first))

    def best_of(passing: Callable[[Choice], Sequence[bool]], values: Callable[[Choice], Sequence[float | None]]) -> Strategy:
        def pick(choice: Choice, first: int | None) -> int | None:
            passes = passing(choice)[:first]
            index = choice.best([value if ok else -1.0 for ok, value in zip(passes, values(choice), strict=False)])
            return index if index is not None and passes[index] else None

        return pick

    def is_real(choice: Choice) -> list[bool]:
        return [(scores["realism_score"] or 0) >= settings.minimum_realism for scores in choice.scores]

    def is_eligible(choice: Choice) -> list[bool]:
        return [
            not score.refusal(choice.comment, reply, scores.get("realism_score"), rank, settings)
            for reply, scores, rank in zip(choice.candidates, choice.scores, choice.ranks(weights, columns), strict=True)
        ]

    result = {"rank_score": by_rank(None), "choose": best_of(is_eligible, lambda choice: choice.ranks(weights, columns))}
    weighted = [column for column in columns if getattr(weights, column.removesuffix("_score"))]
    if len(weighted) > 1:
        result |= {f"without_{column.removesuffix('_score')}": by_rank(column) for column in weighted}
    if {"realism_score", "upvote_score"} <= set(columns):
        result["two_step"] = best_of(is_real, lambda choice: [scores["upvote_score"] for scores in choice.scores])
    if "realism_score" in columns:
        result |= {f"two_step_{name}": best_of(is_real, lambda choice, name=name: choice.beside[name]) for name in beside}  # type: ignore[misc]
    result["most_likely"] = lambda choice, first: choice.best(choice.log_likelihoods, first)
    result["longest"] = lambda choice, first: choice.best([float(len(reply)) for reply in choice.candidates], first)
    return result


def win_rates(values: Array) -> Array:
    """For each value, the share of the other values that it exceeds, a tie counting half.

    >>> win_rates(np.array([3.0, 1.0, 2.0])).tolist()
    [1.0, 0.0, 0.5]
    """
    won = metrics.wins(values[:, None], values[None, :])
    rates: Array = (won.sum(axis=1) - 0.5) / (len(values) - 1)  # without the tie of each value with itself
    return rates


def measure_choices(
    choices: Sequence[Choice],
    columns: Sequence[str],
    weights: config.RankWeights,
    settings: config.ChooseSettings,
    judges: Mapping[str, Judge],
) -> dict[str, Any]:
    """{comments, candidates, choices: {strategy: {answered, judge: interval, near_verbatim, echo and short: interval, median_words,
    distinct_1, distinct_2}}, gain: …}.

    Besides the strategies, `choices` has "random" (the exact expected value over all candidates) and "person" (the human reply). gain is
    {judge: {strategy: {n: interval}}}, for a pick among the first n candidates.
    """
    by_name = strategies(columns, weights, settings, list(choices[0].beside))
    pairs = [(choice.comment, reply) for choice in choices for reply in (*choice.candidates, choice.reply)]
    ends = np.cumsum([len(choice.candidates) + 1 for choice in choices])[:-1]
    judged = {name: np.split(judge.score(pairs), ends) for name, judge in judges.items()}
    rates = {name: [win_rates(values[:-1]) for values in parts] for name, parts in judged.items()}
    human_rates = {name: [float(metrics.wins(values[-1], values[:-1]).mean()) for values in parts] for name, parts in judged.items()}
    generic = near_verbatim(choices)
    threads = [choice.thread_id for choice in choices]
    result: dict[str, Any] = {
        "comments": len(choices), "threads": len(set(threads)), "candidates": sum(len(choice.candidates) for choice in choices),
        "most_candidates": max(len(choice.candidates) for choice in choices), "choices": {}, "gain": {},
    }  # fmt: skip
    for name, strategy in by_name.items():
        picks = [(index, pick) for index, choice in enumerate(choices) if (pick := strategy(choice, None)) is not None]
        if not picks:
            continue
        result["choices"][name] = _measures(
            {judge: [parts[index][pick] for index, pick in picks] for judge, parts in rates.items()},
            [generic[index][pick] for index, pick in picks],
            [[(choices[index].comment, choices[index].candidates[pick])] for index, pick in picks],
            [threads[index] for index, _ in picks],
        )
    result["choices"]["random"] = _measures(
        {judge: [part.mean() for part in parts] for judge, parts in rates.items()},
        [each[:-1].mean() for each in generic],
        [[(choice.comment, reply) for reply in choice.candidates] for choice in choices],
        threads,
    )
    # distinct-n falls with the number of texts, so that of all candidates is not comparable with one pick per comment
    for measure in ("distinct_1", "distinct_2"):
        del result["choices"]["random"][measure]
    result["choices"]["person"] = _measures(
        human_rates, [each[-1] for each in generic], [[(choice.comment, choice.reply)] for choice in choices], threads
    )
    for judge, parts in rates.items():
        result["gain"][judge] = gain(choices, {name: by_name[name] for name in GAIN_STRATEGIES if name in by_name}, parts)
    return result


def gain(choices: Sequence[Choice], by_name: Mapping[str, Strategy], rates: Sequence[Array]) -> dict[str, dict[str, Interval]]:
    """Mean win rate of the pick among the first n candidates (n of CANDIDATE_COUNTS), over the comments with at least n."""
    result: dict[str, dict[str, Interval]] = {name: {} for name in (*by_name, "random")}
    for count in CANDIDATE_COUNTS:
        enough = [index for index, choice in enumerate(choices) if len(choice.candidates) >= count]
        if not enough:
            break
        threads = [choices[index].thread_id for index in enough]
        for name, strategy in by_name.items():
            picks = [strategy(choices[index], count) for index in enough]
            if None not in picks:
                won = [rates[index][pick or 0] for index, pick in zip(enough, picks, strict=True)]
                result[name][str(count)] = mean_with_interval(np.array(won), threads)
        result["random"][str(count)] = mean_with_interval(np.array([rates[index][:count].mean() for index in enough]), threads)
    return {name: by_count for name, by_count in result.items() if by_count}


def _measures(
    by_judge: Mapping[str, Sequence[float]], generic: Sequence[float], pairs: Sequence[Pairs], threads: Sequence[str]
) -> dict[str, Any]:
    """pairs: for each comment the replies of which the measures are a mean."""
    lower = [reply.lower() for own in pairs for _, reply in own]
    words = [[len(reply.split()) for _, reply in own] for own in pairs]
    echoes = [np.mean([metrics.repeats_ngram(comment, reply) for comment, reply in own]) for own in pairs]
    short = [np.mean([count <= SHORT_WORDS for count in own]) for own in words]
    return {
        "answered": len(pairs),
        **{judge: mean_with_interval(np.array(won), threads) for judge, won in by_judge.items()},
        "near_verbatim": mean_with_interval(np.array(generic, float), threads),
        "echo": mean_with_interval(np.array(echoes, float), threads),
        "short": mean_with_interval(np.array(short, float), threads),
        "median_words": float(np.median([count for own in words for count in own])),
        # no interval: a resample contains texts twice, which would count as repetition
        "distinct_1": round(metrics.distinct_n(lower, 1), 4),
        "distinct_2": round(metrics.distinct_n(lower, 2), 4),
    }


def near_verbatim(choices: Sequence[Choice]) -> list[Array]:
    """For each comment, bool (candidates + 1,): whether another comment has a nearly identical candidate. The last is the human reply."""
    from rapidfuzz import fuzz, process

    pool = [reply.lower() for choice in choices for reply in choice.candidates]
    owner = np.repeat(np.arange(len(choices)), [len(choice.candidates) for choice in choices])
    result = []
    for index, choice in enumerate(choices):
        texts = [reply.lower() for reply in (*choice.candidates, choice.reply)]
        similar = process.cdist(texts, pool, scorer=fuzz.ratio, score_cutoff=NEAR_VERBATIM, dtype=np.uint8) > 0  # (texts, pool)
        result.append(np.asarray(similar[:, owner != index].any(axis=1)))
    return result


# --- stock phrases ------------------------------------------------------------------------------------------------------


def measure_stock_phrases(
    human: Sequence[LmRow], rankers: Mapping[str, Scorer], weights: config.RankWeights, untuned: Scorer | None, seed: int
) -> dict[str, Any]:
    """How often a human reply scores above a phrase that fits almost any comment: {scorer: {pairwise_accuracy: interval}}.

    rank_score is that of the rankers alone, without likelihoods.
    """
    phrases = STOCK_PHRASES.read_text(encoding="utf-8").splitlines()
    rows = sample_rows(list(first_replies(human).values()), STOCK_COMMENTS, seed)
    pairs = [(row.comment, reply) for row in rows for reply in (row.reply, *phrases)]
    scored = score_pairs(pairs, rankers, "stock_phrases")
    values: dict[str, Any] = {column: [scores[column] for scores in scored] for column in rankers}
    ranks = [score.rank_score(scores, score.Ranked(*pair), weights) for pair, scores in zip(pairs, scored, strict=True)]
    if ranks[0] is not None:
        values = {"rank_score": ranks, **values}
    values["longer_wins"] = [len(reply) for _, reply in pairs]
    if untuned:
        values["untuned_encoder"] = untuned(pairs, "stock_phrases")
    threads = [row.thread_id for row in rows]
    result: dict[str, Any] = {"comments": len(rows), "threads": len(set(threads)), "phrases": len(phrases)}
    for name, column in values.items():
        table = np.asarray(column, float).reshape(len(rows), -1)  # (comments, 1 + phrases)
        won = metrics.wins(table[:, :1], table[:, 1:])
        result[name] = {"pairwise_accuracy": mean_with_interval(won.mean(axis=1), threads)}
        if name == "rank_score":
            order = np.argsort(won.mean(axis=0), kind="stable")[:HARDEST_PHRASES]
            result["hardest"] = [[phrases[index], round(float(won[:, index].mean()), 4)] for index in order]
    return result
