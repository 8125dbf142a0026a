"""train conduct with PyTorch: fine-tune an encoder to name what speaks against a comment or a reply (several labels a text).

Reads  data/conduct/{comment,reply}_lines.csv (invented lines), DATA/lm_{train,val}.csv (people's texts, taken as harmless: with a low
       weight in training, and for the thresholds), and a sentence encoder in models/base/.
Writes OUT: a LoRA adapter, head.npz, model.json and losses.csv; during training, OUT/checkpoint.pt.

    python run_bot.py train conduct --side reply
    python run_bot.py train conduct --side comment
    python run_bot.py train conduct --side comment --average models/a --average models/b    the mean of two models, with its own thresholds

The head is linear over the vector of a text (its tokens' mean, of length 1). It starts as a logistic regression over the vectors of the
untrained encoder and is then trained together with the adapter (Kumar et al. 2022, arXiv:2202.10054). A text is judged by its pieces
(`rankers.classifier`), so training joins lines with harmless ones. Thresholds are folded into the head: a label applies from 0.5 on.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer

from bot import cli, files, schema
from bot.cli import UserError
from bot.conduct import where, words
from bot.rankers import classifier
from bot.schema import ConductLine, LmRow, LossRow, sample_rows
from bot.train import averages, encoders, loop, processes, thresholds
from bot.train.card_text import card_text, data_facts
from bot.train.options import Out, TrainOptions
from bot.weights import bases, cards, serving

if TYPE_CHECKING:
    import torch

    from bot.rankers.transformers import LabelClassifier

Array = np.ndarray[Any, Any]
Part = Literal["train", "thresholds", "held_out"]

ADAPTER_RANK = 16
BACKGROUND_WEIGHT = 0.3  # of a person's text: a few are harmful, and none is labelled
BACKGROUND_WORDS = 60  # longer ones are not trained on
MEASURED_TEXTS = 1000  # people's, for the thresholds and again for the figures
NEVER = -1e9  # a logit
JOINED = 0.2  # share of lines that are trained on once more between harmless ones


@dataclass(frozen=True, kw_only=True)
class Options(TrainOptions):
    base: Annotated[str, typer.Option(help="name of a base under models/base")] = "minilm-l6"
    side: Annotated[Literal["comment", "reply"], typer.Option(help="what is classified")] = "reply"
    lines: Annotated[Path, typer.Option(help="invented lines")] = Path("data/conduct/SIDE_lines.csv")
    out: Out = Path("models/conduct-SIDE")
    epochs: Annotated[int, typer.Option(min=1, help="passes over the lines")] = 2
    background: Annotated[int, typer.Option(min=0, help="people's texts to train on, drawn at random")] = 1200
    batch_tokens: Annotated[int, typer.Option(min=128, help="tokens per step, including padding")] = 1024
    learning_rate: Annotated[float, typer.Option(min=0, help="peak learning rate")] = 1e-3
    average: Annotated[
        list[Path], typer.Option(help="don't train: take the mean of the weights of these models of conduct; repeatable")
    ] = field(default_factory=list)  # fmt: skip

    def __post_init__(self) -> None:
        for name in ("lines", "out"):
            object.__setattr__(self, name, Path(str(getattr(self, name)).replace("SIDE", self.side)))


@dataclass(frozen=True)
class Example:
    """labels: (labels,), 1 where one applies."""

    text: str
    labels: Array
    weight: float = 1.0


def part_of(body: str) -> Part:
    """Which part a line belongs to, by a hash of its text: 70 % train, 10 % thresholds, 20 % held out.

    >>> part_of("a line"), part_of("b"), part_of("see you")
    ('train', 'held_out', 'train')
    """
    remainder = zlib.crc32(body.encode()) % 10
    return "held_out" if remainder < 2 else "thresholds" if remainder == 2 else "train"


def train(options: Options) -> None:
    """Raises UserError if a file or the base is missing, or the lines are of one kind only."""
    lines = schema.read_rows(options.lines, ConductLine)
    labels = sorted({line.category for line in lines if line.refuse})
    if not labels or all(line.refuse for line in lines):
        raise UserError(f"{options.lines}: needs lines of both kinds (refuse true and false); add some")
    read = {part: schema.read_rows(options.data / f"lm_{part}.csv", LmRow) for part in ("train", "val", "test")}
    people = {part: peoples_texts(rows, options, part) for part, rows in read.items()}
    card = card_of(options, labels, len(lines), {part: len(rows) for part, rows in read.items()})
    if options.average:
        return average(options, card, lines, people)
    examples = training_examples(lines, labels, people["train"], options)

    import torch
    from transformers import AutoModel

    from bot.rankers.transformers import LabelClassifier, encode_text

    torch.manual_seed(options.seed)
    plain, tokenizer = encoders.encoder_to_train(AutoModel, bases.base_path(options.base))
    encoded = [encode_text(tokenizer, each.text) for each in examples]
    head = first_head(LabelClassifier(plain, tokenizer, labels, np.zeros((0, 0)), np.zeros(0)), examples)
    model = encoders.with_lora(plain, "FEATURE_EXTRACTION", ADAPTER_RANK)
    batches = loop.batches_by_length(range(len(encoded)), lambda row: len(encoded[row]), options.batch_tokens, options.epochs, options.seed)
    loss_of = loss_function(model, tokenizer, head, examples, encoded)
    parameters = [*(each for each in model.parameters() if each.requires_grad), *head.parameters()]
    losses, card.hours = loop.fit(
        parameters, batches, loss_of, options.learning_rate, options.out / "checkpoint.pt",
        {**card.settings, **card.data, "base": card.base, "base_sha256": card.base_sha256}, options.seed,
    )  # fmt: skip
    if processes.is_first():
        card.parameters = encoders.size_of(model) + encoders.size_of(head)
        save(options, card, model, head, [LossRow(step, loss, None) for step, loss in enumerate(losses, 1)], lines, people)


def average(options: Options, card: cards.ModelCard, lines: Sequence[ConductLine], people: dict[str, list[str]]) -> None:
    """Write the mean of options.average. Raises UserError if one is missing, or differs in base, side or labels."""
    import torch
    from transformers import AutoModel

    own = averages.check_alike(options.average, card)
    plain, _ = encoders.encoder_to_train(AutoModel, bases.base_path(options.base))
    model = averages.averaged_adapter(plain, options.average)
    weight, bias = averages.averaged_head(options.average)
    head = torch.nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        head.weight.copy_(torch.tensor(weight))
        head.bias.copy_(torch.tensor(bias))
    trained = ("epochs", "background", "batch_tokens", "learning_rate", "lora_rank")
    card.settings = {name: value for name, value in card.settings.items() if name not in trained}
    parts = zip(options.average, own, strict=True)
    card.settings["average"] = [{"name": folder.name, "data": each.data, "settings": each.settings} for folder, each in parts]
    card.hours = sum(each.hours for each in own)
    card.parameters = encoders.size_of(model) + encoders.size_of(head)
    save(options, card, model, head, [], lines, people)


# --- texts ----------------------------------------------------------------------------------------------------------------


def peoples_texts(rows: Sequence[LmRow], options: Options, part: str) -> list[str]:
    """People's comments or replies of ordinary subreddits, drawn at random from the rows of lm_PART.csv."""
    ordinary = [row for row in rows if row.subreddit.lower() not in words.SENSITIVE_SUBREDDITS]
    texts = sorted({row.comment if options.side == "comment" else row.reply for row in ordinary})
    if part == "train":
        return sample_rows([each for each in texts if each.count(" ") < BACKGROUND_WORDS], options.background, options.seed)
    return sample_rows(texts, MEASURED_TEXTS, options.seed)


