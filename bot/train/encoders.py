"""What the rankers trained with PyTorch share: an encoder with a LoRA adapter, the tasks that it learns, and what is saved of it.

Reads  a base in models/base/ and, to calibrate, validation rows.
Writes for each task OUT: the adapter, model.json and losses.csv; while it trains, checkpoint.pt in the first task's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bot import files, schema
from bot.rankers import Encoded
from bot.schema import LabelledRow, LossRow, RealismRow
from bot.train import loop
from bot.train.options import RankerOptions
from bot.train.words import data_facts, words
from bot.weights import bases, cards, loading

if TYPE_CHECKING:
    import torch

LORA_RANK = 32  # Hu et al. 2021, arXiv:2106.09685

Logits = Callable[[Sequence[Encoded]], "torch.Tensor"]  # what the model being trained says of pairs, (pairs,)


@dataclass
class Task:
    """What one ranker is to learn, and what its card says of it.

    settings: for the card. sources: rows of each prepared file that was read. calibrate: given the ranker as rankers.transformers loads
    it, scale and offset that make what it says a probability.
    """

    kind: Literal["realism", "upvote", "relevance"]
    out: Path
    settings: dict[str, Any]
    sources: Mapping[str, int]
    batches: Sequence[list[int]]
    loss_of: Callable[[list[int]], torch.Tensor]
    calibrate: Callable[[Any], tuple[float, float]]


# --- the model ----------------------------------------------------------------------------------------------------------


def ranker_with_lora(base: Path, outputs: int, seed: int) -> tuple[Any, Any]:
    """An encoder with that many outputs, as a LoRA model (peft) that is ready to train, and its tokenizer.

    Sentence encoders pool by mean, so the pooler that BERT's head reads comes as it was made, at random and next to nothing: behind it
    a head hardly learns. Such a pooler (its bias is all 0) begins as the identity. In any case it is trained whole, as the head is.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(seed)  # before the head is made
    plain, tokenizer = encoder_to_train(AutoModelForSequenceClassification, base, num_labels=outputs)
    whole = ["classifier"]
    if pooler := getattr(plain.base_model, "pooler", None):  # BERT has one, not every encoder
        whole.append("pooler")
        if not pooler.dense.bias.any():
            torch.nn.init.eye_(pooler.dense.weight)
    return with_lora(plain, "SEQ_CLS", LORA_RANK, modules_to_save=whole), tokenizer


def encoder_to_train(auto_class: Any, base: Path, **options: Any) -> tuple[Any, Any]:
    """A base encoder of transformers and its tokenizer; options go to from_pretrained.

    Without dropout, which one or two epochs don't need. On CPUs with plain attention: there it trains faster than PyTorch's fused one.
    """
    import torch
    from transformers import AutoTokenizer

    loading.quiet()
    if loop.device().type == "cpu":
        options["attn_implementation"] = "eager"
    model = auto_class.from_pretrained(base, local_files_only=True, dtype=torch.float32, **options)
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    loading.keep_freed_memory()
    return model, AutoTokenizer.from_pretrained(base, local_files_only=True)


def with_lora(model: Any, task_type: str, rank: int, **options: Any) -> Any:
    """The model with a LoRA adapter on every linear layer, on the device and ready to train; options go to peft's LoraConfig."""
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type=task_type, **options)
    adapted: Any = get_peft_model(model, lora).to(loop.device())
    adapted.train()
    return adapted


def save_adapter(model: Any, base: str, out: Path) -> None:
    """Write a LoRA adapter (peft's model) in half precision into `out`; it is merged in float32 when it is loaded."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.half()
    model.peft_config["default"].base_model_name_or_path = base  # a name that base_path knows, not this machine's folder
    model.save_pretrained(out, save_embedding_layers=False)  # else peft would ask the hub for the base
    (out / "README.md").unlink(missing_ok=True)  # peft's empty template; model.json is the card


# --- training -----------------------------------------------------------------------------------------------------------


def fit(options: RankerOptions, model: Any, tasks: Sequence[Task]) -> None:
    """Train a LoRA model, then save and calibrate a ranker for each task; the same call resumes.

    Several tasks share the encoder, and each has an output of the model, by its place in `tasks`. Their batches come mixed, each step is of
    one task. Each ranker's folder holds the whole adapter, so that it can be used by itself.

    Raises:
        UserError: see loop.fit.
    """
    shared: dict[str, Any] = {"learning_rate": options.learning_rate, "seed": options.seed, "lora_rank": LORA_RANK}
    if len(tasks) > 1:
        shared |= {"outputs": len(tasks), "trained_together": [task.kind for task in tasks]}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    steps = mixed([task.batches for task in tasks], options.seed)
    described = [
        cards.ModelCard(
            kind=task.kind, base=options.base, base_sha256=bases.base_sha256(options.base), format="adapter",
            data=data_facts(options.data, task.sources),
            settings={**task.settings, **shared, **({"output": place} if len(tasks) > 1 else {}), "scale": 1.0, "offset": 0.0},
            **words(task.kind),
        )
        for place, task in enumerate(tasks)
    ]  # fmt: skip
    run = {"base": options.base, "tasks": [[card.settings, card.data] for card in described]}
    checkpoint = tasks[0].out / "checkpoint.pt"
    losses = loop.fit(parameters, steps, lambda step: tasks[step[0]].loss_of(step[1]), options.learning_rate, checkpoint, run, options.seed)
    for place in reversed(range(len(tasks))):  # the folder with the checkpoint comes last
        own = [LossRow(step, loss, None) for step, (loss, (which, _)) in enumerate(zip(losses, steps, strict=True), 1) if which == place]
        save(model, tasks[place], described[place], own)


def save(model: Any, task: Task, card: cards.ModelCard, losses: list[LossRow]) -> None:
    """Write the task's folder, calibrated."""
    from bot.rankers.transformers import load

    with files.atomic_folder(task.out) as folder:
        save_adapter(model, card.base, folder)
        schema.write_rows(folder / "losses.csv", LossRow, losses)
        cards.write_card(folder, card)
        scale, offset = task.calibrate(load(folder))  # what was saved is what is calibrated
        card.settings |= {"scale": scale, "offset": offset}
        cards.write_card(folder, card)


def mixed(batches: Sequence[Sequence[list[int]]], seed: int) -> list[tuple[int, list[int]]]:
    """(task, batch) of several tasks' batches: tasks in random order, each one's batches in their own order.

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
