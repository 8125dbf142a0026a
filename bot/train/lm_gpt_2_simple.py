"""train lm --backend gpt-2-simple: fine-tune GPT-2 with `gpt_2_simple.finetune`, measuring the validation loss during training.

Reads  DATA/gpt2_finetune.csv for training, DATA/lm_val.csv to select a checkpoint, DATA/lm_test.csv for the card's data section, and a
       base in models/base/ (`python run_bot.py models pull 124M`).
Writes OUT: the best checkpoint in gpt-2-simple's layout, model.json, losses.csv and replies.npy (see corpus.copies); during training,
       the folder OUT/checkpoint.run.

    python run_bot.py train lm --backend gpt-2-simple --base 124M --data data/prepared --out models/lm-124M

Every `--save-interval` steps and at the end, the weights are saved and the validation loss is measured; the newest and the best weights
are kept. An interrupted run resumes from its newest weights (Ctrl-C saves them first). gpt-2-simple saves neither Adam's moments nor its
position in the data, so both restart on resume: a resumed run ends near the uninterrupted one, not at the same weights.
"""

from __future__ import annotations

import contextlib
import json
import math
import random
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bot import cli, files, schema, text
from bot.cli import UserError
from bot.corpus import copies
from bot.schema import FinetuneText, LmRow, LossRow
from bot.train import loop
from bot.train.card_text import card_text, data_facts
from bot.train.options import Base, LearningRate, Out, TrainOptions
from bot.weights import bases, cards

if TYPE_CHECKING:
    from bot.generators.gpt_2_simple import Encoded

DATASET, SECONDS = "gpt2_finetune.csv", "seconds.txt"
RUN = "checkpoint.run"
WINDOW = 1024  # tokens per training example, fixed in gpt_2_simple.finetune
VALIDATION_ROWS = 1000
SAMPLE_TOKENS = 200
PRINTED_STEPS = 10
VOCABULARY = ("hparams.json", "encoder.json", "vocab.bpe")
LIMITS = (
    "Fluent, often factually wrong, and it reproduces the prejudices of its training data. Loss is in nats per token of whole rows;"
    " perplexity covers the reply tokens, with the end as one token, and is only comparable between models with the same vocabulary."
)


class Restore(StrEnum):
    latest = "latest"
    fresh = "fresh"


@dataclass(frozen=True, kw_only=True)
class Options(TrainOptions):
    base: Base = "124M"
    out: Out = Path("models/lm")
    learning_rate: LearningRate = 1e-4
    steps: Annotated[int, typer.Option(min=1, help="total number of optimizer steps")] = 1000
    batch_size: Annotated[int, typer.Option(min=1, help="windows of 1024 tokens per batch")] = 1
    accumulate: Annotated[int, typer.Option(min=1, help="batches per step (gradient accumulation)")] = 5
    freeze_embeddings: Annotated[bool, typer.Option(help="train only the transformer layers")] = False
    restore: Annotated[Restore, typer.Option(help="latest: resume an interrupted run; fresh: start over")] = Restore.latest
    sample_interval: Annotated[int, typer.Option(min=0, help="steps between printed samples; 0: no samples")] = 200
    save_interval: Annotated[int, typer.Option(min=1, help="steps between checkpoints; each one is validated")] = 200


def train(options: Options) -> None:
    """Raises UserError if a file or the base is missing or unusable, the loss diverges, or memory or disk space runs out."""
    held_out = {each: schema.read_rows(options.data / f"lm_{each}.csv", LmRow) for each in ("val", "test")}
    texts = read_dataset(options.data / DATASET)
    folder = bases.base_path(options.base)

    from bot.generators.gpt_2_simple import encode_held_out, measure_checkpoint, open_checkpoint

    checkpoint, hparams, bpe = open_checkpoint(folder)
    if hparams.n_ctx != WINDOW:
        raise UserError(f"{folder / 'hparams.json'}: n_ctx is {hparams.n_ctx}, gpt-2-simple needs {WINDOW}; use another --base")
    check_length(options.data / DATASET, texts, bpe)
    validation = encode_held_out(bpe, held_out["val"], VALIDATION_ROWS, options.seed, WINDOW)
    if not validation:
        raise UserError(f"{options.data / 'lm_val.csv'}: no row of at most {WINDOW} tokens; prepare more data")
    settings = {
        "backend": "gpt-2-simple", "steps": options.steps, "learning_rate": options.learning_rate, "batch_size": options.batch_size,
        "accumulate": options.accumulate, "freeze_embeddings": options.freeze_embeddings, "sample_interval": options.sample_interval,
        "save_interval": options.save_interval, "seed": options.seed,
    }  # fmt: skip
    card = cards.ModelCard(
        kind="lm", base=options.base, base_sha256=bases.base_sha256(options.base), format="full", settings={**settings, "rows": len(texts)},
        data=data_facts(options.data, {DATASET: len(texts)} | {f"lm_{each}.csv": len(rows) for each, rows in held_out.items()}),
        **card_text("lm", LIMITS),
    )  # fmt: skip
    run = Run(options.out / RUN, checkpoint, options.steps, options.save_interval)
    start = {**settings, "base": options.base, "base_sha256": card.base_sha256, "data": card.data}
    run.begin(start, fresh=options.restore is Restore.fresh)
    with resource_errors(options, run):
        if run.needs_validation():
            with cli.waiting("measuring the validation rows"):
                run.record_validation(measure_checkpoint(hparams, bpe, run.weights(run.step), validation)["loss"])
        if run.step < options.steps:
            finetune(options, folder, run, hparams, bpe, validation)
    save(options, folder, run, card, [text.parse_reply(row.text.partition(text.SEPARATOR)[2]) for row in texts])


