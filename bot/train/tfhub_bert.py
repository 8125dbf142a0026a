"""Fine-tune a BERT from TensorFlow Hub to classify (comment, reply) pairs. Shared by the two rankers of this back end.

Reads  an encoder: a TensorFlow Hub URL, a SavedModel folder, or a base written by `models export-tfhub`.
Writes OUT: the fine-tuned encoder with its classifier and vocabulary as a SavedModel, model.json and losses.csv; during training,
       OUT/checkpoint.npz.

All weights are trained. The encoder draws its dropout masks from a random stream that is not saved, so a resumed run ends near the
uninterrupted one, not at the same weights.
"""

from __future__ import annotations

import http.client
import os
import socket
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # TensorFlow Hub needs Keras 2; must be set before tensorflow is imported

from bot import files, schema, text
from bot.cli import UserError, first_line
from bot.rankers import Encoded
from bot.rankers.tfhub_bert import INPUTS, Array, Wordpieces, enough_memory, inputs_of, padded
from bot.schema import LossRow, sample_rows
from bot.train import loop
from bot.train.card_text import card_text, data_facts
from bot.train.options import RankerOptions
from bot.weights import bases, cards, loading, pull, serving

with loading.importing_tensorflow():
    import tensorflow as tf
    import tf_keras

DROPOUT = 0.1  # before the classifier, as in BERT's own fine-tuning
VALIDATIONS = 8  # per run
VALIDATION_ROWS = 1000
CHECKPOINT = "checkpoint.npz"


# --- the encoder --------------------------------------------------------------------------------------------------------


def import_hub() -> Any:
    """Import tensorflow_hub with a stub for pkg_resources.parse_version, because newer setuptools no longer include pkg_resources."""
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
    """SavedModel folder, name for the card and sha256 of an encoder given as a URL, a folder or the name of a base.

    Raises:
        UserError: the encoder is not reachable, or is not a SavedModel.
    """
    hub = import_hub()
    is_url = "://" in handle
    if not is_url and "/" not in handle and not Path(handle).exists():
        base = bases.read_base(handle)
        if base is None or base["kind"] != "tfhub":
            problem = "not a complete base" if base is None else f"a base of kind {base['kind']}, not tfhub"
            export = f"python run_bot.py models export-tfhub {handle.removesuffix('-tfhub')}"
            raise UserError(f"{handle}: {problem}; run `{export}`, or use a TensorFlow Hub URL or a SavedModel folder")
        return bases.base_path(handle), handle, bases.base_sha256(handle)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(pull.NETWORK_TIMEOUT_SECONDS)  # tensorflow_hub has no timeout
    try:
        folder = Path(hub.resolve(handle))
    except (OSError, ValueError, RuntimeError, http.client.HTTPException, tf.errors.OpError) as error:
        remedy = "check the network, or use a SavedModel folder" if is_url else "check the path, or use a URL or the name of a base"
        raise UserError(f"{handle}: encoder not available ({first_line(error)}); {remedy}") from None
    finally:
        socket.setdefaulttimeout(before)
    if is_url and not (folder / "saved_model.pb").exists():
        raise UserError(f"{handle}: its copy in TensorFlow Hub's cache is incomplete; delete {folder} and try again")
    if not (folder / "saved_model.pb").exists():
        raise UserError(f"{handle}: not a SavedModel (saved_model.pb is missing); use a SavedModel folder or a TensorFlow Hub URL")
    return folder, handle if is_url else folder.resolve().name, serving.fingerprint(folder)


def load_encoder(folder: Path, handle: str) -> tuple[Any, int]:
    """The encoder as a trainable hub.KerasLayer, and the width of its pooled output.

    Raises:
        UserError: the encoder is damaged, lacks the inputs and outputs of TensorFlow Hub's BERTs, or cannot be trained.
    """
    hub = import_hub()
    expected = f"expected a BERT with inputs {', '.join(INPUTS)} and output pooled_output"
    try:
        layer = hub.KerasLayer(str(folder), trainable=True)
        output = layer({name: tf.ones([2, 8], tf.int32) for name in INPUTS})
    except (OSError, ValueError, TypeError, LookupError, RuntimeError, tf.errors.OpError) as error:
        raise UserError(f"{handle}: not usable as an encoder ({first_line(error)}); {expected}") from None
    if not isinstance(output, dict) or "pooled_output" not in output:
        outputs = ", ".join(sorted(map(str, output))) if isinstance(output, dict) else type(output).__name__
        raise UserError(f"{handle}: its output is {outputs}; {expected}")
    if not layer.trainable_weights:
        raise UserError(f"{handle}: has no trainable weights; {expected}")
    return layer, int(output["pooled_output"].shape[-1])


