"""train weights: how much each ranker counts in rank_score, fitted on the validation split.

Reads  DATA/realism_{val,test}.csv, upvote_pairs_{val,test}.csv, relevance_{val,test}.csv and the rankers that the config names.
Writes OUT/scores/weights.MODEL.csv, see rankers.score_files; they are read as they are where they are current.
Prints the weights and the threshold choose.minimum_realism, which lets nine in ten of people's validation replies pass, as lines for the
config; and how often the better of two replies to one comment scores higher, on the test split.

    python run_bot.py train weights --data data/prepared

Better is: a person's reply than a generated one; of two people's the one with more karma; the comment's own reply than one of another
thread of the subreddit. Each of the three is fitted by itself: a logistic regression without intercept on the differences of the scores'
log-odds (Bradley and Terry 1952); a weight below 0 would prefer what a ranker holds for worse, and becomes 0. The mean of the three fits is
taken, so that they count alike. One fit of all pairs would leave out the upvote ranker: karma is the least certain of the three questions,
and its pairs would be given up for the others'.
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

PAIRS = 600  # of each of the three
PEOPLE_PASS = 0.9  # the share of people's replies that choose.minimum_realism is to let pass
TITLE = "how often the better reply scores higher, test split; 95 % intervals over threads"


def drawn_pairs(data: Path, split: str, seed: int) -> dict[str, list[Compared]]:
    """Pairs of replies of a split, by what makes one better. Raises UserError where a file has none."""
    found = {kind: compared.read(data, kind, split) for kind in compared.STEMS}
    for kind, pairs in found.items():
        if not pairs:
            raise UserError(f"{data}: no two replies to compare for {kind} in the {split} split; prepare more data")
    return {kind: sample_rows(pairs, PAIRS, seed) for kind, pairs in found.items()}


Scored = Mapping[tuple[str, str], float]  # a ranker's score of each (comment, reply)


def differences(pairs: Sequence[Compared], scores: Mapping[str, Scored]) -> dict[str, Array]:
    """By ranker: how much higher the better reply's log-odds are, (pairs,)."""
    result = {}
    for name, scored in scores.items():
        better, worse = (np.array([scored[comment, replies[side]] for _, comment, *replies in pairs]) for side in (0, 1))
        result[name] = score.log_odds(better) - score.log_odds(worse)
    return result


def fit(by_task: Mapping[str, Mapping[str, Array]]) -> dict[str, float]:
    """Weights that sum to 1, by ranker, from each task's `differences`.

    >>> fit({"a": {"one": np.array([2.0, 1.0, 1.0, -1.0]), "two": np.array([-1.0, -1.0, 1.0, -1.0])}})
    {'one': 1.0, 'two': 0.0}
    """
    from sklearn.linear_model import LogisticRegression

    names = list(next(iter(by_task.values())))
    fits = []
    for task in by_task.values():
        rows = np.stack([task[name] for name in names], axis=1)
        # each pair both ways round, so that there are two classes
        model = LogisticRegression(fit_intercept=False, C=1e3).fit(np.concatenate([rows, -rows]), [1] * len(rows) + [0] * len(rows))
        fits.append(np.maximum(model.coef_[0], 0.0))
    weights = np.mean(fits, axis=0)
    if not weights.sum():
        raise UserError("no ranker orders these replies better than chance; train them on more data")
    return {name: round(float(weight), 3) for name, weight in zip(names, weights / weights.sum(), strict=True)}


def main(
    data: Annotated[Path, typer.Option(help="folder of prepared files")] = Path("data/prepared"),
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings; names the rankers")] = None,
    seed: Annotated[int, typer.Option()] = 1,
    out: Annotated[Path, typer.Option(help="folder for scores/, as of `evaluate`")] = Path("data/evaluation"),
) -> None:
    """Fit how much each ranker counts in rank_score."""
    settings = config.load(config_file)
    folders = {kind: folder for kind in compared.STEMS if (folder := getattr(settings.rank, kind))}
    if not folders:
        raise UserError("no ranker is set; set rank.realism or rank.upvote to a model folder")
    by_split = {split: drawn_pairs(data, split, seed) for split in ("val", "test")}
    every = [(comment, reply) for pairs in by_split.values() for each in pairs.values() for _, comment, *both in each for reply in both]
    files = Scores(out / "scores", settings)
    scores = {kind: dict(zip(every, files.of_model(folder)(every, "weights").tolist(), strict=True)) for kind, folder in folders.items()}
    weights = fit({name: differences(pairs, scores) for name, pairs in by_split["val"].items()})
    table = Table("better than the other", *weights, "rank_score", title=TITLE)
    for name, pairs in by_split["test"].items():
        found = differences(pairs, scores)
        combined = np.sum([weights[ranker] * found[ranker] for ranker in weights], axis=0)
        threads = [thread for thread, *_ in pairs]
        cells = [accuracy(values, threads) for values in (*found.values(), combined)]
        table.add_row(f"{name}: {len(pairs)} pairs", *(f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, low, high in cells))
    Console(width=140).print(table)
    print("[rank.weights]", *(f"{name} = {weight}" for name, weight in weights.items()), sep="\n")
    if "realism" in scores:
        people = dict.fromkeys((comment, reply) for _, comment, reply, _ in by_split["val"]["realism"])  # not one a fake
        print("[choose]", f"minimum_realism = {threshold([scores['realism'][pair] for pair in people])}", sep="\n")


def threshold(scores: Sequence[float]) -> float:
    """The highest score, to two places, that PEOPLE_PASS of these replies of people's reach.

    >>> threshold([0.111, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]), threshold([0.111] * 2 + [0.9] * 9)
    (0.2, 0.11)
    """
    lowest = np.sort(scores)[int(np.floor(len(scores) * (1 - PEOPLE_PASS) + 1e-9))]
    return float(np.floor(lowest * 100 + 1e-9) / 100)


def accuracy(gaps: Array, threads: Sequence[str]) -> Interval:
    return mean_with_interval(metrics.wins(gaps, np.zeros(len(gaps))), threads)
