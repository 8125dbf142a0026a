"""TODO: bot.train.tasks"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bot import files, schema
from bot.schema import LabelledRow, LossRow, RealismRow
from bot.weights import bases, cards

if TYPE_CHECKING:
    import torch

    from bot.rankers import Encoded

LORA_RANK = 32
LEAST_KARMA_GAP = 5


@dataclass
class Task:
    """What one ranker is to learn, and what its card says of it.

    settings: for the card. sources: rows of each prepared file that was read. calibrate and measure_more are given the ranker as
    rankers.transformers loads it; what the latter tells stands in the card beside measures.measure's.
    """

    kind: Literal["realism", "upvote", "relevance"]
    out: Path
    settings: dict[str, Any]
    sources: Mapping[str, int]
    batches: Sequence[list[int]]
    loss_of: Callable[[list[int]], torch.Tensor]
    calibrate: Callable[[Any], tuple[float, float]]
    measure_more: Callable[[Any], dict[str, Any]] = lambda ranker: {}


Logits = Callable[["Sequence[Encoded]"], "torch.Tensor"]  # what the model being trained says of pairs, (pairs,)


def fit_and_measure(base: str, data: Path, model: Any, tasks: Sequence[Task], learning_rate: float, seed: int) -> None:
    """Train a LoRA model of PyTorch, then save, calibrate and measure a ranker for each task; the same call goes on.

    Several tasks share the encoder, and each has an output of the model, by its place in `tasks`. Their batches come mixed, each step is of
    one task. Each ranker's folder holds the whole adapter, so that it can be used by itself.

    Raises:
        UserError: see training.fit.
    """
    from bot.evaluate import evaluate, measures
    from bot.rankers.transformers import load
    from bot.train import encoders, loop

    card_data = [{name: {"rows": count, "sha256": files.sha256_of(data / name)} for name, count in task.sources.items()} for task in tasks]
    shared: dict[str, Any] = {"learning_rate": learning_rate, "seed": seed}
    if len(tasks) > 1:
        shared |= {"outputs": len(tasks), "trained_together": [task.kind for task in tasks]}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    checkpoint = tasks[0].out / "checkpoint.pt"
    steps = mixed([task.batches for task in tasks], seed)
    run = {**shared, "base": base, "tasks": [task.settings for task in tasks], "data": card_data}
    losses = loop.fit(parameters, steps, lambda step: tasks[step[0]].loss_of(step[1]), learning_rate, checkpoint, run, seed)
    for place, task in enumerate(tasks):
        encoders.save_adapter(model, base, task.out)
        own_output = {"output": place} if len(tasks) > 1 else {}
        card = cards.ModelCard(
            kind=task.kind, base=base, base_sha256=bases.base_sha256(base), format="adapter", data=card_data[place],
            settings={**task.settings, **shared, **own_output, "scale": 1.0, "offset": 0.0}, **cards.words(task.kind, task.settings),
        )  # fmt: skip
        cards.write_card(task.out, card)
        own = [LossRow(step, loss, None) for step, (loss, (which, _)) in enumerate(zip(losses, steps, strict=True), 1) if which == place]
        schema.write_rows(task.out / "losses.csv", LossRow, own)
        ranker = load(task.out)  # what was saved is what is measured
        ranker.scale, ranker.offset = task.calibrate(ranker)
        card.settings |= {"scale": ranker.scale, "offset": ranker.offset}
        cards.write_card(task.out, card)
        card.metrics = measures.measure(card, ranker, data) | task.measure_more(ranker)
        cards.write_card(task.out, card)
        evaluate.show(task.kind, card.metrics)
    checkpoint.unlink()


def mixed(batches: Sequence[Sequence[list[int]]], seed: int) -> list[tuple[int, list[int]]]:
    """(task, batch) of several tasks' batches: tasks in an order of chance, each one's batches in their own order.

    >>> mixed([[[1], [2]], [[3]]], seed=1)
    [(0, [1]), (1, [3]), (0, [2])]
    """
    order = [place for place, own in enumerate(batches) for _ in own]
    random.Random(seed).shuffle(order)
    following = [iter(own) for own in batches]
    return [(place, next(following[place])) for place in order]


def calibrated(values: Sequence[float], rows: Sequence[RealismRow] | Sequence[LabelledRow]) -> tuple[float, float]:
    """scale and offset that make these rows' values a probability of label 1 (Platt 1999).

    >>> rows = [LabelledRow("t3_a", "t1_a", "t1_b", "s", "", "", label) for label in (0, 1, 0, 1)]
    >>> scale, offset = calibrated([-1.0, 2.0, 1.0, 0.5], rows)
    >>> scale > 0 > offset
    True
    """
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=1e6).fit([[value] for value in values], [row.label for row in rows])
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
