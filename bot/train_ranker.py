"""train realism | upvote | relevance: fine-tune a BERT-like encoder to score (comment, reply) pairs.

Reads  DATA/realism_{train,val,test}.csv, of the training threads those of the half «rankers» (text.half_for), and an encoder in
       models/base/.
Writes OUT: a LoRA adapter, model.json and losses.csv; while it trains, OUT/checkpoint.pt. With --realism-out the same there, too.

    python -m bot.train_ranker realism --data data/prepared --out models/realism
    python -m bot.train_ranker upvote --data data/prepared                    see train_upvote
    python -m bot.train_ranker relevance --data data/prepared                 see train_relevance
    python -m bot.train_ranker upvote --backend tfhub-bert --classes 4        with TensorFlow: see train_tfhub_bert
    python -m bot.train_ranker upvote --harvest data/harvest.csv              also from what became of the bot's own replies

    python -m bot.train_ranker upvote --out models/upvote --realism-out models/realism        two rankers, one encoder

realism learns label 1 (a person) against 0 (generated).
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bot import UserError, cards, models, run_command, schema, text
from bot.schema import LabelledRow, LossRow, RealismRow
from bot.train_lm import choose_rows

if TYPE_CHECKING:
    import torch

    from bot.rankers import Encoded

LORA_RANK = 32
LEAST_KARMA_GAP = 5


class Kind(StrEnum):
    realism = "realism"
    upvote = "upvote"
    relevance = "relevance"


class Backend(StrEnum):
    transformers = "transformers"
    tfhub_bert = "tfhub-bert"


class Classes(StrEnum):
    two = "2"
    four = "4"


def check_out(out: Path, backend: Backend) -> None:
    """Raises UserError if nothing can be written there, or the folder holds a model of the other back end, whose files would lie about
    among the new ones.
    """
    try:
        tempfile.TemporaryFile(dir=next(folder for folder in (out, *out.parents) if folder.exists())).close()
    except OSError as error:
        raise UserError(f"{out}: no model can be written there ({error.strerror}); give another folder") from None
    other, file = (
        (Backend.tfhub_bert, "saved_model.pb") if backend is Backend.transformers else (Backend.transformers, "adapter_config.json")
    )
    if (out / file).exists():
        raise UserError(f"{out} holds a model of back end {other.value} ({file}); give another --out, or remove it")


def main(
    kind: Annotated[Kind, typer.Argument(help="which ranker")],
    base: Annotated[
        str | None,
        typer.Option(
            help="name of an encoder under models/base; for tfhub-bert also a TensorFlow Hub URL or a SavedModel's folder "
            "(default: minilm-l6, or minilm-l6-tfhub)"
        ),
    ] = None,
    data: Annotated[Path, typer.Option(help="folder of prepared files")] = Path("data/prepared"),
    out: Annotated[Path | None, typer.Option(help="model folder to write (default: models/KIND, or models/KIND-tfhub)")] = None,
    rows: Annotated[int, typer.Option(min=1, help="rows (upvote with transformers: replies) to train on, drawn by chance")] = 30_000,
    epochs: Annotated[int, typer.Option(min=1)] = 1,
    batch_tokens: Annotated[int, typer.Option(min=128, help="tokens a step, padding counted")] = 4096,
    learning_rate: Annotated[float, typer.Option(min=0, help="at its peak")] = 1e-4,
    seed: Annotated[int, typer.Option()] = 1,
    backend: Annotated[Backend, typer.Option(help="transformers: a LoRA adapter; tfhub-bert: every weight, in TensorFlow")] = (
        Backend.transformers
    ),
    classes: Annotated[
        Classes | None, typer.Option(help="upvote with tfhub-bert: 4 classes of karma (<1, 1, 2 to 4, >4) or 2 (>1); 4 unless told")
    ] = None,
    karma_gap: Annotated[
        int | None, typer.Option(min=1, help="upvote: least difference in karma of the pairs to learn", show_default=f"{LEAST_KARMA_GAP}")
    ] = None,
    ranked_rows: Annotated[int, typer.Option(min=0, help="upvote: replies of DATA/ranked_pairs.csv to learn besides")] = 0,
    leave_out: Annotated[
        list[str] | None, typer.Option(help="upvote: a subreddit to learn nothing of, but to measure; may be given several times")
    ] = None,
    harvest: Annotated[Path | None, typer.Option(help="upvote: what `harvest` wrote, to learn from replies of our own besides")] = None,
    realism_out: Annotated[
        Path | None,
        typer.Option(help="upvote: learn realism besides, on the same encoder, and write that ranker here; one forward pass serves both"),
    ] = None,
) -> None:
    """Fine-tune a ranker (CPU, or a GPU where there is one)."""
    if classes is not None and (backend is not Backend.tfhub_bert or kind is not Kind.upvote):
        raise UserError("--classes goes with `upvote --backend tfhub-bert` only; leave it out")
    if (karma_gap or ranked_rows or leave_out or realism_out) and (backend is not Backend.transformers or kind is not Kind.upvote):
        raise UserError(
            "--karma-gap, --ranked-rows, --leave-out and --realism-out go with `upvote` and back end transformers only; leave them out"
        )
    if harvest and kind is not Kind.upvote:
        raise UserError("--harvest goes with `upvote` only; leave it out")
    out = out or Path("models") / (kind.value if backend is Backend.transformers else f"{kind.value}-tfhub")
    check_out(out, backend)
    if realism_out:
        if realism_out.resolve() == out.resolve():
            raise UserError(f"--realism-out and --out are the same folder, {out}; give two")
        check_out(realism_out, backend)
        if (realism_out / "checkpoint.pt").exists():
            raise UserError(f"{realism_out}/checkpoint.pt: of a training that was interrupted; finish that, or delete it")
        if leave_out:
            raise UserError("--realism-out learns from every subreddit, so that --leave-out would leave nothing out; drop one of them")
    if backend is Backend.tfhub_bert:
        if kind is Kind.relevance:
            raise UserError("relevance has no back end tfhub-bert; leave --backend out")
        from bot import train_tfhub_bert

        count = 2 if kind is Kind.realism else int(classes or Classes.four)
        options = (count, rows, epochs, batch_tokens, learning_rate, seed, harvest)
        train_tfhub_bert.train(kind.value, base or "minilm-l6-tfhub", data, out, *options)
        return
    base = base or "minilm-l6"
    if kind is Kind.relevance:
        from bot import train_relevance

        return train_relevance.train(base, data, out, rows, epochs, batch_tokens, learning_rate, seed)
    if kind is Kind.upvote:
        from bot import train_upvote

        chosen = (karma_gap or LEAST_KARMA_GAP, ranked_rows, leave_out or [], harvest, realism_out)
        return train_upvote.train(base, data, out, rows, epochs, batch_tokens, learning_rate, seed, *chosen)
    train_realism(base, data, out, rows, epochs, batch_tokens, learning_rate, seed)


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


def train_realism(base: str, data: Path, out: Path, rows: int, epochs: int, batch_tokens: int, learning_rate: float, seed: int) -> None:
    """`main` says what the options are. Raises UserError."""
    folder = models.base_path(base)
    read = read_realism(data)

    from bot import training
    from bot.rankers.transformers import logits

    model, tokenizer = training.ranker_with_lora(folder, LORA_RANK, 1, seed)
    task = realism_task(read, tokenizer, lambda pairs: logits(model, tokenizer, pairs)[:, 0], out, rows, epochs, batch_tokens, seed)
    fit_and_measure(base, data, model, [task], learning_rate, seed)


def read_realism(data: Path) -> dict[str, list[RealismRow]]:
    """By split. Raises UserError where one lacks people's replies or fakes."""
    read = {each: schema.read_rows(data / f"realism_{each}.csv", RealismRow) for each in ("train", "val", "test")}
    for each, found in read.items():
        if {row.label for row in found} != {0, 1}:
            raise UserError(f"{data}/realism_{each}.csv: rows of both labels are needed; make more fakes")
    return read


