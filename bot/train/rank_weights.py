"""train weights: fit the weights of the signals in rank_score to what readers accept.

Reads  GRADED, CSV files of candidates that a reader graded (schema.Graded: comment_id, comment, reply, log_likelihood, grade 0 to 3; for
       instance a run's candidates.csv with a column grade), DATA/realism_val.csv, and the rankers named in the config.
Writes OUT/scores/graded.MODEL.csv (see rankers.score_files). Score files that are up to date are reused.
Prints the weights and thresholds as lines for the config, and how well each signal and rank_score tell accepted candidates on a fifth of
       the comments, which are held out. The weights are fitted on another fifth, because `train choice` has seen the rest.

    python run_bot.py train weights graded.csv --data data/prepared

A logistic regression predicts whether the grade is at least 2 (acceptable) from the signals of `rankers.score.signals`. Signals with a
negative weight are dropped, one at a time, the most negative first. choose.minimum_rank is the median rank_score of the picks on the
comments of the fit, so that about half of the comments are answered; choose.minimum_realism is the score that 97 % of the human
replies of the validation split pass.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from bot import config, schema
from bot.cli import UserError
from bot.metrics import Array
from bot.rankers import score, scoring
from bot.rankers.score_files import Scores
from bot.schema import Graded, RealismRow
from bot.train.graded import ACCEPTABLE, FILE, part_of, read

HUMAN_PASS_RATE = 0.97  # share of human replies that should pass choose.minimum_realism; a higher threshold drops good candidates, too
REGULARIZATION = 1.0


def fit(signals: Mapping[str, Sequence[float]], accepted: Sequence[bool]) -> dict[str, float]:
    """Weights by signal, and the intercept. Raises UserError if no signal predicts what is accepted, or all rows are of one kind.

    >>> weights = fit({"good": [2.0, 1.0, 1.0, -1.0], "bad": [-1.0, -1.0, 1.0, -1.0]}, [True, True, False, False])
    >>> weights["good"] > 0 and weights["bad"] == 0
    True
    """
    from sklearn.linear_model import LogisticRegression

    if len(set(accepted)) < 2:
        raise UserError(f"the graded rows need grades below {ACCEPTABLE} and of at least {ACCEPTABLE}; grade more candidates")
    names = [name for name, values in signals.items() if np.std(values) > 1e-9]  # the standard deviation of equal values may not be 0
    while names:
        rows = np.stack([np.asarray(signals[name], float) for name in names], axis=1)
        scale = rows.std(axis=0)
        model = LogisticRegression(C=REGULARIZATION).fit(rows / scale, accepted)
        if (model.coef_[0] >= 0).all():
            weights = dict(zip(names, model.coef_[0] / scale, strict=True))
            kept = {name: round(float(weights.get(name, 0.0)), 4) for name in signals}
            return {"intercept": round(float(model.intercept_[0]), 4), **kept}
        del names[int(model.coef_[0].argmin())]
    raise UserError("no signal predicts which candidates are accepted; grade more candidates")


def picks(rows: Sequence[Graded], values: Array) -> list[int]:
    """The index of the row with the highest value, for each comment with at least two rows."""
    by_comment: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        by_comment[row.comment_id].append(index)
    return [max(indices, key=lambda index: values[index]) for indices in by_comment.values() if len(indices) > 1]


def win_rate(rows: Sequence[Graded], chosen: Sequence[int]) -> float:
    """How often the pick has a better grade than another candidate of its comment, among those with different grades."""
    won = lost = 0
    for index in chosen:
        others = [row.grade for row in rows if row.comment_id == rows[index].comment_id]
        won += sum(grade < rows[index].grade for grade in others)
        lost += sum(grade > rows[index].grade for grade in others)
    return won / max(1, won + lost)


def measure(rows: Sequence[Graded], values: Mapping[str, Array]) -> Table:
    """A table of how well each signal tells accepted candidates, on these rows."""
    from sklearn.metrics import roc_auc_score

    accepted = np.array([row.grade >= ACCEPTABLE for row in rows])
    table = Table(
        "signal", "ROC-AUC", "pick accepted", "pick at least weak", "pick beats another",
        title=f"held out: {len(rows):,} candidates, {accepted.mean():.3f} accepted",
    )  # fmt: skip
    for name, column in values.items():
        chosen = picks(rows, column)
        grades = np.array([rows[index].grade for index in chosen])
        cells = (roc_auc_score(accepted, column), (grades >= ACCEPTABLE).mean(), (grades >= 1).mean(), win_rate(rows, chosen))
        table.add_row(name, *(f"{value:.3f}" for value in cells))
    return table


def main(
    graded: Annotated[list[Path] | None, typer.Argument(help=f"graded candidates, CSV [default: {FILE}]", show_default=False)] = None,
    data: Annotated[Path, typer.Option(help="folder of prepared files")] = Path("data/prepared"),
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings that name the rankers")] = None,
    out: Annotated[Path, typer.Option(help="folder for scores/, as in `evaluate`")] = Path("data/evaluation"),
) -> None:
    """Fit the weights of rank_score to the grades of readers."""
    settings = config.load(config_file)
    parts = read(graded or [FILE])
    rows = [row for part in ("weights", "held_out") for row in parts[part] if len(row.reply.split()) >= settings.choose.minimum_words]
    folders = scoring.folders(settings.rank)
    files = Scores(out / "scores", settings)
    pairs = score.cleaned([(row.comment, row.reply) for row in rows])
    columns = {f"{kind}_score": files.of_model(folder)(pairs, "graded").tolist() for kind, folder in folders.items()}
    ranked = [score.Ranked(*pair, row.log_likelihood) for pair, row in zip(pairs, rows, strict=True)]
    scores = score.by_row(columns, len(rows))
    by_row = [score.signals(own, of) for own, of in zip(scores, ranked, strict=True)]
    available = [name for name in by_row[0] if all(each[name] is not None for each in by_row)] if by_row else []
    signals = {name: np.array([each[name] for each in by_row], float) for name in available}
    held_out = np.array([part_of(row.comment_id) == "held_out" for row in rows], bool)
    accepted = np.array([row.grade >= ACCEPTABLE for row in rows])
    fitted = fit({name: column[~held_out] for name, column in signals.items()}, accepted[~held_out].tolist())
    fitted |= {name: 0.0 for name in config.RankWeights.model_fields if name not in fitted}  # a ranker that is not configured
    weights = config.RankWeights(**fitted)
    ranks = np.array([score.rank_score(own, of, weights) for own, of in zip(scores, ranked, strict=True)], float)
    tested = {name: column[held_out] for name, column in {**signals, "rank_score": ranks}.items()}
    Console(width=140).print(measure([row for row, is_out in zip(rows, held_out, strict=True) if is_out], tested))
    print("[rank.weights]", *(f"{name} = {weight}" for name, weight in fitted.items()), "[choose]", sep="\n")
    training = [row for row, is_out in zip(rows, held_out, strict=True) if not is_out]
    print(f"minimum_rank = {np.median(ranks[~held_out][picks(training, ranks[~held_out])]):.2f}")
    if "realism" in folders and (data / "realism_val.csv").exists():
        human = score.cleaned([(row.comment, row.reply) for row in schema.read_rows(data / "realism_val.csv", RealismRow) if row.label])
        print(f"minimum_realism = {threshold(files.of_model(folders['realism'])(human, 'human').tolist())}")


def threshold(scores: Sequence[float]) -> float:
    """The highest threshold, to two decimals, that a share of at least HUMAN_PASS_RATE of these scores reaches.

    >>> threshold([0.111] * 3 + [0.9] * 97), threshold([0.111] * 4 + [0.9] * 96)
    (0.9, 0.11)
    """
    lowest = np.sort(scores)[int(np.floor(len(scores) * (1 - HUMAN_PASS_RATE) + 1e-9))]
    return float(np.floor(lowest * 100 + 1e-9) / 100)
