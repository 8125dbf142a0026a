"""train weights: fit the weight of each ranker in rank_score on the validation split.

Reads  DATA/realism_{val,test}.csv, upvote_pairs_{val,test}.csv, relevance_{val,test}.csv and the rankers named in the config.
Writes OUT/scores/weights.MODEL.csv (see rankers.score_files). Score files that are up to date are reused.
Prints the weights, and the threshold choose.minimum_realism that 90 % of the human replies in the validation split pass, as lines for the
config; and, for the test split, how often the better of two replies to a comment scores higher.

    python run_bot.py train weights --data data/prepared

There are three kinds of pairs: a human reply is better than a generated one; of two human replies, the one with more karma is better; the
comment's own reply is better than a reply from another thread of the subreddit. Each kind is fitted separately by logistic regression
without intercept on differences of log-odds (Bradley and Terry 1952). Negative weights, which would prefer the reply that a ranker scores
lower, are set to 0. The result is the mean of the three fits, so all kinds count equally. A single fit over all pairs would drop the
upvote ranker, because karma is by far the noisiest of the three labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from bot import config, metrics
from bot.cli import UserError
from bot.corpus import compared
from bot.corpus.compared import Compared
from bot.metrics import Array, Interval, mean_with_interval
from bot.rankers import score
from bot.rankers.score_files import Scores
from bot.schema import sample_rows

PAIRS = 600  # of each kind
HUMAN_PASS_RATE = 0.9  # share of human replies that should pass choose.minimum_realism
TITLE = "how often the better reply scores higher; test split, 95 % intervals over threads"


def draw_pairs(data: Path, split: str, seed: int) -> dict[str, list[Compared]]:
    """Kind -> up to PAIRS pairs of a split, drawn at random. Raises UserError if there are none of a kind."""
    by_kind = {kind: compared.read(data, kind, split) for kind in compared.STEMS}
    for kind, pairs in by_kind.items():
        if not pairs:
            raise UserError(f"{data}: no {kind} pairs in the {split} split; prepare more data")
    return {kind: sample_rows(pairs, PAIRS, seed) for kind, pairs in by_kind.items()}


Scored = Mapping[tuple[str, str], float]  # a ranker's score for each (comment, reply)


def differences(pairs: Sequence[Compared], scores: Mapping[str, Scored]) -> dict[str, Array]:
    """Ranker -> log-odds of the better reply minus those of the worse, (pairs,)."""
    result = {}
    for name, scored in scores.items():
        better, worse = (np.array([scored[comment, replies[side]] for _, comment, *replies in pairs]) for side in (0, 1))
        result[name] = score.log_odds(better) - score.log_odds(worse)
    return result


def fit(by_task: Mapping[str, Mapping[str, Array]]) -> dict[str, float]:
    """Ranker -> weight, summing to 1. by_task: the `differences` of each kind of pairs. Raises UserError if all weights are 0.

    >>> fit({"a": {"one": np.array([2.0, 1.0, 1.0, -1.0]), "two": np.array([-1.0, -1.0, 1.0, -1.0])}})
    {'one': 1.0, 'two': 0.0}
    """
    from sklearn.linear_model import LogisticRegression

    names = list(next(iter(by_task.values())))
    fits = []
    for task in by_task.values():
        rows = np.stack([task[name] for name in names], axis=1)
        # each pair in both orders, so that there are two classes
        model = LogisticRegression(fit_intercept=False, C=1e3).fit(np.concatenate([rows, -rows]), [1] * len(rows) + [0] * len(rows))
        fits.append(np.maximum(model.coef_[0], 0.0))
    weights = np.mean(fits, axis=0)
    if not weights.sum():
        raise UserError("no ranker orders these replies better than chance; train the rankers on more data")
    return {name: round(float(weight), 3) for name, weight in zip(names, weights / weights.sum(), strict=True)}


def main(
    data: Annotated[Path, typer.Option(help="folder of prepared files")] = Path("data/prepared"),
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings that name the rankers")] = None,
    seed: Annotated[int, typer.Option()] = 1,
    out: Annotated[Path, typer.Option(help="folder for scores/, as in `evaluate`")] = Path("data/evaluation"),
) -> None:
    """Fit the weight of each ranker in rank_score."""
    settings = config.load(config_file)
    folders = {kind: folder for kind in compared.STEMS if (folder := getattr(settings.rank, kind))}
    if not folders:
        raise UserError("no ranker is set; set rank.realism, rank.upvote or rank.relevance to a model folder")
    by_split = {split: draw_pairs(data, split, seed) for split in ("val", "test")}
    every = [(comment, reply) for pairs in by_split.values() for each in pairs.values() for _, comment, *both in each for reply in both]
    files = Scores(out / "scores", settings)
    scores = {kind: dict(zip(every, files.of_model(folder)(every, "weights").tolist(), strict=True)) for kind, folder in folders.items()}
    weights = fit({name: differences(pairs, scores) for name, pairs in by_split["val"].items()})
    table = Table("pairs", *weights, "rank_score", title=TITLE)
    for name, pairs in by_split["test"].items():
        gaps = differences(pairs, scores)
        combined = np.sum([weights[ranker] * gaps[ranker] for ranker in weights], axis=0)
        threads = [thread for thread, *_ in pairs]
        cells = [accuracy(values, threads) for values in (*gaps.values(), combined)]
        table.add_row(f"{name}: {len(pairs)} pairs", *(f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, low, high in cells))
    Console(width=140).print(table)
    print("[rank.weights]", *(f"{name} = {weight}" for name, weight in weights.items()), sep="\n")
    if "realism" in scores:
        human = dict.fromkeys((comment, reply) for _, comment, reply, _ in by_split["val"]["realism"])  # the better reply is human
        print("[choose]", f"minimum_realism = {threshold([scores['realism'][pair] for pair in human])}", sep="\n")


def threshold(scores: Sequence[float]) -> float:
    """The highest threshold, to two decimals, that a share of at least HUMAN_PASS_RATE of these scores reaches.

    >>> threshold([0.111, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]), threshold([0.111] * 2 + [0.9] * 9)
    (0.2, 0.11)
    """
    lowest = np.sort(scores)[int(np.floor(len(scores) * (1 - HUMAN_PASS_RATE) + 1e-9))]
    return float(np.floor(lowest * 100 + 1e-9) / 100)


def accuracy(gaps: Array, threads: Sequence[str]) -> Interval:
    """Share of pairs in which the better reply scores higher, with its interval."""
    return mean_with_interval(metrics.wins(gaps, np.zeros(len(gaps))), threads)
