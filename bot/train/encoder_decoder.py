"""Training of encoder–decoder generators in Keras. Shared by the trainers of this family (lm_keras_*.py).

Reads  DATA/lm_{train,val,test}.csv.
Writes OUT: tokenizer.json, model.weights.h5 of the best epoch, model.json, losses.csv and replies.npy (see corpus.copies); during training,
       OUT/checkpoint.npz.

After each epoch the perplexity on validation rows is measured. The weights of the best epoch are kept, and training stops when
`--patience` epochs in a row are no better. A checkpoint has the weights, the optimizer's moments and the state of the dropout, so a
resumed run has the same losses as an uninterrupted one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import typer

from bot import files, metrics, schema
from bot.cli import UserError, first_line
from bot.corpus import copies
from bot.schema import LmRow, LossRow
from bot.train import loop
from bot.train.card_text import card_text, data_facts
from bot.train.options import Epochs, Out, TrainOptions
from bot.weights import cards

if TYPE_CHECKING:
    from bot.generators.encoder_decoder import Build, Network

VALIDATION_ROWS = 2000
POOL = 8192  # rows that are sorted by length together
CHECKPOINT = "checkpoint.npz"
LIMITS = (
    "A small model trained from random weights on these pairs only: it prefers short, general replies, is often wrong, and reproduces the"
    " prejudices of its training data. Perplexity covers the tokens of replies within max_tokens and is only comparable between models with"
    " the same vocabulary; bits per character are comparable between all."
)

Pair = tuple[list[int], list[int]]  # the ids of source and target
Dropout = Annotated[float, typer.Option(min=0, max=0.9, help="dropout")]
Layers = Annotated[int, typer.Option(min=1, max=24, help="layers of the encoder, and of the decoder")]
Width = Annotated[int, typer.Option(min=8, help="size of the embeddings")]


@dataclass(frozen=True, kw_only=True)
class EncoderDecoderOptions(TrainOptions):
    out: Out = Path("models/lm")
    pairs: Annotated[int, typer.Option(min=1, help="pairs to train on, drawn at random")] = 100_000
    epochs: Epochs = 4
    patience: Annotated[int, typer.Option(min=1, help="stop after so many epochs in a row without a better validation perplexity")] = 1
    max_tokens: Annotated[int, typer.Option(min=8, help="truncate longer comments and skip rows with longer replies")] = 60
    batch_tokens: Annotated[int, typer.Option(min=16, help="tokens per step, including padding")] = 4096
    vocabulary: Annotated[int, typer.Option(min=260, help="number of subwords, learnt from the training rows")] = 8000
    clip_norm: Annotated[float, typer.Option(min=0.01, help="maximum norm of a step's gradient")] = 1.0

    def settings(self) -> dict[str, Any]:
        """For the card and the network: all but the folders."""
        return {name: value for name, value in asdict(self).items() if name not in ("data", "out")}


class Recipe(NamedTuple):
    """What differs between the families."""

    back_end: str
    build: Build
    optimizer: Callable[[], Any]  # a new Keras optimizer
    rate: Callable[[int, int, int, float], float]  # step, epoch (both from 0), number of steps, peak -> learning rate
    groups: Callable[[Any], list[tuple[list[Any], float]]]  # network -> trainable variables and their peak learning rate
    smoothing: float = 0.0  # of labels
    forcing: Callable[[int, int], float] | None = None  # step and number of steps -> share of true tokens that the decoder reads


def train(options: EncoderDecoderOptions, recipe_of: Callable[[], Recipe]) -> None:
    """recipe_of imports TensorFlow, so it is called when the files have been read.

    Raises UserError if a file is missing, no row is short enough, the loss diverges, or memory runs out.
    """
    rows = {each: schema.read_rows(options.data / f"lm_{each}.csv", LmRow) for each in ("train", "val", "test")}
    recipe = recipe_of()

    import keras
    import tensorflow as tf

    facts = data_facts(options.data, {f"lm_{each}.csv": len(part) for each, part in rows.items()})
    vocabulary, pairs, replies, validation = encode(rows, options)
    keras.utils.set_random_seed(options.seed)
    network = initialized(recipe, options, len(vocabulary))
    settings = {"backend": recipe.back_end, **options.settings(), "pairs": len(pairs), "vocabulary": len(vocabulary)}
    try:
        run = Trainer(options, recipe, network, pairs, validation).fit(
            loop.settings_key({**settings, "data": facts, "tokens": vocabulary.tokenizer.to_str()})
        )
    except tf.errors.ResourceExhaustedError as error:
        remedy = f"a --batch-tokens below {options.batch_tokens}"
        raise UserError(f"out of memory ({first_line(error)}); use {remedy}, and another --out") from None
    measured = {
        "train_loss_last_50_steps": loop.mean_of_last(run.losses), "best_epoch": run.best_epoch,
        "epochs": len(run.val_losses),
    }  # fmt: skip
    card = cards.ModelCard(
        kind="lm", base="", base_sha256="", format="full", data=facts, settings=settings, metrics=measured, hours=loop.hours(run.seconds),
        parameters=sum(int(np.prod(value.shape)) for value in run.best), **card_text("lm", LIMITS),
    )  # fmt: skip
    with files.atomic_folder(options.out) as new:
        save(network, vocabulary, new)
        copies.write(new, replies)
        schema.write_rows(new / "losses.csv", LossRow, run.rows())
        cards.write_card(new, card)
    best = metrics.perplexity(min(run.val_losses.values()))
    epochs = f"epoch {run.best_epoch} of {len(run.val_losses)}"
    print(f"{options.out}: trained on {len(pairs):,} pairs, validation perplexity {best:.1f} after {epochs}")


def encode(rows: dict[str, list[LmRow]], options: EncoderDecoderOptions) -> tuple[Any, list[Pair], list[str], list[Pair]]:
    """The vocabulary, the training pairs and their replies, and the validation pairs. Raises UserError if no reply is short enough."""
    from bot.generators.encoder_decoder import Vocabulary

    drawn = schema.sample_rows(rows["train"], options.pairs, options.seed)
    vocabulary = Vocabulary.train([(row.comment, row.reply) for row in drawn], options.vocabulary)
    result = []
    for name, part in (("train", drawn), ("val", schema.sample_rows(rows["val"], VALIDATION_ROWS, options.seed))):
        sources = vocabulary.sources([row.comment for row in part], options.max_tokens)
        targets = vocabulary.targets([(row.comment, row.reply) for row in part])
        short = [place for place, ids in enumerate(targets) if len(ids) <= options.max_tokens]
        if not short:
            raise UserError(
                f"{options.data}/lm_{name}.csv: no reply of at most {options.max_tokens} tokens; raise --max-tokens or prepare more data"
            )
        result.append([(sources[place], targets[place], part[place].reply) for place in short])
    pairs, validation = ([(source, target) for source, target, _ in part] for part in result)
    return vocabulary, pairs, [reply for _, _, reply in result[0]], validation


def initialized(recipe: Recipe, options: EncoderDecoderOptions, vocabulary: int) -> Network:
    from bot.generators.encoder_decoder import initialized

    return initialized(recipe.build({**options.settings(), "vocabulary": vocabulary}))


def save(network: Network, vocabulary: Any, folder: Path) -> None:
    from bot.generators.encoder_decoder import VOCABULARY_FILE, WEIGHTS_FILE

    vocabulary.tokenizer.save(str(folder / VOCABULARY_FILE))
    network.save_weights(folder / WEIGHTS_FILE)


def batches(pairs: Sequence[Pair], max_tokens: int, seed: int, epoch: int) -> list[list[Pair]]:
    """One epoch of shuffled batches of pairs with similar lengths.

    A batch has at most `max_tokens`: number of pairs times the sum of its longest source and target; a longer pair is a batch of its own.

    >>> sorted(map(len, batches([([1] * 4, [1] * 4)] * 3 + [([1] * 9, [1] * 9)], 18, 0, 0)))
    [1, 1, 2]
    """
    rng = random.Random(f"{seed} {epoch}")
    order = list(pairs)
    rng.shuffle(order)
    result: list[list[Pair]] = []
    for start in range(0, len(order), POOL):
        batch: list[Pair] = []
        widths = 0, 0
        for pair in sorted(order[start : start + POOL], key=lambda pair: (len(pair[1]) // 4, len(pair[0]))):
            widest = max(widths[0], len(pair[0])), max(widths[1], len(pair[1]))
            if batch and sum(widest) * (len(batch) + 1) > max_tokens:
                result.append(batch)
                batch, widest = [], (len(pair[0]), len(pair[1]))
            batch.append(pair)
            widths = widest
        result.append(batch)
    rng.shuffle(result)
    return result


@dataclass
class Trainer:
    """The steps of a run, and the variables that they change."""

    options: EncoderDecoderOptions
    recipe: Recipe
    network: Network
    pairs: Sequence[Pair]
    validation: Sequence[Pair]

    def __post_init__(self) -> None:
        options = self.options
        epochs = [batches(self.pairs, options.batch_tokens, options.seed, epoch) for epoch in range(options.epochs)]
        self.epochs = [*map(len, epochs)]  # number of steps in each
        self.steps = [(epoch, batch) for epoch, part in enumerate(epochs) for batch in part]
        self.groups = [(variables, peak, self.recipe.optimizer()) for variables, peak in self.recipe.groups(self.network)]
        for variables, _, optimizer in self.groups:
            optimizer.build(variables)
        self.state = [*self.network.variables, *(each for _, _, optimizer in self.groups for each in optimizer.variables)]

    def fit(self, key: str) -> loop.Run:
        """The run, whose losses are nats per target token. key: identifies it, see loop.settings_key."""
        run = loop.Run(self.options.out / CHECKPOINT, key, self.state, self.network.trainable_variables)
        run.fit(
            self.epochs, self.one_step(), self.validate(), self.options.patience, lambda loss: f"perplexity {metrics.perplexity(loss):.2f}"
        )
        return run

    def one_step(self) -> Callable[[int], float]:
        """A compiled function that runs a step and returns its loss."""
        import tensorflow as tf

        from bot.generators.encoder_decoder import decoder_inputs, padded

        spec = [tf.TensorSpec([None, None], tf.int32)] * 3
        last, forcing = len(self.steps), self.recipe.forcing
        samples = forcing is not None and forcing(last, last) < 1  # the decoder reads its own tokens too
        compiled = tf.function(
            self.gradient_step, input_signature=[*spec, tf.TensorSpec([None, None], tf.bool)] if samples else spec, autograph=False
        )

        def run(step: int) -> float:
            epoch, batch = self.steps[step]
            for _, peak, optimizer in self.groups:
                optimizer.learning_rate = self.recipe.rate(step, epoch, len(self.steps), peak)
            targets = padded([target for _, target in batch])
            tensors: list[Any] = [padded([source for source, _ in batch]), decoder_inputs(targets), targets]
            if samples and forcing:
                tensors.append(np.random.default_rng([self.options.seed, step]).random(targets.shape) < forcing(step, last))
            return float(compiled(*tensors))

        return run

    def gradient_step(self, source: Any, inputs: Any, targets: Any, *true: Any) -> Any:
        """Update the variables. Returns the loss without label smoothing. Tensors: (rows, time); true: see the network's `call`."""
        import tensorflow as tf

        from bot.generators.encoder_decoder import END, PAD

        smoothing = self.recipe.smoothing
        with tf.GradientTape() as tape:
            features = self.network(source, inputs, *true, training=True)
            written = tf.not_equal(targets, PAD)
            logits = self.network.logits(tf.boolean_mask(features, written))  # (tokens, vocabulary)
            nats = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(tf.boolean_mask(targets, written), logits))
            loss = nats
            if smoothing:  # Szegedy et al. 2016, arXiv:1512.00567; over the ids that can be written
                uniform = tf.reduce_mean(tf.reduce_logsumexp(logits, axis=1) - tf.reduce_mean(logits[:, END:], axis=1))
                loss = (1 - smoothing) * nats + smoothing * uniform
        every = [variable.value for variables, _, _ in self.groups for variable in variables]
        # dense, because the norm of the embedding's sparse gradient is wrong: it has several parts for one row
        gradients = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, every)]
        clipped, _ = tf.clip_by_global_norm(gradients, self.options.clip_norm)
        for variables, _, optimizer in self.groups:
            optimizer.apply(clipped[: len(variables)], variables)
            clipped = clipped[len(variables) :]
        return nats

    def validate(self) -> Callable[[], float]:
        """A compiled function that returns the nats per token of the replies of the validation pairs."""
        import tensorflow as tf

        from bot.generators.encoder_decoder import decoder_inputs, nats, padded

        spec = [tf.TensorSpec([None, None], tf.int32)] * 3
        measure = tf.function(lambda *batch: tf.reduce_sum(nats(self.network, *batch)), input_signature=spec, autograph=False)

        def run() -> float:
            total = 0.0
            for batch in batches(self.validation, self.options.batch_tokens, self.options.seed, 0):
                targets = padded([target for _, target in batch])
                total += float(measure(padded([source for source, _ in batch]), decoder_inputs(targets), targets))
            return total / sum(len(target) for _, target in self.validation)

        return run