def read_dataset(path: Path) -> list[FinetuneText]:
    """The rows that finetune will train on. Raises UserError if `text` is not the first column, which is the one its loader reads."""
    rows = schema.read_rows(path, FinetuneText)
    first = next(schema.read_cells(path))[0]
    if first != "text":
        raise UserError(f"{path}: the first column is {first}, but gpt-2-simple reads the first; put `text` first")
    return rows


def check_length(path: Path, rows: Iterable[FinetuneText], bpe: Any) -> None:
    """Raises UserError if the rows have fewer than WINDOW + 1 tokens, which finetune's sampler needs."""
    from bot.generators.gpt_2_simple import encode_training_text

    tokens = 0
    for row in rows:
        tokens += len(encode_training_text(bpe, row.text))
        if tokens > WINDOW:
            return
    raise UserError(f"{path}: only {tokens} tokens, but gpt-2-simple trains on windows of {WINDOW}; prepare more data")


def finetune(options: Options, folder: Path, run: Run, hparams: Any, bpe: Any, validation: list[Encoded]) -> None:
    """Run the remaining steps. On Ctrl-C, saves the newest weights and raises KeyboardInterrupt."""
    import gpt_2_simple
    import tensorflow as tf

    random.seed(f"{options.seed} {run.step}")  # gpt-2-simple draws its windows with `random`
    dataset = str(options.data.absolute() / DATASET)
    with tf.Graph().as_default(), contextlib.chdir(run.folder):  # finetune writes samples into the working directory
        tf.compat.v1.set_random_seed(options.seed)
        hook = StepHook(run, hparams, bpe, validation)
        gpt_2_simple.finetune(
            hook.session,
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
            save_every=sys.maxsize,  # StepHook saves
            print_every=PRINTED_STEPS,
            only_train_transformer_layers=options.freeze_embeddings,
            reuse=True,
        )
        if run.step < options.steps or run.needs_validation():  # finetune catches KeyboardInterrupt and returns
            hook.save()
            raise KeyboardInterrupt
        hook.session.close()


@contextlib.contextmanager
def resource_errors(options: Options, run: Run) -> Iterator[None]:
    """Turn TensorFlow's ResourceExhaustedError (memory or disk) into a UserError with a remedy."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        if "No space left" in str(error):
            raise UserError(f"{options.out}: the disk is full; free some space and run the same command again") from None
        size = options.batch_size
        remedy = f"a --batch-size below {size}" if size > 1 else "--accumulate 1, --freeze-embeddings or a smaller --base"
        raise UserError(f"out of memory at step {run.step}; use {remedy}, and --restore fresh") from None


def save(options: Options, folder: Path, run: Run, card: cards.ModelCard, replies: list[str]) -> None:
    """Write the model folder with the best weights in gpt-2-simple's layout. It replaces the run folder inside OUT."""
    best = run.best().step
    card.metrics = {"best_step": best, "train_loss_last_50_steps": run.train_loss()}
    card.hours, card.parameters = loop.hours(run.seconds()), size_of(run.weights(best))
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
    print(f"{options.out}: best checkpoint at step {best} of {options.steps}, train loss {run.train_loss():.3f} over the last 50 steps")
    if best == 0:
        base = options.base
        print(
            f"no checkpoint is better than {base} itself, so {options.out} holds the weights of {base};"
            " try a lower --learning-rate or more data"
        )


def size_of(weights: Path) -> int:
    """The number of parameters in a checkpoint of TensorFlow."""
    import tensorflow as tf

    return sum(math.prod(shape) for _, shape in tf.train.list_variables(str(weights)))


