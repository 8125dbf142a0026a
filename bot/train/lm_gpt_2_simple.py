"""train lm --backend gpt-2-simple: fine-tune GPT-2 with `gpt_2_simple.finetune`, measured on held-out rows while it trains.

Reads  DATA/gpt2_finetune.csv to train on, DATA/lm_{val,test}.csv to measure, a base in models/base/ (`python run_bot.py models pull 124M`).
Writes OUT: the best checkpoint as gpt-2-simple lays it out, model.json, losses.csv and replies.npy (see copies); while it trains, the
       folder OUT/checkpoint.run.

    python run_bot.py train lm --backend gpt-2-simple --base 124M --data data/prepared --out models/lm-124M

Every `--save-interval` steps and at the end the weights are saved and the validation loss is measured; the newest and the best are kept.
A run that broke goes on at its newest weights (Ctrl-C saves them first). gpt-2-simple keeps neither Adam's moments nor its place in the
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
from pathlib import Path
from typing import Any

from bot.generators.gpt_2_simple import (
    encode_prompt,
    encode_training_row,
    encode_training_text,
    end_surplus,
    find_checkpoint,
    open_checkpoint,
    restore_weights,
)

# isort: split
import gpt_2_simple
import tensorflow as tf
from gpt_2_simple.src import model

from bot import files, schema, text
from bot.cli import UserError
from bot.corpus import copies
from bot.schema import FinetuneText, LmRow, LossRow, sample_rows
from bot.train.lm_transformers import EVALUATED_ROWS
from bot.weights import bases, cards

DATASET = "gpt2_finetune.csv"
RUN = "checkpoint.run"
WINDOW = 1024  # tokens that finetune reads at once; it knows no other number
MEASURED_TOKENS = 1024  # at once, padding counted: measuring takes no more memory than a training step
SAMPLE_TOKENS = 200
PRINTED_STEPS = 10
VOCABULARY = ("hparams.json", "encoder.json", "vocab.bpe")

Encoded = tuple[list[int], int]  # a row's ids, and how many of them are the prompt's


def train(
    base: str,
    data: Path,
    out: Path,
    steps: int,
    learning_rate: float,
    batch_size: int,
    accumulate: int,
    freeze_embeddings: bool,
    restore: str,
    sample_interval: int,
    save_interval: int,
    seed: int,
) -> None:
    """`train_lm.main` says what the options are. Raises UserError."""
    if (out / "config.json").exists() or (out / "adapter_config.json").exists():
        raise UserError(f"{out}: holds a model of the transformers back end; give another --out")
    folder = bases.base_path(base)
    base_checkpoint, hparams, bpe = open_checkpoint(folder)
    if hparams.n_ctx != WINDOW:
        raise UserError(f"{folder / 'hparams.json'}: n_ctx is {hparams.n_ctx}, gpt-2-simple trains with {WINDOW} only; take another --base")
    texts = read_dataset(data / DATASET, bpe)
    held_out = {each: schema.read_rows(data / f"lm_{each}.csv", LmRow) for each in ("val", "test")}
    encoded = {each: encode_rows(data / f"lm_{each}.csv", bpe, held_out[each], seed) for each in held_out}
    settings = {
        "backend": "gpt-2-simple", "steps": steps, "learning_rate": learning_rate, "batch_size": batch_size, "accumulate": accumulate,
        "freeze_embeddings": freeze_embeddings, "sample_interval": sample_interval, "save_interval": save_interval, "seed": seed,
    }  # fmt: skip
    counts = {DATASET: len(texts)} | {f"lm_{each}.csv": len(held_out[each]) for each in held_out}
    card_data = {name: {"rows": count, "sha256": files.sha256_of(data / name)} for name, count in counts.items()}
    run = Run(out / RUN, base_checkpoint, steps, save_interval)
    run.begin({**settings, "base": base, "base_sha256": bases.base_sha256(base), "data": card_data}, fresh=restore == "fresh")
    try:
        if run.unmeasured():
            run.note(measured(hparams, bpe, run.weights(run.step), encoded["val"])["loss"])
        if run.step < steps:
            random.seed(f"{seed} {run.step}")  # what gpt-2-simple draws its windows with
            with tf.Graph().as_default(), contextlib.chdir(run.folder):  # finetune writes its samples where it stands
                tf.compat.v1.set_random_seed(seed)
                watch = Watch(run, hparams, bpe, encoded["val"])
                gpt_2_simple.finetune(
                    watch.session,
                    str(data.absolute() / DATASET),
                    steps=steps - run.step,
                    model_name=folder.name,
                    model_dir=str(folder.parent),
                    batch_size=batch_size,
                    learning_rate=learning_rate,
                    accumulate_gradients=accumulate,
                    restore_from="latest",
                    run_name=RUN,
                    checkpoint_dir=str(run.folder.parent),
                    sample_every=sample_interval or sys.maxsize,
                    sample_length=SAMPLE_TOKENS,
                    save_every=sys.maxsize,  # Watch saves
                    print_every=PRINTED_STEPS,
                    only_train_transformer_layers=freeze_embeddings,
                    reuse=True,
                )
                if run.step < steps or run.unmeasured():  # finetune returns when it is interrupted
                    watch.save()
                    raise KeyboardInterrupt
                watch.session.close()
        publish(run, folder, out)
        metrics: dict[str, Any] = {"best_step": run.best().step, "train_loss_last_50_steps": run.train_loss()}
        for suffix, source in (("", out), ("_base", folder)):  # what was saved is what is measured, beside what it started from
            for each, rows in encoded.items():
                found = measured(hparams, bpe, find_checkpoint(source), rows)
                metrics |= {f"{each}_{name}{suffix}": value for name, value in found.items()}
    except tf.errors.ResourceExhaustedError as error:
        if "No space left" in str(error):
            raise UserError(f"{out}: the disk is full; free some space and run the same command again") from None
        less = f"--batch-size lower than {batch_size}" if batch_size > 1 else "--accumulate 1, --freeze-embeddings or a smaller --base"
        raise UserError(f"out of memory at step {run.step}; give {less}, and --restore fresh") from None
    metrics |= {f"{each}_rows": len(rows) for each, rows in encoded.items()}
    card = cards.ModelCard(
        kind="lm", base=base, base_sha256=bases.base_sha256(base), format="full", data=card_data, settings=settings, metrics=metrics,
        **cards.words("lm", settings),
    )  # fmt: skip
    copies.write(out, [text.parse_reply(row.text.partition(text.SEPARATOR)[2]) for row in texts])
    cards.write_card(out, card)
    run.write(out)
    shutil.rmtree(run.folder)
    print(", ".join(f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}" for name, value in metrics.items()))
    if metrics["best_step"] == 0:
        print(f"no checkpoint is better than {base} itself, so {out} holds {base}'s weights; give a lower --learning-rate or more data")


# --- what is read -----------------------------------------------------------------------------------------------------


def read_dataset(path: Path, bpe: Any) -> list[FinetuneText]:
    """What finetune will read: its loader takes the first column, and its sampler must find a window and one token more."""
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


def encode_rows(path: Path, bpe: Any, rows: list[LmRow], seed: int) -> list[Encoded]:
    """Some of the rows, drawn by chance, as they would be trained on; those that are longer than a window are left out."""
    drawn = sample_rows(rows, EVALUATED_ROWS, seed)
    encoded = [(encode_training_row(bpe, row.comment, row.reply), len(encode_prompt(bpe, row.comment, WINDOW))) for row in drawn]
    encoded = [(ids, prompt) for ids, prompt in encoded if len(ids) <= WINDOW]
    if not encoded:
        raise UserError(f"{path}: no row of at most {WINDOW} tokens to measure; prepare more data")
    return encoded


# --- measuring --------------------------------------------------------------------------------------------------------


class Measure:
    """Loss over held-out rows with the default graph's variables, which it makes where there are none."""

    def __init__(self, hparams: Any, bpe: Any):
        self.surplus = end_surplus(bpe)
        self.tokens = tf.compat.v1.placeholder(tf.int32, [None, None])  # (rows, time)
        self.parts = tf.compat.v1.placeholder(tf.float32, [2, None, None])  # (whole row or reply, rows, time - 1): 1 where it counts
        logits = model.model(hparams, self.tokens, reuse=tf.compat.v1.AUTO_REUSE)["logits"]
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=self.tokens[:, 1:], logits=logits[:, :-1])
        self.sums = tf.reduce_sum(nats * self.parts, axis=[1, 2])

    def __call__(self, session: Any, rows: list[Encoded]) -> dict[str, float]:
        """loss: nats per token of whole rows. perplexity: of the reply's tokens, what it spells its end with counted as one."""
        nats = [0.0, 0.0]
        for batch in batches(rows):
            width = len(batch[0][0])
            tokens = [ids + [0] * (width - len(ids)) for ids, _ in batch]
            whole = [[1] * (len(ids) - 1) + [0] * (width - len(ids)) for ids, _ in batch]
            reply = [[0] * (prompt - 1) + [1] * (len(ids) - 1 - prompt) + [0] * (width - len(ids) + 1) for ids, prompt in batch]
            sums = session.run(self.sums, {self.tokens: tokens, self.parts: [whole, reply]})
            nats = [total + float(more) for total, more in zip(nats, sums, strict=True)]
        reply_tokens = sum(max(1, len(ids) - 1 - prompt - self.surplus) for ids, prompt in rows)
        perplexity = math.exp(min(nats[1] / reply_tokens, 700.0))  # more would be no float
        return {"loss": nats[0] / sum(len(ids) - 1 for ids, _ in rows), "perplexity": perplexity}