def training_examples(lines: Sequence[ConductLine], labels: Sequence[str], people: Sequence[str], options: Options) -> list[Example]:
    """The lines of the training part, some once more between harmless ones, and people's texts; each as a piece that is judged."""
    draw = random.Random(options.seed)
    used = [line for line in lines if part_of(line.text) == "train"]
    harmless = [line.text for line in used if not line.refuse]
    prepared = classifier.WHOLE[options.side]
    result = []
    for line in used:
        target = np.array([line.refuse and line.category == label for label in labels], np.float32)
        result.append(Example(prepared(line.text), target))
        if draw.random() < JOINED:
            parts = [*draw.sample(harmless, draw.randint(1, 2)), line.text]
            draw.shuffle(parts)
            result.append(Example(prepared(" ".join(parts)), target))
    nothing = np.zeros(len(labels), np.float32)
    pieces = [draw.choice(classifier.PIECES[options.side](each) or [""]) for each in people]
    return result + [Example(each, nothing, BACKGROUND_WEIGHT) for each in pieces if each]


# --- training -------------------------------------------------------------------------------------------------------------


def first_head(untrained: LabelClassifier, examples: Sequence[Example]) -> torch.nn.Linear:
    """A logistic regression for each label over the vectors of the untrained encoder."""
    import torch
    from sklearn.linear_model import LogisticRegression

    targets = np.stack([each.labels for each in examples], 1)  # (labels, examples)
    weights = [each.weight for each in examples]
    with cli.waiting(f"fitting a first head to {len(examples):,} texts"):
        vectors = untrained.vectors([each.text for each in examples])
        fitted = [LogisticRegression(C=10, max_iter=300).fit(vectors, target, weights) for target in targets]
    head = torch.nn.Linear(vectors.shape[1], len(fitted))
    with torch.no_grad():
        head.weight.copy_(torch.tensor(np.concatenate([each.coef_ for each in fitted])))
        head.bias.copy_(torch.tensor(np.concatenate([each.intercept_ for each in fitted])))
    return head.to(loop.device())


