"""Ranker back end `glove-bilstm`: GloVe word vectors, two stacked bidirectional LSTMs and a dense layer (Keras 3 on TensorFlow).

Reads a folder written by `train realism|upvote --backend glove-bilstm`: words.txt, the vocabulary, one word a line; weights.npz, its
vectors (float16) and the weights of the network; model.json. The base of the vectors is not needed.

    BOT_RANK__BACKEND=glove-bilstm BOT_RANK__REALISM=models/realism-glove python run_bot.py score --in pairs.csv --out scored.csv

Comment and reply are two inputs of one encoder, so that a word means the same in both, each text is encoded once (a comment for all its
candidates), and half of the weights suffice. The dense layer sees both vectors, their difference and their product (Conneau et al. 2017,
arXiv:1705.02364). Training uses the same `words_of`, `ids_of` and `Network`. This module does not import PyTorch and transformers.
"""

from __future__ import annotations

import re
import unicodedata
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bot.cli import UserError, first_line
from bot.config import Precision
from bot.rankers import MAX_COMMENT_TOKENS, MAX_REPLY_TOKENS, batches_of_like_length
from bot.weights import cards, loading

with loading.importing_tensorflow():
    import keras
    import tensorflow as tf

NAME = "glove-bilstm"  # in the cards of its models
WORDS_FILE, WEIGHTS_FILE = "words.txt", "weights.npz"
PADDING, UNKNOWN = 0, 1  # ids; the words of the vocabulary follow
SIZES = ("width", "units", "dense", "dropout")  # settings of `Network` in the card
REMEDY = "train it again (`python run_bot.py train --help`), or set another folder in the config"

Array = np.ndarray[Any, Any]

# The tokens of GloVe's training text (Stanford's tokenizer): "don't" is "do n't", "it's" is "it 's", and hyphens are tokens.
_END = r"(?![^\W_])"
_TOKEN = re.compile(
    rf"\d+(?:[.,:]\d+){{0,9}}{_END}|(?:[^\W\d_]\.){{2,}}|[^\W_]+?(?=n't{_END})|n't{_END}|'(?:s|m|re|ve|ll|d){_END}|[^\W_]+|\.{{2,}}|-{{2,}}|\S"
)
_INVISIBLE = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")
_SAME = {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "``": '"', "''": '"'}


# --- text ---------------------------------------------------------------------------------------------------------------


def words_of(body: str) -> list[str]:
    """The words and punctuation marks of a text, as in GloVe's vocabulary: lower case, contractions split.

    >>> words_of("Don't panic -- it's 10,000\N{RIGHT SINGLE QUOTATION MARK}s well-known U.S. e-mail...")
    ['do', "n't", 'panic', '--', 'it', "'s", '10,000', "'s", 'well', '-', 'known', 'u.s.', 'e', '-', 'mail', '...']
    """
    plain = _INVISIBLE.sub("", unicodedata.normalize("NFKC", body)).lower()
    for written, usual in _SAME.items():
        plain = plain.replace(written, usual)
    tokens = _TOKEN.findall(plain)
    return ["..." if word.startswith("..") else "--" if word.startswith("--") else word for word in tokens]


def ids_of(words: Sequence[str], ids: Mapping[str, int], limit: int) -> list[int]:
    """The ids of the first `limit` words. A text without words is one unknown word.

    >>> ids_of(["a", "b", "c"], {"a": 2}, limit=2), ids_of([], {}, limit=2)
    ([2, 1], [1])
    """
    return [ids.get(word, UNKNOWN) for word in words[:limit]] or [UNKNOWN]


def pair_ids(comment: str, reply: str, ids: Mapping[str, int]) -> tuple[list[int], list[int]]:
    """The ids of the first 64 words of the comment and the first 80 of the reply."""
    return ids_of(words_of(comment), ids, MAX_COMMENT_TOKENS), ids_of(words_of(reply), ids, MAX_REPLY_TOKENS)


def padded(texts: Sequence[Sequence[int]]) -> Array:
    """The ids of texts as an array, int32 (texts, time), padded at the end."""
    result = np.full((len(texts), max(map(len, texts))), PADDING, np.int32)
    for row, ids in enumerate(texts):
        result[row, : len(ids)] = ids
    return result


# --- the network --------------------------------------------------------------------------------------------------------


