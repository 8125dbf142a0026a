"""Shared by the rankers trained with PyTorch: an encoder with a LoRA adapter or trained layers, the tasks, and saving the result.

Reads  a base in models/base/ and validation rows for calibration.
Writes for each task OUT: the adapter or the layers, model.json and losses.csv; during training, checkpoint.pt in the first task's OUT.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bot import cli, files, schema
from bot.cli import UserError
from bot.rankers import Encoded
from bot.schema import LabelledRow, LossRow, RealismRow
from bot.train import loop, processes
from bot.train.card_text import card_text, data_facts
from bot.train.options import EncoderOptions, Method
from bot.weights import bases, cards, loading

if TYPE_CHECKING:
    import torch

LORA_RANK = 32  # Hu et al. 2021, arXiv:2106.09685

Logits = Callable[[Sequence[Encoded]], "torch.Tensor"]  # logits of the model being trained, (pairs,)


@dataclass
class Task:
    """Training task of one ranker.

    settings: recorded in the card. sources: number of rows read from each prepared file. calibrate: takes the ranker as loaded by
    rankers.transformers and returns the scale and offset that turn its output into a probability.
    """

    kind: Literal["realism", "upvote", "relevance", "choice"]
    out: Path
    settings: dict[str, Any]
    sources: Mapping[str, int]
    batches: Sequence[list[int]]
    loss_of: Callable[[list[int]], torch.Tensor]
    calibrate: Callable[[Any], tuple[float, float]]


# --- the model ----------------------------------------------------------------------------------------------------------


def ranker_to_train(base: Path, outputs: int, seed: int, method: Method = "lora") -> tuple[Any, Any]:
    """An encoder with `outputs` outputs, ready to train, and its tokenizer.

    Sentence encoders use mean pooling, so the pooler in front of BERT's classification head is untrained: random and close to zero, and
    the head behind it hardly learns. Such a pooler (its bias is all 0) is initialised to the identity. Pooler and head are always trained
    in full, without LoRA. With method "layers" everything is, except the embeddings, which are half of a small encoder's weights.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(seed)  # the head is initialised at random
    plain, tokenizer = encoder_to_train(AutoModelForSequenceClassification, base, num_labels=outputs)
    heads = [name for name, part in plain.named_children() if part is not plain.base_model]
    trained_in_full = [name for name in heads if any(True for _ in getattr(plain, name).parameters())]
    if pooler := getattr(plain.base_model, "pooler", None):  # BERT has one, some encoders don't
        trained_in_full.append("pooler")
        if hasattr(pooler, "dense") and not pooler.dense.bias.any():
            torch.nn.init.eye_(pooler.dense.weight)
    if method == "layers":
        if not hasattr(plain.base_model, "embeddings"):
            raise UserError(f"{files.display_path(base)}: --method layers needs an encoder like BERT; use --method lora or another --base")
        plain.base_model.embeddings.requires_grad_(False)
        return plain.to(loop.device()).train(), tokenizer
    without_lora = rf"(?:.*\.)?(?:{'|'.join(trained_in_full)})(?:\..*)?"
    return with_lora(plain, "SEQ_CLS", LORA_RANK, modules_to_save=trained_in_full, exclude_modules=without_lora), tokenizer


def encoder_to_train(auto_class: Any, base: Path, **options: Any) -> tuple[Any, Any]:
    """A transformers encoder and its tokenizer; options are passed to from_pretrained.

    Dropout is disabled: one or two epochs don't need it. On a CPU attention is "eager", which trains faster there than PyTorch's fused
    attention.

    Raises:
        UserError: the base is no encoder of text, or it takes too few tokens.
    """
    import torch
    from transformers import AutoConfig, AutoTokenizer

    from bot.rankers.transformers import limit_length

    loading.quiet()
    if loop.device().type == "cpu":
        options["attn_implementation"] = "eager"
    with loading.one_line(base, "use another --base"):
        if AutoConfig.from_pretrained(base, local_files_only=True).is_encoder_decoder:
            raise UserError(f"{files.display_path(base)}: {bases.ENCODER_DECODER}")
        model = auto_class.from_pretrained(base, local_files_only=True, dtype=torch.float32, **options)
        tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
        limit_length(model, tokenizer)
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    loading.keep_freed_memory()
    return model, tokenizer


def with_lora(model: Any, task_type: str, rank: int, **options: Any) -> Any:
    """The model with a LoRA adapter on every linear layer, on the device, in training mode; options are passed to peft's LoraConfig."""
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type=task_type, **options)
    with loading.one_line(Path(model.name_or_path), "use another --base"):
        adapted: Any = get_peft_model(model, lora).to(loop.device())
    adapted.train()
    return adapted


