"""train lm --backend gpt-2-simple: fine-tune GPT-2 with `gpt_2_simple.finetune`, its validation loss measured while it trains.

Reads  DATA/gpt2_finetune.csv to train on, DATA/lm_val.csv to choose a checkpoint, a base in models/base/ (`python run_bot.py models pull
       124M`); of DATA/lm_test.csv only what the card says of it.
Writes OUT: the best checkpoint as gpt-2-simple lays it out, model.json, losses.csv and replies.npy (see copies); while it trains, the
       folder OUT/checkpoint.run.

    python run_bot.py train lm --backend gpt-2-simple --base 124M --data data/prepared --out models/lm-124M

Every `--save-interval` steps and at the end the weights are saved and the validation loss is measured; the newest and the best are kept.
A run that broke resumes at its newest weights (Ctrl-C saves them first). gpt-2-simple keeps neither Adam's moments nor its place in the
data, so both begin anew there: a run that was broken ends near where the unbroken one does, not at the same weights.
"""

from __future__ import annotations

import contextlib
import json
import math
import random
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bot import files, schema, text
from bot.cli import UserError
from bot.corpus import copies
from bot.schema import FinetuneText, LmRow, LossRow
from bot.train import loop
from bot.train.options import Base, LearningRate, Out, TrainOptions
from bot.train.words import data_facts, words
from bot.weights import bases, cards

if TYPE_CHECKING:
    from bot.generators.gpt_2_simple import Encoded

DATASET = "gpt2_finetune.csv"
RUN = "checkpoint.run"
WINDOW = 1024  # tokens that finetune reads at once; it knows no other number
VALIDATION_ROWS = 1000
SAMPLE_TOKENS = 200
PRINTED_STEPS = 10
VOCABULARY = ("hparams.json", "encoder.json", "vocab.bpe")
LIMITS = (
    "Fluent, often wrong about facts, and it repeats what it read, prejudices too. Loss is nats per token of whole rows; perplexity is over"
    " the reply's tokens, its end counted as one, and comparable between models of one vocabulary only."
)


class Restore(StrEnum):
    latest = "latest"
    fresh = "fresh"


@dataclass(frozen=True, kw_only=True)
class Options(TrainOptions):
    base: Base = "124M"
    out: Out = Path("models/lm")
    learning_rate: LearningRate = 1e-4
    steps: Annotated[int, typer.Option(min=1, help="optimiser's steps in all")] = 1000
    batch_size: Annotated[int, typer.Option(min=1, help="windows of 1024 tokens at once")] = 1
    accumulate: Annotated[int, typer.Option(min=1, help="batches whose gradients make one step")] = 5
    freeze_embeddings: Annotated[bool, typer.Option(help="train the transformer's layers only")] = False
    restore: Annotated[Restore, typer.Option(help="latest: resume a broken run; fresh: start it again")] = Restore.latest
    sample_interval: Annotated[int, typer.Option(min=0, help="steps between printed samples; 0: none")] = 200
    save_interval: Annotated[int, typer.Option(min=1, help="steps between checkpoints, each measured")] = 200


def train(options: Options) -> None:
    """Raises UserError: a file or the base is missing or doesn't fit, the loss diverged, or memory or disk is full."""
    from bot.generators.gpt_2_simple import encode_held_out, measure_checkpoint, open_checkpoint

    folder = bases.base_path(options.base)
    checkpoint, hparams, bpe = open_checkpoint(folder)
    if hparams.n_ctx != WINDOW:
        raise UserError(f"{folder / 'hparams.json'}: n_ctx is {hparams.n_ctx}, gpt-2-simple trains with {WINDOW} only; take another --base")
    texts = read_dataset(options.data / DATASET, bpe)
    held_out = {each: schema.read_rows(options.data / f"lm_{each}.csv", LmRow) for each in ("val", "test")}
    validation = encode_held_out(bpe, held_out["val"], VALIDATION_ROWS, options.seed, WINDOW)
    if not validation:
        raise UserError(f"{options.data / 'lm_val.csv'}: no row of at most {WINDOW} tokens to measure; prepare more data")
    settings = {
        "backend": "gpt-2-simple", "steps": options.steps, "learning_rate": options.learning_rate, "batch_size": options.batch_size,
        "accumulate": options.accumulate, "freeze_embeddings": options.freeze_embeddings, "sample_interval": options.sample_interval,
        "save_interval": options.save_interval, "seed": options.seed,
    }  # fmt: skip
    card = cards.ModelCard(
        kind="lm", base=options.base, base_sha256=bases.base_sha256(options.base), format="full", settings=settings,
        data=data_facts(options.data, {DATASET: len(texts)} | {f"lm_{each}.csv": len(rows) for each, rows in held_out.items()}),
        **words("lm", LIMITS),
    )  # fmt: skip
    run = Run(options.out / RUN, checkpoint, options.steps, options.save_interval)
    start = {**settings, "base": options.base, "base_sha256": card.base_sha256, "data": card.data}
    run.begin(start, fresh=options.restore is Restore.fresh)
    with full_memory_or_disk(options, run):
        if run.unmeasured():
            run.note(measure_checkpoint(hparams, bpe, run.weights(run.step), validation)["loss"])
        if run.step < options.steps:
            finetune(options, folder, run, hparams, bpe, validation)
    save(options, folder, run, card, [text.parse_reply(row.text.partition(text.SEPARATOR)[2]) for row in texts])