def batches(rows: list[Encoded]) -> Iterator[list[Encoded]]:
    """The longest first, each batch at most MEASURED_TOKENS or one row.

    >>> [len(batch) for batch in batches([([0] * 400, 9), ([0] * 300, 9), ([0] * 500, 9)])]
    [2, 1]
    """
    left = sorted(rows, key=lambda row: len(row[0]), reverse=True)
    while left:
        count = max(1, MEASURED_TOKENS // len(left[0][0]))
        yield left[:count]
        left = left[count:]


def measured(hparams: Any, bpe: Any, checkpoint: Path, rows: list[Encoded]) -> dict[str, float]:
    """See Measure; of a checkpoint's files."""
    with tf.Graph().as_default(), gpt_2_simple.start_tf_sess() as session:
        measure = Measure(hparams, bpe)
        restore_weights(tf.compat.v1.train.Saver(), session, checkpoint)
        return measure(session, rows)


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

    def begin(self, told: dict[str, Any], fresh: bool) -> None:
        """Take up what is there, unless the run is to be a fresh one. told: what the run is started with.

        Raises:
            UserError: what is there was started with something else, or its losses are gone.
        """
        if fresh and self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder = self.folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        start_file, remedy = self.folder / "run.json", "give --restore fresh to start again, or another --out"
        start = json.dumps(told, sort_keys=True, indent=1)
        if not start_file.exists():
            with files.atomic_writer(start_file) as file:
                file.write(start)
        elif start_file.read_text(encoding="utf-8") != start:
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
            print(f"going on at step {newest} of {self.steps} ({self.folder})")

    def due(self) -> bool:
        return self.step % self.save_interval == 0 or self.step == self.steps

    def unmeasured(self) -> bool:
        return self.due() and self.losses[-1].val_loss is None

    def best(self) -> LossRow:
        """The measured step of least validation loss, the first of equals."""
        return min((row for row in self.losses if row.val_loss is not None), key=lambda row: row.val_loss or 0.0)

    def train_loss(self) -> float:
        last = [row.train_loss for row in self.losses[-50:] if row.train_loss is not None]
        return sum(last) / len(last)

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
        self.told, self.rows = run, rows
        self.measure = Measure(hparams, bpe)
        self.saver = tf.compat.v1.train.Saver(tf.compat.v1.trainable_variables(), max_to_keep=0)
        self.session = gpt_2_simple.start_tf_sess()
        self.plain_run = self.session.run
        self.session.run = self.run

    def run(self, fetches: Any, feed_dict: Any = None) -> Any:
        result = self.plain_run(fetches, feed_dict)
        if isinstance(fetches, tuple):
            loss = float(result[-2])
            self.told.losses.append(LossRow(self.told.step + 1, loss, None))
            self.told.check(loss)
            if self.told.due():
                self.save()
                self.told.note(self.measure(self.session, self.rows)["loss"])
        return result

    def save(self) -> None:
        self.told.write(self.told.folder)
        self.saver.save(self.session, str(self.told.weights(self.told.step)), write_meta_graph=False, write_state=False)


# --- what is written --------------------------------------------------------------------------------------------------


def publish(run: Run, base: Path, out: Path) -> None:
    """The best weights into OUT, as gpt-2-simple lays them out. `checkpoint`, which names them, comes last."""
    best = run.best().step
    source, name = run.weights(best), f"model-{best}"
    weights = [path for path in source.parent.glob(f"{source.name}.*") if path.suffix == ".index" or path.suffix.startswith(".data-")]
    copies = {path: name + path.suffix for path in weights} | {base / file: file for file in VOCABULARY}
    for path, target in copies.items():
        temporary = out / f"{target}.tmp"
        shutil.copyfile(path, temporary)
        temporary.replace(out / target)
    with files.atomic_writer(out / "checkpoint") as file:
        file.write(f'model_checkpoint_path: "{name}"\n')
    for path in out.glob("model-*"):
        if path.name not in copies.values():
            path.unlink()  # of an earlier training
