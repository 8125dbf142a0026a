"""Encoder–decoder generators in Keras on TensorFlow: vocabulary, decoding and likelihoods. Shared by the back ends of this family.

Reads a folder written by the family's trainers: tokenizer.json, model.weights.h5 and model.json, whose settings hold the sizes.

The source is the prompt of text.format_prompt, with one id for the separator; the target is the rest of the training text, then the end.
Both come from the same byte-level BPE vocabulary (Sennrich et al. 2016, arXiv:1508.07909), trained on the training rows. A comment longer
than the `max_tokens` of training is truncated, and no reply is longer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from bot import files, metrics, text
from bot.cli import UserError, first_line
from bot.config import GenerateSettings
from bot.generators import stream_seed, truncate
from bot.schema import Candidate, LmRow, sample_rows
from bot.weights import cards, loading

with loading.importing_tensorflow():  # the back ends import keras and tf from here
    import keras as keras
    import tensorflow

tf: Any = tensorflow
PAD, START, SEPARATOR, END = CONTROL = range(4)
CONTROL_TOKENS = ("[PAD]", "<|startoftext|>", text.SEPARATOR, "<|endoftext|>")  # text.escape knows their forms
VOCABULARY_FILE, WEIGHTS_FILE = "tokenizer.json", "model.weights.h5"
SCORING_TOKENS = 4096  # per batch of given replies, including padding
NEVER = -1e9  # logit of ids that are never written, and score of masked positions

Array = np.ndarray[Any, Any]
Drawn = tuple[list[int], float]  # the ids of a reply, with its end unless truncated, and their log-likelihood (sum, nats)
Build = Callable[[Mapping[str, Any]], "Network"]


# --- vocabulary ---------------------------------------------------------------------------------------------------------


class Vocabulary:
    """Ids of comments and replies. Control tokens in a text are encoded as ordinary text."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.tokenizer.encode_special_tokens = True

    @classmethod
    def train(cls, pairs: Iterable[tuple[str, str]], size: int) -> Vocabulary:
        """Learn at most `size` ids, and at least the 256 bytes and the control tokens, from the texts of the pairs."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=2,
            special_tokens=list(CONTROL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator((part for pair in pairs for part in split(*pair)), trainer)
        return cls(tokenizer)

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """Raises UserError if the file is missing, damaged, or of another family."""
        try:
            vocabulary = cls(Tokenizer.from_file(str(path)))
        except Exception as error:  # tokenizers raises plain exceptions
            raise UserError(f"{files.display_path(path)}: not readable ({first_line(error)}); train the model again") from None
        if [vocabulary.tokenizer.id_to_token(number) for number in CONTROL] != list(CONTROL_TOKENS):
            raise UserError(f"{files.display_path(path)}: not the vocabulary of an encoder–decoder; train the model again")
        return vocabulary

    def __len__(self) -> int:
        return int(self.tokenizer.get_vocab_size())

    def sources(self, comments: Sequence[str], max_tokens: int) -> list[list[int]]:
        """The ids of each comment and the separator. A comment is truncated to make both fit into `max_tokens`."""
        encoded = self._encode([split(comment, "")[0] for comment in comments])
        return [truncate([*ids, SEPARATOR], [SEPARATOR], max_tokens) for ids in encoded]

    def targets(self, pairs: Sequence[tuple[str, str]]) -> list[list[int]]:
        """The ids of each reply and the end."""
        return [[*ids, END] for ids in self._encode([split(*pair)[1] for pair in pairs])]

    def decode(self, ids: Sequence[int]) -> str:
        return text.parse_reply(str(self.tokenizer.decode([number for number in ids if number not in CONTROL])))

    def _encode(self, texts: list[str]) -> list[list[int]]:
        return [each.ids for each in self.tokenizer.encode_batch(texts, add_special_tokens=False)]


def split(comment: str, reply: str) -> tuple[str, str]:
    """The two sides of a training text, without the separator between them.

    >>> split("Any good [SEP] books?", "Dune.")
    ('Any good [\\\\SEP] books?', 'Dune.')
    """
    prompt = text.format_prompt(comment)
    return prompt.removesuffix(text.SEPARATOR).strip(), text.format_training_text(comment, reply)[len(prompt) :].strip()


def padded(rows: Sequence[Sequence[int]]) -> Array:
    """(rows, time), filled with PAD on the right. The time is a multiple of 4, because kernels are compiled for each shape.

    >>> padded([[5, 6], [7]]).tolist()
    [[5, 6, 0, 0], [7, 0, 0, 0]]
    """
    width = -max(map(len, rows)) // 4 * -4
    result = np.full((len(rows), width), PAD, np.int32)
    for place, ids in enumerate(rows):
        result[place, : len(ids)] = ids
    return result


# --- networks -----------------------------------------------------------------------------------------------------------


class Network(keras.Model):  # type: ignore[misc]
    """An encoder–decoder whose output layer is the transposed embedding (Press and Wolf 2017, arXiv:1608.05859).

    A subclass has `encode`, `start`, `step` and `call`. `step` for each token in turn gives the features of `call`. Memory and state are
    nested structures of tensors whose first axis is the row, so rows can be selected (`rows_of`).
    """

    def __init__(self, vocabulary: int, width: int):
        super().__init__()
        self.embedding = keras.layers.ReversibleEmbedding(
            vocabulary, width, embeddings_initializer=keras.initializers.RandomNormal(0, width**-0.5)
        )
        self.banned = tf.constant([NEVER * (number in (PAD, START, SEPARATOR)) for number in range(vocabulary)], tf.float32)

    def embed(self, tokens: Any) -> Any:
        """(…) -> (…, width), with a variance of about 1 at first, while the logits are small."""
        embedded = self.embedding(tokens)
        return embedded * float(embedded.shape[-1]) ** 0.5

    def logits(self, features: Any) -> Any:
        """(…, width) -> (…, vocabulary). Control tokens other than the end have no probability."""
        return self.embedding(features, reverse=True) + self.banned

    def encode(self, source: Any, training: bool = False) -> Any:
        """The memory of the sources, (rows, time), padded on the right."""
        raise NotImplementedError

    def start(self, memory: Any) -> Any:
        """The state before the first token."""
        raise NotImplementedError

    def step(self, memory: Any, state: Any, tokens: Any) -> tuple[Any, Any]:
        """The features after one more token of each row, (rows, width), and the new state. tokens: (rows,), at first START."""
        raise NotImplementedError


def rows_of(structure: Any, rows: Any) -> Any:
    """The given rows of each tensor."""
    return tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), structure)


def initialized(network: Network) -> Network:
    """Create the variables."""
    network(tf.ones([1, 4], tf.int32), tf.ones([1, 4], tf.int32))
    return network


def decoder_inputs(targets: Array) -> Array:
    """The ids that the decoder reads to predict the targets: shifted by one, after START."""
    return np.concatenate([np.full_like(targets[:, :1], START), targets[:, :-1]], axis=1)


def nats(network: Network, source: Any, inputs: Any, targets: Any) -> Any:
    """The negative log-likelihood of each row's targets (sum over its tokens), (rows,)."""
    logits = network.logits(network(source, inputs))
    return tf.reduce_sum(
        tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits) * tf.cast(tf.not_equal(targets, PAD), tf.float32), axis=1
    )


