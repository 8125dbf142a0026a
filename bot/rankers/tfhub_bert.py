"""Ranker back end `tfhub-bert`: a fine-tuned BERT from TensorFlow Hub with a classifier.

Reads a folder written by `train realism|upvote --backend tfhub-bert`: a SavedModel that maps input_word_ids, input_mask and
input_type_ids, int32 (batch, time), to the probability of each class, (batch, classes); its vocabulary; model.json.

    BOT_RANK__BACKEND=tfhub-bert BOT_RANK__REALISM=models/realism-tfhub python run_bot.py score --in pairs.csv --out scored.csv

Training uses the same `Wordpieces` and `inputs_of`. This module does not import PyTorch and transformers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordPiece

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # TensorFlow Hub needs Keras 2; read when tensorflow is imported

from bot import text
from bot.cli import UserError, first_line
from bot.config import Precision
from bot.rankers import Encoded, batches_of_like_length, join_pair
from bot.weights import cards, loading

with loading.importing_tensorflow():
    import tensorflow as tf

INPUTS = ("input_word_ids", "input_mask", "input_type_ids")
WIDTH_STEP = 8  # widths are multiples of it, because oneDNN compiles kernels for each shape
REMEDY = "train it again (`python run_bot.py train --help`), or set another folder in the config"

Array = np.ndarray[Any, Any]


class Wordpieces:
    """BERT's tokenizer, identical to that of transformers, with the vocabulary of a SavedModel."""

    def __init__(self, saved: Any, where: str):
        """saved: the result of tf.saved_model.load. Raises UserError if it has no vocabulary."""
        if not hasattr(saved, "vocab_file") or not hasattr(saved, "do_lower_case"):
            raise UserError(f"{where}: no vocabulary (vocab_file and do_lower_case), unlike BERTs of TensorFlow Hub; use another model")
        path = Path(tf.compat.as_str(saved.vocab_file.asset_path.numpy()))
        lower = bool(saved.do_lower_case.numpy())
        try:
            tokens = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{where}: the vocabulary is not readable ({error}); download or train the model again") from None
        self.ids = {token: number for number, token in enumerate(tokens)}
        missing = [token for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]") if token not in self.ids]
        if missing:
            raise UserError(
                f"{where}: the vocabulary of {len(tokens)} tokens lacks {', '.join(missing)}; download or train the model again"
            )
        self.tokenizer = Tokenizer(WordPiece(self.ids, unk_token="[UNK]"))
        self.tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
        self.tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()

    def encode(self, pairs: Sequence[tuple[str, str]]) -> list[Encoded]:
        """Encode each (comment, reply), see rankers.join_pair."""
        comments, replies = (self.tokenizer.encode_batch([text.escape(pair[side]) for pair in pairs]) for side in (0, 1))
        start, separator = self.ids["[CLS]"], self.ids["[SEP]"]
        return [join_pair(comment.ids, reply.ids, start, separator) for comment, reply in zip(comments, replies, strict=True)]


def padded(length: int) -> int:
    """The next multiple of WIDTH_STEP.

    >>> padded(8), padded(9)
    (8, 16)
    """
    return -(-length // WIDTH_STEP) * WIDTH_STEP


def inputs_of(batch: Sequence[Encoded], padding: int) -> dict[str, Array]:
    """The inputs of the encoder, each int32 (batch, time)."""
    width = padded(max(len(ids) for ids, _ in batch))
    ids, mask, segments = np.full((len(batch), width), padding, np.int32), *np.zeros((2, len(batch), width), np.int32)
    for row, (tokens, kinds) in enumerate(batch):
        ids[row, : len(tokens)], mask[row, : len(tokens)], segments[row, : len(tokens)] = tokens, 1, kinds
    return dict(zip(INPUTS, (ids, mask, segments), strict=True))


@contextmanager
def enough_memory(option: str) -> Iterator[None]:
    """Convert TensorFlow's out-of-memory error to a UserError that tells which option to lower."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise UserError(f"out of memory ({first_line(error)}); lower {option}") from None


class TFHubBert:
    def __init__(self, saved: Any, where: str):
        self.saved, self.wordpieces = saved, Wordpieces(saved, where)

    def probabilities(self, pairs: Sequence[tuple[str, str]], batch_size: int = 32) -> Array:
        """The probability of each class, (pairs, classes)."""
        encoded = self.wordpieces.encode(pairs)
        result: Array = np.zeros((len(encoded), int(self.saved.classes.numpy())))
        with enough_memory(f"rank.batch_size ({batch_size} now)"):
            for rows in batches_of_like_length(encoded, batch_size):
                inputs = inputs_of([encoded[row] for row in rows], self.wordpieces.ids["[PAD]"])
                result[rows] = self.saved({name: tf.constant(value) for name, value in inputs.items()}).numpy()
        return result

    def score(self, pairs: Sequence[tuple[str, str]], batch_size: int = 32) -> list[float]:
        """See rankers.Ranker and rankers.expected_class."""
        return expected_class(self.probabilities(pairs, batch_size)).tolist()


def expected_class(probabilities: Array) -> Array:
    """The expected class divided by the highest class: p1 for two classes, (p1 + 2 p2 + 3 p3) / 3 for four.

    >>> expected_class(np.array([[0.25, 0.75]])), expected_class(np.array([[0.0, 0.5, 0.5, 0.0]]))
    (array([0.75]), array([0.5]))
    """
    highest = probabilities.shape[1] - 1
    result: Array = np.clip(probabilities @ np.arange(highest + 1) / highest, 0.0, 1.0)
    return result


def load(path: Path, _: Precision = "int8") -> TFHubBert:
    """Load a ranker. Raises UserError if the folder does not contain a complete model of this back end."""
    if not (path / "saved_model.pb").exists() and ((path / "adapter_config.json").exists() or (path / "config.json").exists()):
        raise UserError(f'{path}: a model of back end transformers; set rank.backend = "transformers", or train one for tfhub-bert')
    card = cards.read_card(path)
    try:
        saved = tf.saved_model.load(str(path))
        ranker = TFHubBert(saved, str(path))
        matches = len(ranker.wordpieces.ids) == card.settings["vocabulary"] and int(saved.classes.numpy()) == card.settings["classes"]
    except (OSError, ValueError, LookupError, AttributeError, RuntimeError, tf.errors.OpError) as error:  # raised for truncated files
        raise UserError(f"{path}: the model cannot be loaded ({first_line(error)}); {REMEDY}") from None
    if not matches:
        raise UserError(f"{path}: vocabulary or classes do not match model.json; {REMEDY}")
    return ranker
