"""What the ranking stage picks from candidates, measured: who would judge the picks good, how generic they are, and stock phrases.

Reads rows, candidates and score files. A pick's win rate is the share of the comment's other candidates that a judge (judges.py)
puts below it, a tie counting half: 0.5 by chance. Intervals come from drawing threads again.
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

NUMBERS_OF_CANDIDATES = (1, 2, 5, 10, 20)
NEAR_VERBATIM = 90  # rapidfuzz's ratio, of 100
STOCK_PHRASES = Path(__file__).with_name("stock_phrases.txt")
STOCK_COMMENTS = 300
HARDEST_PHRASES = 8

# Ways to pick, and what is compared with them, for a person; «without_KIND» and «two_step_NAME» are told from their names.
WAYS = {
    "rank_score": "best rank_score",
    "choose": "as choose does it: realism above the threshold, then best rank_score",
    "two_step": "two-step: realism above the threshold, then best upvote",
    "most_likely": "the most likely",
    "longest": "the longest",
    "random": "a random one",
    "person": "the person's own reply",
}
GAIN_WAYS = ("rank_score", "most_likely", "longest")


Way = Callable[["Choice", int | None], int | None]  # a comment and how many of its candidates to look at -> the number of one, if any


@dataclass
class Choice:
    """A test comment, the first of its people's replies, and its candidates in order, cleaned, with what rankers say."""

    thread_id: str
    comment: str
    reply: str
    candidates: list[str]
    scores: list[dict[str, float | None]]  # by column, as rank.score_pairs gives them
    log_likelihoods: list[float | None]
    beside: dict[str, list[float]] = field(default_factory=dict)  # what other upvote rankers say, by name

    def best(self, values: Sequence[float | None], first: int | None = None) -> int | None:
        """The highest of the first so many; the earlier one of equals, as `choose` has it. None where any has no value."""
        head = values[:first]
        known = [value for value in head if value is not None]
        return None if len(known) < len(head) or not head else max(range(len(head)), key=lambda place: known[place])


def read_choices(
    candidates: Path,
    people: Sequence[LmRow],
    rankers: Mapping[str, Scorer],
    weights: config.RankWeights,
    beside: Mapping[str, Scorer] | None = None,
) -> list[Choice]:
    """Comments of `candidates` with at least two candidates that have text, scored.

    rankers: by the column that each fills. beside: other upvote rankers, by name.

    Raises:
        UserError: a comment isn't among `people`, or none has two candidates.
    """
    by_id = first_replies(people)
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
    scores = iter(scores_of(pairs, rankers, weights, "candidates"))
    others = {name: iter(scorer(pairs, "candidates").tolist()) for name, scorer in (beside or {}).items()}
    return [
        Choice(
            by_id[name].thread_id, by_id[name].comment, by_id[name].reply, [text.clean(candidate.reply) for candidate in group],
            [next(scores) for _ in group], [candidate.log_likelihood for candidate in group],
            {other: [next(values) for _ in group] for other, values in others.items()},
        )
        for name, group in groups.items()
    ]  # fmt: skip


def scores_of(pairs: Pairs, rankers: Mapping[str, Scorer], weights: config.RankWeights, name: str) -> list[score.Scores]:
    """The four scores of each pair, as `score` writes them. name: of the set of pairs."""
    return score.combined({column: scorer(pairs, name).tolist() for column, scorer in rankers.items()}, len(pairs), weights)


def first_replies(people: Sequence[LmRow]) -> dict[str, LmRow]:
    """The first row of each comment, by its id."""
    result: dict[str, LmRow] = {}
    for row in people:
        result.setdefault(row.comment_id, row)
    return result


# --- ways to pick -----------------------------------------------------------------------------------------------------------