# --- decoding -----------------------------------------------------------------------------------------------------------


def adjusted(logits: Array, written: Sequence[Sequence[int]], settings: GenerateSettings) -> Array:
    """The logits with repetition penalty (Keskar et al. 2019, arXiv:1909.05858) and minimum length. written: the ids so far of each row."""
    result = logits.copy()
    if settings.repetition_penalty != 1:
        for row, ids in enumerate(written):
            values = result[row, ids]
            result[row, ids] = np.where(values < 0, values * settings.repetition_penalty, values / settings.repetition_penalty)
    if len(written[0]) < settings.min_new_tokens:
        result[:, END] = NEVER
    return result


def draw(logits: Array, uniform: Array, settings: GenerateSettings) -> Array:
    """Temperature, top-k and nucleus sampling (Holtzman et al. 2020, arXiv:1904.09751); greedy for top_k 1.

    logits: (rows, vocabulary). uniform: random numbers in [0, 1), (rows,). Returns the tokens, (rows,).

    >>> draw(np.log([[0.1, 0.6, 0.3]] * 3), np.array([0.0, 0.6, 0.7]), GenerateSettings(top_k=2, top_p=1, temperature=1)).tolist()
    [1, 1, 2]
    """
    count = min(settings.top_k, logits.shape[1])
    tokens = np.argpartition(-logits, count - 1, axis=1)[:, :count]
    tokens = np.take_along_axis(tokens, np.lexsort((tokens, -np.take_along_axis(logits, tokens, 1)), axis=1), 1)  # by falling logit
    top = np.take_along_axis(logits, tokens, 1).astype(np.float64) / settings.temperature
    probability = np.exp(top - top[:, :1])
    probability /= probability.sum(axis=1, keepdims=True)
    nucleus = np.where(probability.cumsum(axis=1) - probability < settings.top_p, probability, 0.0)
    sums = nucleus.cumsum(axis=1)
    place = (sums <= uniform[:, None] * sums[:, -1:]).sum(axis=1)
    place = np.minimum(place, (nucleus > 0).sum(axis=1) - 1)  # because of rounding, the number may reach the last sum
    return tokens[np.arange(len(tokens)), place]