class Classifier:
    """An encoder with one linear layer on its pooled output."""

    def __init__(self, encoder: Any, width: int, classes: int, seed: int):
        initial = np.random.default_rng(seed).normal(0.0, 0.02, (width, classes))
        self.encoder = encoder
        self.weight = tf.Variable(initial.astype(np.float32), name="classifier/weight")
        self.bias = tf.Variable(tf.zeros(classes), name="classifier/bias")
        self.variables = [*encoder.trainable_weights, self.weight, self.bias]

    def logits(self, inputs: Any, training: bool) -> Any:
        pooled = self.encoder(inputs, training=training)["pooled_output"]
        return tf.matmul(tf.nn.dropout(pooled, DROPOUT) if training else pooled, self.weight) + self.bias  # (batch, classes)

    def save(self, folder: Path) -> None:
        """Write a SavedModel that returns probabilities and contains the encoder's vocabulary."""
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
) -> loop.Run:
    """Train on every batch once, in order. See loop.fit.

    batches, validation: pairs of inputs and labels (batch,).
    """
    optimizer = tf_keras.optimizers.AdamW(learning_rate, weight_decay=0.01)
    optimizer.exclude_from_weight_decay(var_names=["bias", "LayerNorm", "layer_norm", "gamma", "beta"])
    optimizer.build(model.variables)
    spec = {name: tf.TensorSpec([None, None], tf.int32, name) for name in INPUTS}, tf.TensorSpec([None], tf.int32)

    def train_step(inputs: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_of(model.logits(inputs, True), labels)
        gradients, _ = tf.clip_by_global_norm(tape.gradient(loss, model.variables), loop.MAX_GRADIENT_NORM)
        optimizer.apply_gradients(pair for pair in zip(gradients, model.variables, strict=True) if pair[0] is not None)
        return loss

    def validation_loss(inputs: Any, labels: Any) -> Any:
        return loss_of(model.logits(inputs, False), labels)

    run_step, run_validation = (tf.function(each, input_signature=spec, autograph=False) for each in (train_step, validation_loss))
    run = loop.Run(checkpoint, loop.settings_key(settings), [*model.variables, *optimizer.variables])
    run.resume(len(batches))
    every = max(1, len(batches) // VALIDATIONS)

    def one_step(step: int) -> float:
        optimizer.learning_rate = loop.learning_rate_at(step, len(batches), learning_rate)
        loss = float(run_step(*batches[step]))
        if (step + 1) % every == 0 or step + 1 == len(batches):
            rows = [len(labels) for _, labels in validation]
            held_out = float(np.average([float(run_validation(*batch)) for batch in validation], weights=rows))
            loop.check_finite(held_out, f"step {step + 1}: the validation loss")
            run.val_losses[step + 1] = held_out
        return loss

    loop.run_steps(run.losses, len(batches), one_step, run.timed_save())
    return run


class Batches:
    """The batches of a run. Each is padded on access, because all of them together would take a gigabyte."""

    def __init__(self, encoded: Sequence[Encoded], labels: Sequence[int], padding: int, max_tokens: int, epochs: int, seed: int):
        self.encoded, self.labels, self.padding = encoded, labels, padding
        lengths = [padded(len(ids)) for ids, _ in encoded]
        self.order = loop.batches_by_length(range(len(encoded)), lengths.__getitem__, max_tokens, epochs, seed)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> tuple[dict[str, Array], Array]:
        rows = self.order[index]
        return inputs_of([self.encoded[row] for row in rows], self.padding), np.array([self.labels[row] for row in rows], np.int32)


# --- the trainer --------------------------------------------------------------------------------------------------------


def train(
    options: RankerOptions,
    kind: Literal["realism", "upvote"],
    classes: int,
    read: dict[str, list[Any]],
    label_of: Callable[[Any], int],
    own: Sequence[Any] = (),
    more_settings: dict[str, Any] | None = None,
    card_prose: dict[str, str] | None = None,
) -> None:
    """Train a classifier and write its model folder.

    read: split -> rows of DATA/KIND_{train,val,test}.csv. label_of: class of a row. own: additional training rows, the bot's own replies.
    more_settings, card_prose: for the card.
    """
    names = {each: f"{kind}_{each}.csv" for each in read}
    for each, rows in read.items():
        if not rows:
            raise UserError(f"{options.data / names[each]}: no rows; prepare more data")
    folder, base, base_sha256 = find_encoder(options.base)
    encoder, width = load_encoder(folder, options.base)
    wordpieces = Wordpieces(encoder.resolved_object, options.base)
    half = [row for row in read["train"] if text.half_for(row.thread_id) == "rankers"]
    drawn = {
        "train": sample_rows([*half, *own], options.rows, options.seed),
        "val": sample_rows(read["val"], VALIDATION_ROWS, options.seed),
    }
    if missing := set(range(classes)) - {label_of(row) for row in drawn["train"]}:
        file, count = options.data / names["train"], len(drawn["train"])
        raise UserError(f"{file}: none of the {count} training rows is of class {min(missing)}; raise --rows or prepare more data")
    encoded = {
        each: (wordpieces.encode([(row.comment, row.reply) for row in rows]), [label_of(row) for row in rows])
        for each, rows in drawn.items()
    }
    settings = {
        "backend": "tfhub-bert", "classes": classes, "rows": len(drawn["train"]), "epochs": options.epochs,
        "batch_tokens": options.batch_tokens, "learning_rate": options.learning_rate, "seed": options.seed,
        "vocabulary": len(wordpieces.ids), **(more_settings or {}),
    }  # fmt: skip
    card = cards.ModelCard(
        kind=kind, base=base, base_sha256=base_sha256, format="full", settings=settings,
        data=data_facts(options.data, {names[each]: len(rows) for each, rows in read.items()}),
        **(card_prose or card_text(kind)),
    )  # fmt: skip
    tf.random.set_seed(options.seed)
    model = Classifier(encoder, width, classes, options.seed)
    padding = wordpieces.ids["[PAD]"]
    batches = Batches(*encoded["train"], padding, options.batch_tokens, options.epochs, options.seed)
    validation = Batches(*encoded["val"], padding, options.batch_tokens, 1, options.seed)
    with enough_memory(f"--batch-tokens ({options.batch_tokens} now)"):
        identity = {**settings, "kind": kind, "base": base, "base_sha256": base_sha256, "data": card.data}
        validation_batches = [validation[index] for index in range(len(validation))]
        run = fit(model, batches, validation_batches, options.learning_rate, options.out / CHECKPOINT, identity)
    card.hours, card.parameters = loop.hours(run.seconds), sum(int(np.prod(each.shape)) for each in model.variables)
    with files.atomic_folder(options.out) as new:
        model.save(new)
        schema.write_rows(new / "losses.csv", LossRow, run.rows())
        cards.write_card(new, card)