def pickers(columns: Sequence[str], weights: config.RankWeights, minimum_realism: float, beside: Sequence[str] = ()) -> dict[str, Way]:
    """Ways to pick a candidate, by name. columns: the scores that there are; beside: names of other upvote rankers.

    rank_score; the same with each score left out; the likeliest under the generator, the longest. Of those whose realism_score is at
    least `minimum_realism`, and none where there are none: choose, the best rank_score, as `choose` does it; two_step, the best
    upvote_score, the original bot's rule; two_step_NAME, the same by another upvote ranker.
    """

    def by_rank(left_out: str | None) -> Way:
        kept = [column for column in columns if column != left_out]
        return lambda choice, first: choice.best(
            [score.rank_score({column: scores[column] for column in kept}, weights) for scores in choice.scores[:first]]
        )

    def among_real(values: Callable[[Choice], Sequence[float | None]]) -> Way:
        def pick(choice: Choice, first: int | None) -> int | None:
            passes = [(scores["realism_score"] or 0) >= minimum_realism for scores in choice.scores[:first]]
            place = choice.best([value if ok else -1.0 for ok, value in zip(passes, values(choice), strict=False)])
            return place if place is not None and passes[place] else None

        return pick

    result = {"rank_score": by_rank(None)}
    if "realism_score" in columns:
        result["choose"] = among_real(lambda choice: [scores["rank_score"] for scores in choice.scores])
    weighted = [column for column in columns if getattr(weights, column.removesuffix("_score"))]
    if len(weighted) > 1:
        result |= {f"without_{column.removesuffix('_score')}": by_rank(column) for column in weighted}
    if {"realism_score", "upvote_score"} <= set(columns):
        result["two_step"] = among_real(lambda choice: [scores["upvote_score"] for scores in choice.scores])
    if "realism_score" in columns:
        result |= {f"two_step_{name}": among_real(lambda choice, name=name: choice.beside[name]) for name in beside}  # type: ignore[misc]
    result["most_likely"] = lambda choice, first: choice.best(choice.log_likelihoods, first)
    result["longest"] = lambda choice, first: choice.best([float(len(reply)) for reply in choice.candidates], first)
    return result


def win_rates(values: Array) -> Array:
    """Each value's share of the others that it beats, a tie counting half.

    >>> win_rates(np.array([3.0, 1.0, 2.0])).tolist()
    [1.0, 0.0, 0.5]
    """
    won = metrics.wins(values[:, None], values[None, :])
    rates: Array = (won.sum(axis=1) - 0.5) / (len(values) - 1)  # less its tie with itself
    return rates


def measure_choices(
    choices: Sequence[Choice], columns: Sequence[str], weights: config.RankWeights, minimum_realism: float, judges: Mapping[str, Judge]
) -> dict[str, Any]:
    """{comments, candidates, choices: {way: {answered, judge: interval, near_verbatim: interval, distinct_1, distinct_2}}, gain: …}.

    «random» is the expected value over all of a comment's candidates, exactly; «person» the reply that a person wrote. gain is
    {judge: {way: {number of candidates: interval}}}, the pick being among the first so many.
    """
    ways = pickers(columns, weights, minimum_realism, list(choices[0].beside))
    pairs = [(choice.comment, reply) for choice in choices for reply in (*choice.candidates, choice.reply)]
    ends = np.cumsum([len(choice.candidates) + 1 for choice in choices])[:-1]
    of_judge = {name: np.split(judge.score(pairs), ends) for name, judge in judges.items()}
    rates = {name: [win_rates(values[:-1]) for values in parts] for name, parts in of_judge.items()}
    of_people = {name: [float(metrics.wins(values[-1], values[:-1]).mean()) for values in parts] for name, parts in of_judge.items()}
    generic = near_verbatim(choices)
    threads = [choice.thread_id for choice in choices]
    result: dict[str, Any] = {
        "comments": len(choices), "threads": len(set(threads)), "candidates": sum(len(choice.candidates) for choice in choices),
        "most_candidates": max(len(choice.candidates) for choice in choices), "choices": {}, "gain": {},
    }  # fmt: skip
    for name, way in ways.items():
        picks = [(number, pick) for number, choice in enumerate(choices) if (pick := way(choice, None)) is not None]
        if not picks:
            continue
        result["choices"][name] = _one_way(
            {judge: [found[number][pick] for number, pick in picks] for judge, found in rates.items()},
            [generic[number][pick] for number, pick in picks],
            [choices[number].candidates[pick] for number, pick in picks],
            [threads[number] for number, _ in picks],
        )
    everything = [reply for choice in choices for reply in choice.candidates]
    result["choices"]["random"] = _one_way(
        {judge: [part.mean() for part in found] for judge, found in rates.items()},
        [each[:-1].mean() for each in generic],
        everything,
        threads,
    ) | {"answered": len(choices)}
    # of more texts fewer words are new, so that all candidates' would not compare with one a comment
    for measure in ("distinct_1", "distinct_2"):
        del result["choices"]["random"][measure]
    result["choices"]["person"] = _one_way(of_people, [each[-1] for each in generic], [choice.reply for choice in choices], threads)
    for judge, found in rates.items():
        result["gain"][judge] = gain(choices, {name: way for name, way in ways.items() if name in GAIN_WAYS}, found)
    return result