def log_softmax(logits: Array) -> Array:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


class EncoderDecoder:
    def __init__(self, network: Network, vocabulary: Vocabulary, max_tokens: int, name: str):
        """max_tokens: of a comment with its separator, and of a reply with its end."""
        self.network, self.vocabulary, self.max_tokens, self.name = network, vocabulary, max_tokens, name
        self.encode = tf.function(network.encode, reduce_retracing=True)
        self.step = tf.function(self._step, reduce_retracing=True)
        self.nats = tf.function(lambda *batch: nats(network, *batch), reduce_retracing=True)

    def _step(self, memory: Any, state: Any, tokens: Any) -> tuple[Any, Any]:
        features, state = self.network.step(memory, state, tokens)
        return self.network.logits(features), state

    # --- candidates

    def sample(self, comments: Sequence[tuple[str, str]], settings: GenerateSettings, seed: int) -> Iterator[list[Candidate]]:
        """See generators.Generator. A batch has settings.batch_size candidates, or those of one comment."""
        count, maximum = settings.num_candidates, self.prompt_room(settings)
        batch_comments = 1 if settings.beam_width > 1 else max(1, settings.batch_size // count)
        for first in range(0, len(comments), batch_comments):
            batch = comments[first : first + batch_comments]
            finished: list[list[Candidate]] = [[] for _ in batch]
            for place, candidate in self.batch(batch, settings, seed, maximum):
                finished[place].append(candidate)
            yield from (sorted(each, key=lambda candidate: int(candidate.candidate_id.rpartition("-")[2])) for each in finished)

    def stream(self, comment_id: str, comment: str, settings: GenerateSettings, seed: int) -> Iterator[Candidate]:
        """See generators.Generator. All candidates are drawn together; the short ones are finished first."""
        for _, candidate in self.batch([(comment_id, comment)], settings, seed, self.prompt_room(settings)):
            yield candidate

    def prompt_room(self, settings: GenerateSettings) -> int:
        """The maximum number of tokens of a comment and its separator. Raises UserError for settings that are not supported."""
        if settings.max_new_tokens > self.max_tokens:
            raise UserError(
                f"generate.max_new_tokens {settings.max_new_tokens}: {self.name} was trained on replies of at most {self.max_tokens}"
                " tokens; lower it"
            )
        if 1 < settings.beam_width < settings.num_candidates:
            raise UserError(
                f"generate.num_candidates {settings.num_candidates} is more than beam_width {settings.beam_width}, the number of replies"
                " that beam search finds; change one of them"
            )
        return min(settings.max_prompt_tokens, self.max_tokens)

    def batch(
        self, comments: Sequence[tuple[str, str]], settings: GenerateSettings, seed: int, maximum: int
    ) -> Iterator[tuple[int, Candidate]]:
        """The place in `comments` and the candidate, as each candidate is finished."""
        count = settings.num_candidates
        sources = self.vocabulary.sources([comment for _, comment in comments], maximum)
        seeds = [stream_seed(seed, index, comment) for _, comment in comments for index in range(count)]
        try:
            for row, (ids, total) in self.beams(sources, settings) if settings.beam_width > 1 else self.draws(sources, seeds, settings):
                comment_id, comment = comments[row // count]
                reply, mean = self.vocabulary.decode(ids), total / len(ids)
                yield row // count, Candidate(comment_id, f"{comment_id}-{row % count}", seeds[row], comment, reply, self.name, mean)
        except tf.errors.ResourceExhaustedError:
            raise UserError(f"{self.name}: out of memory; set generate.batch_size lower than {settings.batch_size}") from None

    def draws(self, sources: Sequence[Sequence[int]], seeds: Sequence[int], settings: GenerateSettings) -> Iterator[tuple[int, Drawn]]:
        """Sample len(seeds) / len(sources) replies to each source; yields each one's row when it is finished.

        Each row has its own random stream, so that it does not depend on the rest of the batch, except for rounding.
        """
        rows = np.arange(len(seeds))  # those that are not finished
        uniform = np.stack([np.random.default_rng(each).random(settings.max_new_tokens) for each in seeds])
        memory = rows_of(self.encode(padded(sources)), rows * len(sources) // len(seeds))
        state = self.network.start(memory)
        tokens, written, totals = np.full(len(seeds), START), [list[int]() for _ in seeds], np.zeros(len(seeds))
        for number in range(settings.max_new_tokens):
            tensor, state = self.step(memory, state, tf.constant(tokens, tf.int32))
            logits = tensor.numpy()
            tokens = draw(adjusted(logits, [written[row] for row in rows], settings), uniform[rows, number], settings)
            totals[rows] += log_softmax(logits)[np.arange(len(rows)), tokens]
            for row, token in zip(rows, tokens, strict=True):
                written[row].append(int(token))
            ended = tokens == END
            yield from ((int(row), (written[row], float(totals[row]))) for row in rows[ended])
            if ended.all():
                return
            if ended.any():
                rows, tokens = rows[~ended], tokens[~ended]
                memory, state = rows_of((memory, state), np.flatnonzero(~ended))
        yield from ((int(row), (written[row], float(totals[row]))) for row in rows)

    def beams(self, sources: Sequence[Sequence[int]], settings: GenerateSettings) -> Iterator[tuple[int, Drawn]]:
        """The num_candidates best replies to each source by beam search, the best first, by the mean log-likelihood of their tokens.

        The search ends when beam_width replies are finished. temperature, top_k and top_p have no effect.
        """
        for place, source in enumerate(sources):
            ranked = sorted(self.beam(source, settings), key=lambda each: -each[1] / len(each[0]))
            yield from ((place * settings.num_candidates + index, each) for index, each in enumerate(ranked[: settings.num_candidates]))

    def beam(self, source: Sequence[int], settings: GenerateSettings) -> list[Drawn]:
        """At least beam_width replies."""
        width = settings.beam_width
        memory = rows_of(self.encode(padded([source])), np.zeros(width, int))
        state, tokens = self.network.start(memory), np.full(width, START)
        written: list[list[int]] = [[] for _ in range(width)]
        scores = np.array([0.0] + [-np.inf] * (width - 1))  # all rows are equal at first; of the adjusted model
        totals = np.zeros(width)
        finished: list[Drawn] = []
        for _ in range(settings.max_new_tokens):
            tensor, state = self.step(memory, state, tf.constant(tokens, tf.int32))
            logits = tensor.numpy()
            likelihood = log_softmax(logits)
            together = scores[:, None] + log_softmax(adjusted(logits, written, settings))
            best = np.argsort(-together, axis=None, kind="stable")[: 2 * width]  # at most `width` of these are ends
            rows, tokens = np.unravel_index(best, together.shape)
            ended = tokens == END
            finished += [([*written[row], END], float(totals[row] + likelihood[row, END])) for row in rows[:width][ended[:width]]]
            if len(finished) >= width:
                return finished
            rows, tokens = rows[~ended][:width], tokens[~ended][:width]
            scores, totals = together[rows, tokens], totals[rows] + likelihood[rows, tokens]
            written = [[*written[row], int(token)] for row, token in zip(rows, tokens, strict=True)]
            state = rows_of(state, rows)
        return finished + [(ids, float(total)) for ids, total in zip(written, totals, strict=True)]

    # --- likelihood of given replies

    def token_counts(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """The number of tokens of each reply and its end, not truncated."""
        return [len(ids) for ids in self.vocabulary.targets(pairs)]

    def log_likelihoods(self, pairs: Sequence[tuple[str, str]], settings: GenerateSettings) -> list[float]:
        """The mean log-likelihood per token (nats) of each reply and its end, given the comment.

        The same value as in `sample` for the same tokens. Replies are truncated at max_tokens of the training.
        """
        sources = self.vocabulary.sources([comment for comment, _ in pairs], min(settings.max_prompt_tokens, self.max_tokens))
        targets = [ids[: self.max_tokens] for ids in self.vocabulary.targets(pairs)]
        order = sorted(range(len(pairs)), key=lambda row: (len(targets[row]), len(sources[row])))
        size = max(1, SCORING_TOKENS // self.max_tokens)
        result = np.zeros(len(pairs))
        for first in range(0, len(order), size):
            rows = order[first : first + size]
            batch = padded([targets[row] for row in rows])
            total = self.nats(padded([sources[row] for row in rows]), decoder_inputs(batch), batch).numpy()
            result[rows] = -total / [len(targets[row]) for row in rows]
        return [float(value) for value in result]


def reply_perplexity(
    load: Callable[[Path], EncoderDecoder], path: Path, rows: Sequence[LmRow], max_rows: int, settings: Mapping[str, Any]
) -> dict[str, float]:
    """The number of rows, the perplexity over the tokens of the reply and its end, and the bits per character of the reply, for at most
    max_rows random rows.

    load: of the back end. settings: those in the card. Rows with a reply longer than its max_tokens are skipped. Raises UserError if no row
    is left.
    """
    generator = load(path)
    drawn = sample_rows(list(rows), 3 * max_rows, settings.get("seed", 0))
    counts = generator.token_counts([(row.comment, row.reply) for row in drawn])
    short = [(row, count) for row, count in zip(drawn, counts, strict=True) if count <= generator.max_tokens]
    kept = sample_rows(short, max_rows, settings.get("seed", 0))
    if not kept:
        raise UserError(f"no reply has at most {generator.max_tokens} tokens, so there is nothing to measure; prepare more data")
    means = generator.log_likelihoods([(row.comment, row.reply) for row, _ in kept], GenerateSettings())
    total = -sum(mean * count for mean, (_, count) in zip(means, kept, strict=True))
    characters = sum(len(row.reply) for row, _ in kept)
    tokens = sum(count for _, count in kept)
    return {"rows": len(kept), "perplexity": metrics.perplexity(total / tokens), "bits_per_character": total / math.log(2) / characters}


def load(path: Path, back_end: str, build: Build) -> EncoderDecoder:
    """Raises UserError if the folder has no model of this back end, or it is damaged. build: see back ends."""
    card = cards.read_card(path)
    if card.kind != "lm" or card.settings.get("backend") != back_end:
        raise UserError(
            f"{files.display_path(path)}: not a model of back end {back_end}; set generate.backend to that of the model, or another"
            " generate.model"
        )
    vocabulary = Vocabulary.read(path / VOCABULARY_FILE)
    try:
        network = initialized(build(card.settings | {"vocabulary": len(vocabulary)}))
        network.load_weights(path / WEIGHTS_FILE)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{files.display_path(path)}: {WEIGHTS_FILE} does not fit or is damaged ({first_line(error)}); train it again"
        ) from None
    return EncoderDecoder(network, vocabulary, int(card.settings["max_tokens"]), f"{back_end}:{path.name}")