def save_adapter(model: Any, base: str, out: Path) -> None:
    """Write the LoRA adapter of a peft model into `out` in half precision. Loading merges it in float32."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad or "lora_" in name:  # the adapter of a lower layer may be frozen
            parameter.data = parameter.data.half()
    model.peft_config["default"].base_model_name_or_path = base  # the base's name for base_path, not a local path
    model.save_pretrained(out, save_embedding_layers=False)  # otherwise peft looks the base up on the hub
    (out / "README.md").unlink(missing_ok=True)  # peft's empty template; model.json is the card


def save_layers(model: Any, out: Path) -> None:
    """Write the trained weights in half precision, see loading.load_layers."""
    from safetensors.torch import save_file

    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    save_file({name: value.half().contiguous() for name, value in model.state_dict().items() if name in trained}, out / loading.LAYERS_FILE)


# --- training -----------------------------------------------------------------------------------------------------------


def fit(options: EncoderOptions, model: Any, tasks: Sequence[Task]) -> None:
    """Train a model of `ranker_to_train` or `with_lora`, then save and calibrate one ranker per task. The same call
    resumes an interrupted run.

    All tasks share the encoder; task i uses output i of the model. Batches of the tasks are interleaved at random, and each step trains
    one task. Each ranker's folder holds the complete adapter, so it can be used on its own.

    Raises:
        UserError: see loop.fit.
    """
    shared: dict[str, Any] = {"learning_rate": options.learning_rate, "seed": options.seed, "method": options.method}
    if options.method == "lora":
        shared["lora_rank"] = LORA_RANK
    if len(tasks) > 1:
        shared |= {"outputs": len(tasks), "trained_together": [task.kind for task in tasks]}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    steps = interleaved([task.batches for task in tasks], options.seed)
    items = [[(task, row) for row in batch] for task, batch in steps]
    task_cards = [
        cards.ModelCard(
            kind=task.kind, base=options.base, base_sha256=bases.base_sha256(options.base),
            format="adapter" if options.method == "lora" else "layers",
            data=data_facts(options.data, task.sources),
            settings={**task.settings, **shared, **({"output": output} if len(tasks) > 1 else {}), "scale": 1.0, "offset": 0.0},
            **card_text(task.kind),
        )
        for output, task in enumerate(tasks)
    ]  # fmt: skip
    run = {"base": options.base, "tasks": [[card.settings, card.data] for card in task_cards]}
    checkpoint = tasks[0].out / "checkpoint.pt"

    def loss_of(batch: list[tuple[int, int]]) -> torch.Tensor:
        return tasks[batch[0][0]].loss_of([row for _, row in batch])

    losses, hours = loop.fit(parameters, items, loss_of, options.learning_rate, checkpoint, run, options.seed)
    if not processes.is_first():
        return
    for card in task_cards:
        card.hours, card.parameters = hours, size_of(model)
    for index in reversed(range(len(tasks))):  # the first task's folder holds the checkpoint, so it is replaced last
        own = [LossRow(step, loss, None) for step, (loss, (task, _)) in enumerate(zip(losses, steps, strict=True), 1) if task == index]
        save(model, tasks[index], task_cards[index], own)


def size_of(model: Any) -> int:
    """The number of parameters, trained or not."""
    return sum(each.numel() for each in model.parameters())


def save(model: Any, task: Task, card: cards.ModelCard, losses: list[LossRow]) -> None:
    """Write the task's model folder and calibrate it."""
    from bot.rankers.transformers import load

    with files.atomic_folder(task.out) as folder:
        if card.format == "layers":
            save_layers(model, folder)
        else:
            save_adapter(model, card.base, folder)
        schema.write_rows(folder / "losses.csv", LossRow, losses)
        cards.write_card(folder, card)
        with cli.waiting("calibrating the scores"):
            scale, offset = task.calibrate(load(folder))  # the saved half-precision weights, not those in memory
        card.settings |= {"scale": scale, "offset": offset}
        cards.write_card(folder, card)


def interleaved(batches: Sequence[Sequence[list[int]]], seed: int) -> list[tuple[int, list[int]]]:
    """(task, batch) pairs: the tasks in random order, the batches of each task in their given order.

    >>> interleaved([[[1], [2]], [[3]]], seed=1)
    [(0, [1]), (1, [3]), (0, [2])]
    """
    order = [task for task, own in enumerate(batches) for _ in own]
    random.Random(seed).shuffle(order)
    remaining = [iter(own) for own in batches]
    return [(task, next(remaining[task])) for task in order]


def calibrated(values: Sequence[float], rows: Sequence[RealismRow] | Sequence[LabelledRow]) -> tuple[float, float]:
    """Scale and offset that turn these values into the probability of label 1 (Platt 1999).

    >>> rows = [LabelledRow("t3_a", "t1_a", "t1_b", "s", "", "", label) for label in (0, 1, 0, 1)]
    >>> scale, offset = calibrated([-1.0, 2.0, 1.0, 0.5], rows)
    >>> scale > 0 > offset
    True
    """
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=1e6).fit([[value] for value in values], [row.label for row in rows])
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
