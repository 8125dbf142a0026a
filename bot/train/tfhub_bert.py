"""train realism | upvote --backend tfhub-bert: fine-tune a BERT from TensorFlow Hub to classify (comment, reply) pairs.

Reads  DATA/realism_{train,val}.csv or DATA/upvote_{train,val}.csv, what evaluate reads, and an encoder: a TensorFlow Hub URL, a
       SavedModel's folder, or a base that `models export-tfhub` made.
Writes OUT: the fine-tuned encoder with its classifier and vocabulary as a SavedModel, model.json and losses.csv; while it trains,
       OUT/checkpoint.npz.

    python run_bot.py train realism --backend tfhub-bert --base minilm-l6-tfhub --data data/prepared --out models/realism-tfhub
    python run_bot.py train upvote --backend tfhub-bert --classes 4 --data data/prepared --out models/upvote-tfhub

realism has two classes, generated and a person's. upvote has those of the reply's karma, see rankers.karma_class. Every weight is
trained. The masks of an encoder's dropout come from its own random stream, so a resumed run ends near the unbroken one, not on it.
"""

from __future__ import annotations

import http.client
import os
import socket
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's reports on the processor, at every start
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # TensorFlow Hub's layers are Keras 2's; read when tensorflow is first imported

import tensorflow as tf
import tf_keras

from bot import files, rankers, schema, text
from bot.cli import UserError
from bot.evaluate import evaluate, measures
from bot.rankers import Encoded
from bot.rankers.tfhub_bert import INPUTS, Array, TFHubBert, Wordpieces, enough_memory, first_line, inputs_of, load, padded
from bot.schema import Harvested, LossRow, RealismRow, UpvoteRow, sample_rows
from bot.train import loop
from bot.weights import bases, cards, pull, serving

DROPOUT = 0.1  # before the classifier, as in BERT's own fine-tuning
VALIDATIONS = 8  # times in a run
VALIDATION_ROWS = 1000
CHECKPOINT = "checkpoint.npz"


# --- the encoder --------------------------------------------------------------------------------------------------------


def import_hub() -> Any:
    """tensorflow_hub. It asks pkg_resources for one function, and newer setuptools no longer bring that module."""
    from packaging.version import parse

    stub = types.ModuleType("pkg_resources")
    stub.parse_version = parse  # type: ignore[attr-defined]
    needed = "pkg_resources" not in sys.modules
    if needed:
        sys.modules["pkg_resources"] = stub
    try:
        import tensorflow_hub
    finally:
        if needed:
            del sys.modules["pkg_resources"]
    return tensorflow_hub


def find_encoder(handle: str) -> tuple[Path, str, str]:
    """The SavedModel's folder for a URL, a folder or a base's name; what the card calls it; its sha256.

    Raises:
        UserError: it can't be reached, or there is no SavedModel.
    """
    hub = import_hub()
    is_url = "://" in handle
    if not is_url and "/" not in handle and not Path(handle).exists():
        told = bases.read_base(handle)
        if told is None or told["kind"] != "tfhub":
            state = "is no whole base" if told is None else f"is of kind {told['kind']}"
            name = handle.removesuffix("-tfhub")
            raise UserError(
                f"{handle} {state}; run `python run_bot.py models export-tfhub {name}`, "
                "or give a TensorFlow Hub URL or a SavedModel's folder"
            )
        return bases.base_path(handle), handle, bases.base_sha256(handle)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(pull.NETWORK_TIMEOUT_SECONDS)  # tensorflow_hub would wait for ever
    try:
        folder = Path(hub.resolve(handle))
    except (OSError, ValueError, RuntimeError, http.client.HTTPException, tf.errors.OpError) as error:
        remedy = "check the network, or give the folder of a SavedModel" if is_url else "check the path, or give a URL or a base's name"
        raise UserError(f"{handle}: the encoder can't be reached ({first_line(error)}); {remedy}") from None
    finally:
        socket.setdefaulttimeout(before)
    if not (folder / "saved_model.pb").exists():
        raise UserError(f"{handle}: no SavedModel there (saved_model.pb is missing); give the folder of one, or a TensorFlow Hub URL")
    return folder, handle if is_url else folder.resolve().name, serving.fingerprint(folder)


def load_encoder(folder: Path, handle: str) -> tuple[Any, int]:
    """The encoder as a trainable hub.KerasLayer, and the width of its pooled output.

    Raises:
        UserError: it isn't whole, or doesn't take and give what the BERTs of TensorFlow Hub do, or can't be trained.
    """
    hub = import_hub()
    wanted = f"expected a BERT that takes {', '.join(INPUTS)} and gives pooled_output"
    try:
        layer = hub.KerasLayer(str(folder), trainable=True)
        output = layer({name: tf.ones([2, 8], tf.int32) for name in INPUTS})
    except (OSError, ValueError, TypeError, LookupError, RuntimeError, tf.errors.OpError) as error:
        raise UserError(f"{handle}: can't be used as an encoder ({first_line(error)}); {wanted}") from None
    if not isinstance(output, dict) or "pooled_output" not in output:
        found = ", ".join(sorted(map(str, output))) if isinstance(output, dict) else type(output).__name__
        raise UserError(f"{handle}: gives {found}; {wanted}")
    if not layer.trainable_weights:
        raise UserError(f"{handle}: has no weights that can be trained; {wanted}")
    return layer, int(output["pooled_output"].shape[-1])