def realism_task(
    read: dict[str, list[RealismRow]], tokenizer: Any, logits_of: Logits, out: Path, rows: int, epochs: int, batch_tokens: int, seed: int
) -> Task:
    """read: see read_realism. logits_of: the output of the model that learns this. The others are `main`'s."""
    import torch

    from bot import training
    from bot.rankers.transformers import encode_pair, padded_width

    train = choose_rows([row for row in read["train"] if text.half_for(row.thread_id) == "rankers"], rows, seed)
    encoded = [encode_pair(tokenizer, row.comment, row.reply) for row in train]
    batches = training.batches_by_length(range(len(train)), lambda row: padded_width(len(encoded[row][0])), batch_tokens, epochs, seed)

    def loss_of(batch: list[int]) -> torch.Tensor:
        labels = torch.tensor([float(train[row].label) for row in batch], device=training.device())
        return torch.nn.functional.binary_cross_entropy_with_logits(logits_of([encoded[row] for row in batch]), labels)

    settings: dict[str, Any] = {
        "rows": len(train), "epochs": epochs, "batch_tokens": batch_tokens, "lora_rank": LORA_RANK,
        "generators": sorted({row.generator for row in train if row.generator}),
    }  # fmt: skip
    sources = {f"realism_{each}.csv": len(found) for each, found in read.items()}
    pairs = [(row.comment, row.reply) for row in read["val"]]
    return Task("realism", out, settings, sources, batches, loss_of, calibrate=lambda ranker: calibrated(ranker.logits(pairs), read["val"]))