def read_dataset(path: Path, bpe: Any) -> list[FinetuneText]:
    """What finetune will read: its loader takes the first column, and its sampler must find a window and one token more."""
    from bot.generators.gpt_2_simple import encode_training_text

    rows = schema.read_rows(path, FinetuneText)
    first = next(schema.read_cells(path))[0]
    if first != "text":
        raise UserError(f"{path}: the first column is {first}, and gpt-2-simple reads that one; put text first")
    tokens = 0
    for row in rows:
        tokens += len(encode_training_text(bpe, row.text))
        if tokens > WINDOW:
            return rows
    raise UserError(f"{path}: {tokens} tokens, and gpt-2-simple trains on windows of {WINDOW}; prepare more data")


def finetune(options: Options, folder: Path, run: Run, hparams: Any, bpe: Any, validation: list[Encoded]) -> None:
    """The steps that are left. Raises KeyboardInterrupt where they were interrupted; the newest weights are saved then."""
    import gpt_2_simple
    import tensorflow as tf

    random.seed(f"{options.seed} {run.step}")  # what gpt-2-simple draws its windows with
    dataset = str(options.data.absolute() / DATASET)
    with tf.Graph().as_default(), contextlib.chdir(run.folder):  # finetune writes its samples where it stands
        tf.compat.v1.set_random_seed(options.seed)
        watch = Watch(run, hparams, bpe, validation)
        gpt_2_simple.finetune(
            watch.session,
            dataset,
            steps=options.steps - run.step,
            model_name=folder.name,
            model_dir=str(folder.parent),
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            accumulate_gradients=options.accumulate,
            restore_from="latest",
            run_name=RUN,
            checkpoint_dir=str(run.folder.parent),
            sample_every=options.sample_interval or sys.maxsize,
            sample_length=SAMPLE_TOKENS,
            save_every=sys.maxsize,  # Watch saves
            print_every=PRINTED_STEPS,
            only_train_transformer_layers=options.freeze_embeddings,
            reuse=True,
        )
        if run.step < options.steps or run.unmeasured():  # finetune returns when it is interrupted
            watch.save()
            raise KeyboardInterrupt
        watch.session.close()


@contextlib.contextmanager
def full_memory_or_disk(options: Options, run: Run) -> Iterator[None]:
    """Turns TensorFlow's error for both into one line that says what to do."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        if "No space left" in str(error):
            raise UserError(f"{options.out}: the disk is full; free some space and run the same command again") from None
        size = options.batch_size
        less = f"--batch-size lower than {size}" if size > 1 else "--accumulate 1, --freeze-embeddings or a smaller --base"
        raise UserError(f"out of memory at step {run.step}; give {less}, and --restore fresh") from None


def save(options: Options, folder: Path, run: Run, card: cards.ModelCard, replies: list[str]) -> None:
    """Write the model folder with the best weights, as gpt-2-simple lays them out; the run's folder in it goes."""
    best = run.best().step
    card.metrics = {"best_step": best, "train_loss_last_50_steps": run.train_loss()}
    source, name = run.weights(best), f"model-{best}"
    with files.atomic_folder(options.out) as new:
        for path in source.parent.glob(f"{source.name}.*"):
            if path.suffix == ".index" or path.suffix.startswith(".data-"):
                shutil.copyfile(path, new / (name + path.suffix))
        for file in VOCABULARY:
            shutil.copyfile(folder / file, new / file)
        (new / "checkpoint").write_text(f'model_checkpoint_path: "{name}"\n', encoding="ascii")
        copies.write(new, replies)
        run.write(new)
        cards.write_card(new, card)
    print(f"{options.out}: the best of {options.steps} steps is {best}, train loss {run.train_loss():.3f} over the last 50 steps")
    if best == 0:
        base = options.base
        print(
            f"no checkpoint is better than {base} itself, so {options.out} holds {base}'s weights;"
            " give a lower --learning-rate or more data"
        )