class Network:
    """encoder: ids (texts, time) -> vectors (texts, 2 * units). head: features of a row's texts -> logit (rows, 1).

    width: of the word vectors. units: of an LSTM in one direction. dense: units of the dense layer. sides: texts of a row, 2 (comment and
    reply) or 1. Padding is masked, so that it has no effect.
    """

    def __init__(self, words: int, width: int, units: int, dense: int, dropout: float, sides: int = 2, train_vectors: bool = False):
        self.sides = sides
        self.embedding = keras.layers.Embedding(words, width, mask_zero=True, trainable=train_vectors)
        ids = keras.Input((None,), dtype="int32")
        hidden = keras.layers.Dropout(dropout)(self.embedding(ids))
        for last in (False, True):
            # cuDNN's kernel needs other masks; this one is the same on every device
            lstm = keras.layers.LSTM(units, return_sequences=not last, use_cudnn=False)
            hidden = keras.layers.Bidirectional(lstm)(hidden)
        self.encoder = keras.Model(ids, hidden)
        features = keras.Input((2 * units * (4 if sides == 2 else 1),))
        hidden = keras.layers.Dense(dense, activation="relu")(keras.layers.Dropout(dropout)(features))
        self.head = keras.Model(features, keras.layers.Dense(1)(keras.layers.Dropout(dropout)(hidden)))

    @property
    def variables(self) -> list[Any]:
        """All variables but the word vectors, in a fixed order, including the states of dropout's random generators."""
        return [each for model in (self.encoder, self.head) for each in model.variables if each is not self.embedding.embeddings]

    def logits(self, vectors: Any, rows: Any, training: bool = False) -> Any:
        """The logits, (rows,). vectors: of all texts, (texts, 2 * units). rows: the texts of each row, (rows, sides)."""
        texts = [tf.gather(vectors, rows[:, side]) for side in range(self.sides)]
        if self.sides == 2:
            texts += [tf.abs(texts[0] - texts[1]), texts[0] * texts[1]]
        return self.head(tf.concat(texts, axis=1), training=training)[:, 0]


class GloveBilstm:
    """sigmoid(scale * logit + offset). scale and offset are fitted on validation rows."""

    def __init__(self, network: Network, ids: Mapping[str, int], scale: float = 1.0, offset: float = 0.0):
        self.network, self.ids, self.scale, self.offset = network, ids, scale, offset
        signature = [tf.TensorSpec([None, None], tf.int32)]
        self.encode = tf.function(lambda batch: network.encoder(batch, training=False), input_signature=signature, autograph=False)

    def logits(self, pairs: Sequence[tuple[str, str]], batch_size: int = 32) -> list[float]:
        """The logit of each (comment, reply), in the same order. A text that occurs more than once is encoded only once."""
        return self.logits_of_ids([pair_ids(*pair, self.ids) for pair in pairs], batch_size)

    def logits_of_ids(self, rows: Sequence[Sequence[Sequence[int]]], batch_size: int = 32) -> list[float]:
        """The logit of each row, given the ids of its texts."""
        if not rows:
            return []
        places: dict[tuple[int, ...], int] = {}
        index = [[places.setdefault(tuple(ids), len(places)) for ids in row] for row in rows]
        texts = [*places]
        vectors = np.zeros((len(texts), self.network.encoder.output_shape[-1]), np.float32)
        for batch in batches_of_like_length([([*ids], []) for ids in texts], batch_size):
            vectors[batch] = self.encode(padded([texts[place] for place in batch])).numpy()
        parts = np.array_split(np.array(index, np.int32), -(-len(rows) // 1024))
        return np.concatenate([self.network.logits(tf.constant(vectors), part).numpy() for part in parts]).tolist()

    def score(self, pairs: Sequence[tuple[str, str]], batch_size: int = 32) -> list[float]:
        """See rankers.Ranker."""
        values = np.array(self.logits(pairs, batch_size), np.float64)
        return ((1 + np.tanh((self.scale * values + self.offset) / 2)) / 2).tolist()  # the sigmoid, without overflow


# --- folders ------------------------------------------------------------------------------------------------------------


def save(network: Network, words: Sequence[str], folder: Path) -> None:
    """Write the vocabulary and the weights. words: those with the ids from 2 on."""
    (folder / WORDS_FILE).write_text("".join(f"{word}\n" for word in words), encoding="utf-8", newline="\n")
    weights = {f"weight{index}": variable.numpy() for index, variable in enumerate(stored(network))}
    np.savez_compressed(folder / WEIGHTS_FILE, vectors=network.embedding.embeddings.numpy().astype(np.float16), **weights)


def stored(network: Network) -> list[Any]:
    """The variables that a model folder holds, apart from the vectors: not the states of random generators."""
    return [variable for variable in network.variables if variable.dtype == "float32"]


def load(path: Path, _: Precision = "int8") -> GloveBilstm:
    """Load a ranker. Raises UserError if the folder does not contain a complete model of this back end."""
    card = cards.read_card(path)
    if card.settings.get("backend") != NAME:
        raise UserError(f"{path}: not a model of back end {NAME}; set rank.backend, or {REMEDY}")
    try:
        words = (path / WORDS_FILE).read_text(encoding="utf-8").split("\n")[:-1]
        network = Network(len(words) + 2, **{name: card.settings[name] for name in SIZES})
        variables = [network.embedding.embeddings, *stored(network)]
        with np.load(path / WEIGHTS_FILE) as weights:
            for variable, name in zip(variables, weights.files, strict=True):
                variable.assign(weights[name].astype(np.float32))
        scale, offset = float(card.settings["scale"]), float(card.settings["offset"])
    except (OSError, ValueError, TypeError, LookupError, EOFError, zipfile.BadZipFile, zlib.error) as error:  # for damaged files
        raise UserError(f"{path}: the model cannot be loaded ({first_line(error)}); {REMEDY}") from None
    return GloveBilstm(network, {word: number for number, word in enumerate(words, start=2)}, scale, offset)