class Classifier:
    """An encoder, and one linear layer on its pooled output."""

    def __init__(self, encoder: Any, width: int, classes: int, seed: int):
        start = np.random.default_rng(seed).normal(0.0, 0.02, (width, classes))
        self.encoder = encoder
        self.weight = tf.Variable(start.astype(np.float32), name="classifier/weight")
        self.bias = tf.Variable(tf.zeros(classes), name="classifier/bias")
        self.variables = [*encoder.trainable_weights, self.weight, self.bias]

    def logits(self, inputs: Any, training: bool) -> Any:
        pooled = self.encoder(inputs, training=training)["pooled_output"]
        return tf.matmul(tf.nn.dropout(pooled, DROPOUT) if training else pooled, self.weight) + self.bias  # (batch, classes)

    def save(self, folder: Path) -> None:
        """A SavedModel of probabilities, which carries the encoder's vocabulary."""
        saved, spec = self.encoder.resolved_object, {name: tf.TensorSpec([None, None], tf.int32, name) for name in INPUTS}
        root = tf.train.Checkpoint(encoder=saved, weight=self.weight, bias=self.bias)
        root.__call__ = tf.function(lambda inputs: tf.nn.softmax(self.logits(inputs, False)), input_signature=[spec], autograph=False)
        root.classes = tf.Variable(self.bias.shape[0], trainable=False)
        root.vocab_file, root.do_lower_case = saved.vocab_file, saved.do_lower_case
        tf.saved_model.save(root, str(folder))


# --- training -----------------------------------------------------------------------------------------------------------