def loss_function(
    model: Any, tokenizer: Any, head: torch.nn.Linear, examples: Sequence[Example], encoded: Sequence[list[int]]
) -> Callable[[list[int]], torch.Tensor]:
    """batch (numbers of examples) -> mean over them of the weighted cross-entropy, summed over labels."""
    import torch

    from bot.rankers.transformers import embed

    def loss_of(batch: list[int]) -> torch.Tensor:
        logits = head(embed(model, tokenizer, [encoded[each] for each in batch]))
        targets = torch.tensor(np.stack([examples[each].labels for each in batch]), device=logits.device)
        losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)
        return (losses * torch.tensor([examples[each].weight for each in batch], device=logits.device)).mean()

    return loss_of


def card_of(options: Options, labels: list[str], lines: int, rows: Mapping[str, int]) -> cards.ModelCard:
    """lines: the number of invented lines. rows: the number of rows of each lm_PART.csv."""
    return cards.ModelCard(
        kind="conduct", base=options.base, base_sha256=bases.base_sha256(options.base), format="adapter",
        data={
            options.lines.name: {"rows": lines, "sha256": files.sha256_of(options.lines)},
            **data_facts(options.data, {f"lm_{part}.csv": count for part, count in rows.items()}),
        },
        settings={
            "architecture": "labels", "side": options.side, "labels": labels, "lines": str(options.lines), "epochs": options.epochs,
            "background": options.background, "batch_tokens": options.batch_tokens, "learning_rate": options.learning_rate,
            "seed": options.seed, "lora_rank": ADAPTER_RANK,
        },
        **card_text("conduct"),
    )  # fmt: skip


# --- thresholds and figures -----------------------------------------------------------------------------------------------


def save(
    options: Options,
    card: cards.ModelCard,
    model: Any,
    head: torch.nn.Linear,
    losses: list[LossRow],
    lines: Sequence[ConductLine],
    people: dict[str, list[str]],
) -> None:
    """Write the model folder, then set its thresholds and measure it as it was saved, in half precision."""
    from bot.rankers.transformers import load

    with files.atomic_folder(options.out) as folder:
        encoders.save_adapter(model, card.base, folder)
        if losses:
            schema.write_rows(folder / "losses.csv", LossRow, losses)
        cards.write_card(folder, card)
        weight, bias = (each.detach().float().cpu().numpy() for each in (head.weight, head.bias))
        np.savez(folder / serving.HEAD_FILE, weight=weight, bias=bias)
        saved = load(folder)
        labels = card.settings["labels"]
        kinds = {part: [line for line in lines if part_of(line.text) == part] for part in ("thresholds", "held_out")}
        with cli.waiting("measuring the held-out rows"):
            logits = {part: logits_of(saved, [line.text for line in own], options.side) for part, own in kinds.items()}
            background = {part: logits_of(saved, people[part], options.side) for part in ("val", "test")}
        for values in background.values():  # of texts that are no titles
            values[:, [label in where.TITLE_TOPICS for label in labels]] = NEVER
        fitted = thresholds.fit(logits["thresholds"], targets_of(kinds["thresholds"], labels), background["val"], labels, options.side)
        np.savez(folder / serving.HEAD_FILE, weight=weight * fitted.scale[:, None], bias=bias * fitted.scale + fitted.offset)
        card.metrics = thresholds.figures(fitted.applied(logits["held_out"]), kinds["held_out"], fitted.applied(background["test"]))
        cards.write_card(folder, card)


def targets_of(lines: Sequence[ConductLine], labels: Sequence[str]) -> Array:
    """(lines, labels), True where the label applies."""
    return np.array([[line.refuse and line.category == label for label in labels] for line in lines])


def logits_of(saved: Any, texts: Sequence[str], side: str) -> Array:
    """The largest logit of a text's pieces, (texts, labels)."""
    return classifier.of_texts(saved.logits, texts, side)
