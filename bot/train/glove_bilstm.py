"""Train a network of word vectors and stacked bidirectional LSTMs (rankers.glove_bilstm). Shared by the rankers of this back end.

Reads  word vectors (weights.vectors).
Writes OUT: words.txt, weights.npz, model.json, losses.csv and coverage.png, the plots by which the vocabulary was chosen; during training,
       OUT/checkpoint.npz.

The vocabulary is the most frequent words of the training texts (`vocabulary.elbow`). With frozen vectors, words without one are unknown
words; with --fine-tune they get vectors of their own, which start at random. An unknown word has the mean vector. Training stops when the
validation loss has not fallen for --patience epochs, and the weights of the best epoch are kept.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from bot import files, schema
from bot.cli import UserError
from bot.rankers import glove_bilstm
from bot.rankers.glove_bilstm import UNKNOWN, Array, GloveBilstm, Network, padded, words_of  # sets Keras's back end
from bot.schema import LossRow
from bot.train import loop, vocabulary
from bot.train.card_text import card_text, data_facts
from bot.train.options import GloveOptions
from bot.weights import cards, vectors

import keras  # isort: skip
import tensorflow as tf  # isort: skip

CHECKPOINT = "checkpoint.npz"
VALIDATION_BATCH_TOKENS = 8192

# --- examples -----------------------------------------------------------------------------------------------------------


class Example(NamedTuple):
    """Rows that are encoded together, and which is better. rows: the texts of each row, such as (comment, reply).

    better: pairs of row numbers from 1, the better one first. Row 0 always has the logit 0, so that (1, 0) is a row with label 1: the
    loss -log sigmoid(logit - 0) is its cross-entropy.
    """

    rows: list[tuple[str, ...]]
    better: list[tuple[int, int]]


class Batch(NamedTuple):
    """ids: of all texts, (texts, time). rows: the texts of each row, (rows, sides). better: (pairs, 2). weights: of the pairs, sum 1."""

    ids: Array
    rows: Array
    better: Array
    weights: Array


def labelled(texts: tuple[str, ...], label: int) -> Example:
    """A row that is classified.

    >>> labelled(("why", "so"), 1).better, labelled(("why", "so"), 0).better
    ([(1, 0)], [(0, 1)])
    """
    return Example([texts], [(1, 0) if label else (0, 1)])


def compared(rows: list[tuple[str, str]], better: Sequence[tuple[int, int]]) -> Example:
    """Replies to one comment. better: see siblings.Group."""
    return Example([*rows], [(one + 1, other + 1) for one, other in better])


class Batches:
    """Examples with ids instead of words, in batches of similar length, in another order in each epoch."""

    def __init__(self, examples: Sequence[Example], encode: Callable[[tuple[str, ...]], tuple[list[int], ...]]):
        self.rows = [[tuple(map(tuple, encode(row))) for row in example.rows] for example in examples]
        self.better = [example.better for example in examples]
        self.sizes = [sum(map(len, {text for row in rows for text in row})) for rows in self.rows]

    def epoch(self, max_tokens: int, seed: int) -> list[list[int]]:
        """The examples of each batch."""
        return loop.batches_by_length(range(len(self.rows)), self.sizes.__getitem__, max_tokens, 1, seed)

    def __getitem__(self, examples: Sequence[int]) -> Batch:
        places: dict[tuple[int, ...], int] = {}
        rows: list[list[int]] = []
        better: list[tuple[int, int]] = []
        weights: list[float] = []
        for number in examples:
            first = len(rows)  # row n of the example is row first + n of the batch
            rows += [[places.setdefault(text, len(places)) for text in row] for row in self.rows[number]]
            better += [(one and first + one, other and first + other) for one, other in self.better[number]]
            weights += [1 / len(self.better[number]) / len(examples)] * len(self.better[number])
        return Batch(padded([*places]), np.array(rows, np.int32), np.array(better, np.int32), np.array(weights, np.float32))


# --- words --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Words:
    """The vocabulary. words: those with the ids from 2 on. table: the vectors of all ids, float32 (ids, width), rounded to float16.

    counts, known: of every word in the training texts, most frequent first. pretrained: as read.
    """

    words: list[str]
    table: Array
    counts: list[int]
    known: list[bool]
    size: int
    pretrained: vectors.WordVectors

    @property
    def ids(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words, start=UNKNOWN + 1)}

    def facts(self) -> dict[str, Any]:
        """For the card: how many words were considered, and the shares of them, and of their occurrences, that have a vector."""
        words, occurrences = vocabulary.coverage(self.counts, self.known, self.size)
        return {
            "vocabulary": self.size, "words": len(self.words), "broken_lines": self.pretrained.broken,
            "coverage": round(words, 4), "coverage_of_occurrences": round(occurrences, 4),
        }  # fmt: skip


def choose_words(texts: Sequence[Sequence[str]], base: str, size: int, with_unknown: bool, seed: int) -> Words:
    """The vocabulary of tokenized texts. size: 0 to choose it. with_unknown: also words without a vector, which start at random.

    Raises:
        UserError: the texts have no words, or see vectors.read.
    """
    counted = vocabulary.by_frequency(texts)
    if not counted:
        raise UserError("the training texts have no words; prepare more data")
    pretrained = vectors.read(base, {word for word, _ in counted})
    known = [word in pretrained.by_word for word, _ in counted]
    size = min(size or vocabulary.elbow(known), len(counted))
    used = [word for (word, _), has in zip(counted[:size], known, strict=False) if has or with_unknown]
    table = np.array([*pretrained.by_word.values()])
    rng = np.random.default_rng(seed)
    own = [pretrained.by_word.get(word) for word in used]
    rows = [rng.normal(0.0, table.std(), pretrained.width) if vector is None else vector for vector in own]
    result = np.array([np.zeros(pretrained.width), table.mean(axis=0), *rows], np.float32)
    return Words(used, result.astype(np.float16).astype(np.float32), [count for _, count in counted], known, size, pretrained)


# --- training -----------------------------------------------------------------------------------------------------------


class Fit:
    """The steps of a run, and the variables that they change."""

    def __init__(self, network: Network, rate_of: Callable[[int], float]):
        self.network, self.rate_of = network, rate_of
        self.trained = [*network.encoder.trainable_variables, *network.head.trainable_variables]
        self.optimizer = keras.optimizers.Adam(1e-3)
        self.optimizer.build(self.trained)
        self.weights = [*network.variables, *([network.embedding.embeddings] if network.embedding.trainable else [])]
        self.state = [*self.weights, *self.optimizer.variables]
        spec = [
            tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None, 2], tf.int32), tf.TensorSpec([None], tf.float32),
        ]  # fmt: skip
        self.train_step = tf.function(self._train_step, input_signature=spec, autograph=False)
        self.loss = tf.function(lambda *batch: self._loss(False, *batch), input_signature=spec, autograph=False)

    def _loss(self, training: bool, ids: Any, rows: Any, better: Any, weights: Any) -> Any:
        logits = self.network.logits(self.network.encoder(ids, training=training), rows, training)
        logits = tf.concat([[0.0], logits], axis=0)  # row 0, see Example
        margins = tf.gather(logits, better[:, 0]) - tf.gather(logits, better[:, 1])
        return tf.reduce_sum(weights * tf.nn.softplus(-margins))

    def _train_step(self, *batch: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = self._loss(True, *batch)
        gradients = [tf.convert_to_tensor(each) for each in tape.gradient(loss, self.trained)]
        gradients, _ = tf.clip_by_global_norm(gradients, loop.MAX_GRADIENT_NORM)
        self.optimizer.apply(gradients, self.trained)
        return loss

    def step(self, number: int, batch: Batch) -> float:
        self.optimizer.learning_rate = self.rate_of(number)
        return float(self.train_step(*batch))

    def validate(self, batches: Batches) -> float:
        """The mean loss of the validation examples."""
        parts = batches.epoch(VALIDATION_BATCH_TOKENS, 0)
        return float(np.average([float(self.loss(*batches[part])) for part in parts], weights=[len(part) for part in parts]))


def fit(
    network: Network, batches: Batches, validation: Batches, options: GloveOptions, checkpoint: Path, settings: dict[str, Any]
) -> loop.Run:
    """Train for at most --epochs, and leave the network with the weights of the best epoch. See loop.fit."""
    epochs = [batches.epoch(options.batch_tokens, options.seed * 1000 + number) for number in range(options.epochs)]
    steps = [part for epoch in epochs for part in epoch]
    trainer = Fit(network, lambda number: loop.learning_rate_at(number, len(steps), options.learning_rate))
    run = loop.Run(checkpoint, loop.settings_key(settings), trainer.state, trainer.weights)

    def one_step(step: int) -> float:
        return trainer.step(step, batches[steps[step]])

    run.fit([*map(len, epochs)], one_step, lambda: trainer.validate(validation), options.patience, "loss {:.4f}".format)
    return run


def train(
    options: GloveOptions,
    kind: Literal["realism", "upvote"],
    examples: dict[str, list[Example]],
    settings: dict[str, Any],
    sources: dict[str, int],
    calibrate: Callable[[GloveBilstm], tuple[float, float]],
) -> None:
    """Train a ranker and write its model folder.

    examples: by split, train and val. settings: for the card. sources: number of rows of each prepared file. calibrate: the scale and
    offset that turn the logits of the ranker into probabilities.

    Raises:
        UserError: see choose_words and loop.Run.
    """
    random.seed(options.seed)
    keras.utils.set_random_seed(options.seed)  # of the initial weights and of dropout
    distinct = dict.fromkeys(text for example in examples["train"] for row in example.rows for text in row)
    tokenized = {text: words_of(text) for text in distinct}
    words = choose_words([*tokenized.values()], options.base, options.vocabulary, options.fine_tune, options.seed)
    sizes: dict[str, Any] = {"width": words.pretrained.width, "units": options.units, "dense": options.dense, "dropout": options.dropout}
    card = cards.ModelCard(
        kind=kind, base=words.pretrained.name, base_sha256=words.pretrained.sha256, format="full", data=data_facts(options.data, sources),
        settings={
            "backend": glove_bilstm.NAME, **settings, **words.facts(), **sizes, "fine_tuned": options.fine_tune,
            "epochs": options.epochs, "patience": options.patience, "batch_tokens": options.batch_tokens,
            "learning_rate": options.learning_rate, "seed": options.seed, "scale": 1.0, "offset": 0.0,
        },
        **card_text(kind),
    )  # fmt: skip
    network = Network(len(words.table), **sizes, train_vectors=options.fine_tune)
    network.embedding.embeddings.assign(words.table)
    ids = words.ids
    parts = {each: Batches(own, lambda row: glove_bilstm.pair_ids(row[0], row[1], ids)) for each, own in examples.items()}
    identity = {**card.settings, "kind": kind, "base": card.base, "base_sha256": card.base_sha256, "data": card.data}
    run = fit(network, parts["train"], parts["val"], options, options.out / CHECKPOINT, identity)
    card.settings["best_epoch"] = run.best_epoch
    card.hours, card.parameters = loop.hours(run.seconds), network.encoder.count_params() + network.head.count_params()
    with files.atomic_folder(options.out) as folder:
        glove_bilstm.save(network, words.words, folder)
        schema.write_rows(folder / "losses.csv", LossRow, run.rows())
        save_plots(words, folder)
        cards.write_card(folder, card)
        card.settings["scale"], card.settings["offset"] = calibrate(glove_bilstm.load(folder))  # the vectors are rounded
        cards.write_card(folder, card)


def save_plots(words: Words, folder: Path) -> None:
    """Write coverage.png."""
    from bot.report import plots

    plots.vocabulary(words.counts, words.known, words.size, words.pretrained.name).savefig(folder / "coverage.png", dpi=100)
