"""train realism | upvote | relevance: fine-tune a BERT-like encoder to score (comment, reply) pairs.

Reads  DATA/realism_{train,val,test}.csv, of the training threads those of the half «rankers» (text.half_for), and an encoder in
       models/base/.
Writes OUT: a LoRA adapter, model.json and losses.csv; while it trains, OUT/checkpoint.pt. With --realism-out the same there, too.

    python run_bot.py train realism --data data/prepared --out models/realism
    python run_bot.py train upvote --data data/prepared                    see train_upvote
    python run_bot.py train relevance --data data/prepared                 see train_relevance
    python run_bot.py train upvote --backend tfhub-bert --classes 4        with TensorFlow: see train_tfhub_bert
    python run_bot.py train upvote --harvest data/harvest.csv              also from what became of the bot's own replies

    python run_bot.py train upvote --out models/upvote --realism-out models/realism        two rankers, one encoder

realism learns label 1 (a person) against 0 (generated).
"""

from __future__ import annotations

import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bot.cli import UserError
from bot.train import realism, tasks

if TYPE_CHECKING:
    pass


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
        int | None,
        typer.Option(min=1, help="upvote: least difference in karma of the pairs to learn", show_default=f"{tasks.LEAST_KARMA_GAP}"),
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
        from bot.train import tfhub_bert

        count = 2 if kind is Kind.realism else int(classes or Classes.four)
        options = (count, rows, epochs, batch_tokens, learning_rate, seed, harvest)
        tfhub_bert.train(kind.value, base or "minilm-l6-tfhub", data, out, *options)
        return
    base = base or "minilm-l6"
    if kind is Kind.relevance:
        from bot.train import relevance

        return relevance.train(base, data, out, rows, epochs, batch_tokens, learning_rate, seed)
    if kind is Kind.upvote:
        from bot.train import upvote

        chosen = (karma_gap or tasks.LEAST_KARMA_GAP, ranked_rows, leave_out or [], harvest, realism_out)
        return upvote.train(base, data, out, rows, epochs, batch_tokens, learning_rate, seed, *chosen)
    realism.train_realism(base, data, out, rows, epochs, batch_tokens, learning_rate, seed)