def loss_of(logits: Any, labels: Any) -> Any:
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def fit(
    model: Classifier,
    batches: Sequence[tuple[dict[str, Array], Array]] | Any,
    validation: Sequence[tuple[dict[str, Array], Array]],
    learning_rate: float,
    checkpoint: Path,
    settings: dict[str, Any],
) -> list[LossRow]:
    """Train on every batch once, in order; returns the loss of each step. See training.fit.

    batches, validation: inputs and labels (batch,).
    """
    optimizer = tf_keras.optimizers.AdamW(learning_rate, weight_decay=0.01)
    optimizer.exclude_from_weight_decay(var_names=["bias", "LayerNorm", "layer_norm", "gamma", "beta"])
    optimizer.build(model.variables)
    spec = {name: tf.TensorSpec([None, None], tf.int32, name) for name in INPUTS}, tf.TensorSpec([None], tf.int32)

    def train_step(inputs: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_of(model.logits(inputs, True), labels)
        gradients, _ = tf.clip_by_global_norm(tape.gradient(loss, model.variables), loop.LARGEST_GRADIENT)
        optimizer.apply_gradients(pair for pair in zip(gradients, model.variables, strict=True) if pair[0] is not None)
        return loss

    def validation_loss(inputs: Any, labels: Any) -> Any:
        return loss_of(model.logits(inputs, False), labels)

    taken, measured_on = (tf.function(each, input_signature=spec, autograph=False) for each in (train_step, validation_loss))
    losses: list[float] = []
    measured: dict[int, float] = {}
    key = loop.settings_key(settings)
    state = [*model.variables, *optimizer.variables]
    if checkpoint.exists():
        read_checkpoint(checkpoint, key, state, losses, measured)
        print(f"going on at step {len(losses)} of {len(batches)} ({checkpoint})")
    every = max(1, len(batches) // VALIDATIONS)

    def one_step(step: int) -> float:
        optimizer.learning_rate = loop.learning_rate_at(step, len(batches), learning_rate)
        loss = float(taken(*batches[step]))
        if (step + 1) % every == 0 or step + 1 == len(batches):
            rows = [len(labels) for _, labels in validation]
            measured[step] = float(np.average([float(measured_on(*batch)) for batch in validation], weights=rows))
        return loss

    def save() -> None:
        arrays = {f"state{number}": variable.numpy() for number, variable in enumerate(state)}
        at, values = list(measured), list(measured.values())
        loop.write_checkpoint(
            checkpoint, lambda file: np.savez(file, settings=key, losses=losses, measured_at=at, measured=values, **arrays)
        )

    loop.take_steps(losses, len(batches), one_step, save)
    return [LossRow(step + 1, loss, measured.get(step)) for step, loss in enumerate(losses)]


def read_checkpoint(checkpoint: Path, key: str, state: list[Any], losses: list[float], measured: dict[int, float]) -> None:
    """Fill variables and losses from the checkpoint. Raises UserError if it belongs to other settings, or isn't readable."""
    try:
        with np.load(checkpoint) as stored:
            told = {name: stored[name] for name in stored.files}
        found = str(told["settings"])
    except Exception as error:  # zipfile, zlib and numpy raise half a dozen kinds for a garbled file
        raise UserError(f"{checkpoint}: not readable ({error}); delete it to start again") from None
    loop.check_settings(checkpoint, found, key)
    for number, variable in enumerate(state):
        variable.assign(told[f"state{number}"])
    losses += told["losses"].tolist()
    measured |= zip(told["measured_at"].tolist(), told["measured"].tolist(), strict=True)


class Batches:
    """The run's batches, each padded when it is asked for: all of them at once would take a gigabyte."""

    def __init__(self, encoded: Sequence[Encoded], labels: Sequence[int], padding: int, most_tokens: int, epochs: int, seed: int):
        self.encoded, self.labels, self.padding = encoded, labels, padding
        lengths = [padded(len(ids)) for ids, _ in encoded]
        self.order = loop.batches_by_length(range(len(encoded)), lengths.__getitem__, most_tokens, epochs, seed)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, number: int) -> tuple[dict[str, Array], Array]:
        rows = self.order[number]
        return inputs_of([self.encoded[row] for row in rows], self.padding), np.array([self.labels[row] for row in rows], np.int32)


# --- the program --------------------------------------------------------------------------------------------------------


def train(
    kind: str, handle: str, data: Path, out: Path, classes: int, rows: int, epochs: int, batch_tokens: int, learning_rate: float, seed: int,
    harvest: Path | None = None,
) -> None:  # fmt: skip
    """kind: realism (classes 2) or upvote (classes 2 or 4). See train_ranker for the options."""
    row_type: type = RealismRow if kind == "realism" else UpvoteRow
    paths = {each: data / f"{kind}_{each}.csv" for each in ("train", "val", "test")}
    read: dict[str, list[Any]] = {each: schema.read_rows(path, row_type) for each, path in paths.items()}
    for each, found in read.items():
        if not found:
            raise UserError(f"{paths[each]}: no rows; prepare more data")
    folder, base, base_sha256 = find_encoder(handle)
    encoder, width = load_encoder(folder, handle)
    wordpieces = Wordpieces(encoder.resolved_object, handle)
    label_of: Callable[[Any], int] = (
        (lambda row: row.label) if kind == "realism" else lambda row: rankers.karma_class(row.reply_karma, classes)
    )
    half = [row for row in read["train"] if text.half_for(row.thread_id) == "rankers"]
    own = loop.own_replies(schema.read_rows(harvest, Harvested)) if harvest else []
    half += [UpvoteRow(r.thread_id, r.comment_id, r.reply_id, r.subreddit, r.comment, r.reply, r.karma, None) for r in own]
    drawn = {"train": sample_rows(half, rows, seed), "val": sample_rows(read["val"], VALIDATION_ROWS, seed)}
    missing = set(range(classes)) - {label_of(row) for row in drawn["train"]}
    if missing:
        raise UserError(f"{paths['train']}: no row of class {min(missing)} among {len(drawn['train'])}; raise --rows or prepare more data")
    encoded = {
        each: (wordpieces.encode([(row.comment, row.reply) for row in some]), [label_of(row) for row in some])
        for each, some in drawn.items()
    }
    settings = {
        "backend": "tfhub-bert", "classes": classes, "rows": len(drawn["train"]), "epochs": epochs, "batch_tokens": batch_tokens,
        "learning_rate": learning_rate, "seed": seed, "vocabulary": len(wordpieces.ids),
        "own_rows": len(own), "harvest_sha256": files.sha256_of(harvest) if harvest else "",
    }  # fmt: skip
    card_data = {path.name: {"rows": len(read[each]), "sha256": files.sha256_of(path)} for each, path in paths.items()}
    del read, drawn
    tf.random.set_seed(seed)
    model = Classifier(encoder, width, classes, seed)
    padding = wordpieces.ids["[PAD]"]
    batches = Batches(*encoded["train"], padding, batch_tokens, epochs, seed)
    validation = Batches(*encoded["val"], padding, batch_tokens, 1, seed)
    with enough_memory(f"--batch-tokens ({batch_tokens} now)"):
        run = {**settings, "kind": kind, "base": base, "base_sha256": base_sha256, "data": card_data}
        losses = fit(model, batches, [validation[n] for n in range(len(validation))], learning_rate, out / CHECKPOINT, run)
    (out / cards.CARD_FILE).unlink(missing_ok=True)  # without it there is no model here, until the next one is whole
    model.save(out)
    schema.write_rows(out / "losses.csv", LossRow, losses)
    card = cards.ModelCard(
        kind="upvote" if kind == "upvote" else "realism", base=base, base_sha256=base_sha256, format="full",
        data=card_data, settings=settings,
        **cards.words(kind, settings),
    )  # fmt: skip
    cards.write_card(out, card)
    ranker: TFHubBert = load(out)  # what was saved is what is measured
    card.metrics = measures.measure(card, ranker, data)
    cards.write_card(out, card)
    (out / CHECKPOINT).unlink()
    evaluate.show(kind, card.metrics)