# --- the run ----------------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """OUT/checkpoint.run: weights as step-N.*, of the newest step and of the best, and the losses of all steps up to the newest.

    In this order at each save: losses, weights, validation loss, old weights removed. So a process killed at any moment leaves weights
    with all losses up to them, and the best weights that the losses tell of.
    """

    folder: Path
    base: Path  # checkpoint at step 0
    steps: int
    save_interval: int
    losses: list[LossRow] = field(default_factory=lambda: [LossRow(0, None, None)])  # one for each step and, first, for the base

    @property
    def step(self) -> int:
        return len(self.losses) - 1

    def weights(self, step: int) -> Path:
        return self.folder / f"step-{step}" if step else self.base

    def begin(self, start: dict[str, Any], fresh: bool) -> None:
        """Take up what is there, unless the run is to be a fresh one. start: what the run is started with.

        Raises:
            UserError: what is there was started with something else, or its losses are gone.
        """
        import tensorflow as tf

        if fresh and self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder = self.folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        start_file, remedy = self.folder / "run.json", "give --restore fresh to start again, or another --out"
        key = json.dumps(start, sort_keys=True, indent=1)
        if not start_file.exists():
            with files.atomic_writer(start_file) as file:
                file.write(key)
        elif start_file.read_text(encoding="utf-8") != key:
            raise UserError(f"{self.folder}: belongs to a run with other settings or data; {remedy}")
        for left in [*self.folder.glob("model-*"), self.folder / "checkpoint", self.folder / "counter"]:
            left.unlink(missing_ok=True)  # finetune's own, which may be a step off when it was interrupted
        newest = max((int(path.stem.removeprefix("step-")) for path in self.folder.glob("step-*.index")), default=0)
        losses = self.folder / "losses.csv"
        if newest or losses.exists():
            self.losses = schema.read_rows(losses, LossRow)[: newest + 1]
            if self.step != newest:
                raise UserError(f"{losses}: has {self.step} steps, the weights beside it {newest}; {remedy}")
        # where finetune looks for weights, and for their step; the base's own `checkpoint` may name it by another machine's path
        tf.compat.v1.train.update_checkpoint_state(str(self.folder), str(self.weights(newest).absolute()))
        if newest:
            (self.folder / "counter").write_text(f"{newest}\n", encoding="ascii")
            print(f"resuming at step {newest} of {self.steps} ({self.folder})")

    def due(self) -> bool:
        return self.step % self.save_interval == 0 or self.step == self.steps

    def unmeasured(self) -> bool:
        return self.due() and self.losses[-1].val_loss is None

    def best(self) -> LossRow:
        """The measured step of least validation loss, the first of equals."""
        return min((row for row in self.losses if row.val_loss is not None), key=lambda row: row.val_loss or 0.0)

    def train_loss(self) -> float:
        return loop.mean_of_last([row.train_loss for row in self.losses if row.train_loss is not None])

    def write(self, folder: Path) -> None:
        schema.write_rows(folder / "losses.csv", LossRow, self.losses)

    def note(self, val_loss: float) -> None:
        """The newest step's validation loss; weights that are neither the newest nor the best go."""
        self.check(val_loss)
        self.losses[-1].val_loss = val_loss
        self.write(self.folder)
        best = self.best()
        kept = {self.weights(self.step).name, self.weights(best.step).name}
        for path in self.folder.glob("step-*"):
            if path.name.split(".")[0] not in kept:
                path.unlink()
        print(f"step {self.step} of {self.steps}: validation loss {val_loss:.4f}, best {best.val_loss:.4f} at step {best.step}", flush=True)

    def check(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise UserError(f"the loss is {loss} at step {self.step}: it diverged; give a lower --learning-rate and --restore fresh")


class Watch:
    """Counts, saves and measures between the steps of finetune.

    finetune does all its work through its session's `run`, and the one call that fetches a tuple is an optimiser's step, whose loss
    stands last but one in the result. So `run` is where one can act between steps, on the very variables and without ending finetune,
    which would begin Adam's moments anew.
    """

    def __init__(self, run: Run, hparams: Any, bpe: Any, rows: list[Encoded]):
        import gpt_2_simple
        import tensorflow as tf

        from bot.generators.gpt_2_simple import Measure

        self.state, self.rows = run, rows
        self.measure = Measure(hparams, bpe)
        self.saver = tf.compat.v1.train.Saver(tf.compat.v1.trainable_variables(), max_to_keep=0)
        self.session = gpt_2_simple.start_tf_sess()
        self.plain_run = self.session.run
        self.session.run = self.run

    def run(self, fetches: Any, feed_dict: Any = None) -> Any:
        result = self.plain_run(fetches, feed_dict)
        if isinstance(fetches, tuple):
            loss = float(result[-2])
            self.state.losses.append(LossRow(self.state.step + 1, loss, None))
            self.state.check(loss)
            if self.state.due():
                self.save()
                self.state.note(self.measure(self.session, self.rows)["loss"])
        return result

    def save(self) -> None:
        self.state.write(self.state.folder)
        self.saver.save(self.session, str(self.state.weights(self.state.step)), write_meta_graph=False, write_state=False)