# --- the run ----------------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """OUT/checkpoint.run: weights (step-N.*) of the newest and the best step, and the losses of all steps up to the newest.

    A save writes losses, then weights, then the validation loss, and finally deletes old weights. So if the process is killed at any
    moment, the newest weights have all their losses, and the best validated weights are still there.
    """

    folder: Path
    base: Path  # checkpoint at step 0
    steps: int
    save_interval: int
    losses: list[LossRow] = field(default_factory=lambda: [LossRow(0, None, None)])  # the base (step 0), then one per step
    started: float = field(default_factory=time.monotonic)  # earlier, if there were interrupted attempts before

    @property
    def step(self) -> int:
        return len(self.losses) - 1

    def seconds(self) -> float:
        """Of training, without interruptions."""
        return time.monotonic() - self.started

    def weights(self, step: int) -> Path:
        return self.folder / f"step-{step}" if step else self.base

    def begin(self, start: dict[str, Any], fresh: bool) -> None:
        """Resume the run in `folder`, or start a new one. start: identifies the run; fresh: delete an existing run first.

        Raises:
            UserError: the existing run was started with other settings or data, or its losses are missing.
        """
        import tensorflow as tf

        if fresh and self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder = self.folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        start_file, remedy = self.folder / "run.json", "use --restore fresh to start again, or another --out"
        key = json.dumps(start, sort_keys=True, indent=1)
        if not start_file.exists():
            with files.atomic_writer(start_file) as file:
                file.write(key)
        elif start_file.read_text(encoding="utf-8") != key:
            raise UserError(f"{self.folder}: belongs to a run with other settings or data; {remedy}")
        for stale in [*self.folder.glob("model-*"), self.folder / "checkpoint", self.folder / "counter"]:
            stale.unlink(missing_ok=True)  # finetune's own files, which may be a step off after an interruption
        newest = max((int(path.stem.removeprefix("step-")) for path in self.folder.glob("step-*.index")), default=0)
        losses = self.folder / "losses.csv"
        if newest or losses.exists():
            self.losses = schema.read_rows(losses, LossRow)[: newest + 1]
            if self.step != newest:
                raise UserError(f"{losses}: has {self.step} steps, but the weights are of step {newest}; {remedy}")
        # finetune reads the weights' path and step from here; the base's own `checkpoint` file may hold a path of another machine
        tf.compat.v1.train.update_checkpoint_state(str(self.folder), str(self.weights(newest).absolute()))
        with contextlib.suppress(OSError, ValueError):  # older versions did not write it
            self.started -= float((self.folder / SECONDS).read_text(encoding="ascii"))
        if newest:
            (self.folder / "counter").write_text(f"{newest}\n", encoding="ascii")
            print(f"resuming at step {newest} of {self.steps} ({self.folder})")

    def is_save_step(self) -> bool:
        return self.step % self.save_interval == 0 or self.step == self.steps

    def needs_validation(self) -> bool:
        return self.is_save_step() and self.losses[-1].val_loss is None

    def best(self) -> LossRow:
        """The step with the lowest validation loss; the first in a tie."""
        return min((row for row in self.losses if row.val_loss is not None), key=lambda row: row.val_loss or 0.0)

    def train_loss(self) -> float:
        return loop.mean_of_last([row.train_loss for row in self.losses if row.train_loss is not None])

    def write(self, folder: Path) -> None:
        schema.write_rows(folder / "losses.csv", LossRow, self.losses)

    def record_validation(self, val_loss: float) -> None:
        """Record the newest step's validation loss, and delete weights that are neither the newest nor the best."""
        self.check_finite(val_loss)
        self.losses[-1].val_loss = val_loss
        self.write(self.folder)
        best = self.best()
        kept = {self.weights(self.step).name, self.weights(best.step).name}
        for path in self.folder.glob("step-*"):
            if path.name.split(".")[0] not in kept:
                path.unlink()
        print(f"step {self.step} of {self.steps}: validation loss {val_loss:.4f}, best {best.val_loss:.4f} at step {best.step}", flush=True)

    def check_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise UserError(f"training diverged: the loss is {loss} at step {self.step}; use a lower --learning-rate and --restore fresh")


class StepHook:
    """Records, saves and validates between the steps of finetune.

    finetune does all its work through its session's `run`. Only an optimizer step fetches a tuple, with the loss second to last in the
    result. Wrapping `run` therefore gives access to the variables between steps, without ending finetune, which would reset Adam's moments.
    """

    def __init__(self, run: Run, hparams: Any, bpe: Any, rows: list[Encoded]):
        import gpt_2_simple
        import tensorflow as tf

        from bot.generators.gpt_2_simple import Measure

        self.state, self.rows = run, rows
        self.measure = Measure(hparams, bpe)
        self.saver = tf.compat.v1.train.Saver(tf.compat.v1.trainable_variables(), max_to_keep=0)
        self.session = gpt_2_simple.start_tf_sess()
        self.session_run = self.session.run
        self.session.run = self.run

    def run(self, fetches: Any, feed_dict: Any = None) -> Any:
        result = self.session_run(fetches, feed_dict)
        if isinstance(fetches, tuple):
            loss = float(result[-2])
            self.state.losses.append(LossRow(self.state.step + 1, loss, None))
            self.state.check_finite(loss)
            if self.state.is_save_step():
                self.save()
                with cli.waiting("measuring the validation rows"):
                    self.state.record_validation(self.measure(self.session, self.rows)["loss"])
        return result

    def save(self) -> None:
        self.state.write(self.state.folder)
        with files.atomic_writer(self.state.folder / SECONDS) as file:
            file.write(f"{self.state.seconds():.1f}")
        self.saver.save(self.session, str(self.state.weights(self.state.step)), write_meta_graph=False, write_state=False)