def gain(choices: Sequence[Choice], ways: Mapping[str, Way], rates: Sequence[Array]) -> dict[str, dict[str, Interval]]:
    """Mean win rate of the pick among the first 1, 2, 5, … candidates, over the comments that have as many."""
    result: dict[str, dict[str, Interval]] = {name: {} for name in (*ways, "random")}
    for number in NUMBERS_OF_CANDIDATES:
        enough = [place for place, choice in enumerate(choices) if len(choice.candidates) >= number]
        if not enough:
            break
        threads = [choices[place].thread_id for place in enough]
        for name, way in ways.items():
            picks = [way(choices[place], number) for place in enough]
            if None not in picks:
                won = [rates[place][pick or 0] for place, pick in zip(enough, picks, strict=True)]
                result[name][str(number)] = mean_with_interval(np.array(won), threads)
        result["random"][str(number)] = mean_with_interval(np.array([rates[place][:number].mean() for place in enough]), threads)
    return {name: found for name, found in result.items() if found}


def _one_way(
    of_judges: Mapping[str, Sequence[float]], generic: Sequence[float], texts: Sequence[str], threads: Sequence[str]
) -> dict[str, Any]:
    lower = [reply.lower() for reply in texts]
    return {
        "answered": len(texts),
        **{judge: mean_with_interval(np.array(won), threads) for judge, won in of_judges.items()},
        "near_verbatim": mean_with_interval(np.array(generic, float), threads),
        # no interval: texts that are drawn twice would count as repeating one another
        "distinct_1": round(metrics.distinct_n(lower, 1), 4),
        "distinct_2": round(metrics.distinct_n(lower, 2), 4),
    }


def near_verbatim(choices: Sequence[Choice]) -> list[Array]:
    """For each comment's candidates, and last its person's reply: whether another comment has a candidate (nearly) the same, bool."""
    from rapidfuzz import fuzz, process

    pool = [reply.lower() for choice in choices for reply in choice.candidates]
    owner = np.repeat(np.arange(len(choices)), [len(choice.candidates) for choice in choices])
    result = []
    for number, choice in enumerate(choices):
        texts = [reply.lower() for reply in (*choice.candidates, choice.reply)]
        alike = process.cdist(texts, pool, scorer=fuzz.ratio, score_cutoff=NEAR_VERBATIM, dtype=np.uint8) > 0  # (texts, pool)
        result.append(np.asarray(alike[:, owner != number].any(axis=1)))
    return result


# --- stock phrases ------------------------------------------------------------------------------------------------------------


def measure_stock_phrases(
    people: Sequence[LmRow], rankers: Mapping[str, Scorer], weights: config.RankWeights, untuned: Scorer | None, seed: int
) -> dict[str, Any]:
    """How often a person's reply scores above a phrase that would fit nearly any comment: {scorer: {pairwise_accuracy: interval}}."""
    phrases = STOCK_PHRASES.read_text(encoding="utf-8").splitlines()
    rows = sample_rows(list(first_replies(people).values()), STOCK_COMMENTS, seed)
    pairs = [(row.comment, reply) for row in rows for reply in (row.reply, *phrases)]
    scored = scores_of(pairs, rankers, weights, "stock_phrases")
    values: dict[str, Any] = {column: [scores[column] for scores in scored] for column in ("rank_score", *rankers)}
    values["longer_wins"] = [len(reply) for _, reply in pairs]
    if untuned:
        values["untuned_encoder"] = untuned(pairs, "stock_phrases")
    threads = [row.thread_id for row in rows]
    result: dict[str, Any] = {"comments": len(rows), "threads": len(set(threads)), "phrases": len(phrases)}
    for name, found in values.items():
        table = np.asarray(found, float).reshape(len(rows), -1)  # (comments, 1 + phrases)
        won = metrics.wins(table[:, :1], table[:, 1:])
        result[name] = {"pairwise_accuracy": mean_with_interval(won.mean(axis=1), threads)}
        if name == "rank_score":
            order = np.argsort(won.mean(axis=0), kind="stable")[:HARDEST_PHRASES]
            result["hardest"] = [[phrases[place], round(float(won[:, place].mean()), 4)] for place in order]
    return result