def fit_and_measure(base: str, data: Path, model: Any, tasks: Sequence[Task], learning_rate: float, seed: int) -> None:
    """Train a LoRA model of PyTorch, then save, calibrate and measure a ranker for each task; the same call goes on.

    Several tasks share the encoder, and each has an output of the model, by its place in `tasks`. Their batches come mixed, each step is of
    one task. Each ranker's folder holds the whole adapter, so that it can be used by itself.

    Raises:
        UserError: see training.fit.
    """
    from bot import evaluate, measures, training
    from bot.rankers.transformers import load

    card_data = [{name: {"rows": count, "sha256": schema.sha256_of(data / name)} for name, count in task.sources.items()} for task in tasks]
    shared: dict[str, Any] = {"learning_rate": learning_rate, "seed": seed}
    if len(tasks) > 1:
        shared |= {"outputs": len(tasks), "trained_together": [task.kind for task in tasks]}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    checkpoint = tasks[0].out / "checkpoint.pt"
    steps = mixed([task.batches for task in tasks], seed)
    run = {**shared, "base": base, "tasks": [task.settings for task in tasks], "data": card_data}
    losses = training.fit(parameters, steps, lambda step: tasks[step[0]].loss_of(step[1]), learning_rate, checkpoint, run, seed)
    for place, task in enumerate(tasks):
        training.save_adapter(model, base, task.out)
        own_output = {"output": place} if len(tasks) > 1 else {}
        card = models.ModelCard(
            kind=task.kind, base=base, base_sha256=models.base_sha256(base), format="adapter", data=card_data[place],
            settings={**task.settings, **shared, **own_output, "scale": 1.0, "offset": 0.0}, **cards.words(task.kind, task.settings),
        )  # fmt: skip
        models.write_card(task.out, card)
        own = [LossRow(step, loss, None) for step, (loss, (which, _)) in enumerate(zip(losses, steps, strict=True), 1) if which == place]
        schema.write_rows(task.out / "losses.csv", LossRow, own)
        ranker = load(task.out)  # what was saved is what is measured
        ranker.scale, ranker.offset = task.calibrate(ranker)
        card.settings |= {"scale": ranker.scale, "offset": ranker.offset}
        models.write_card(task.out, card)
        card.metrics = measures.measure(card, ranker, data) | task.measure_more(ranker)
        models.write_card(task.out, card)
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


if __name__ == "__main__":
    run_command(main, "python -m bot.train_ranker")
