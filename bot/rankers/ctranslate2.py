"""Ranker back end `ctranslate2`: runs a serving folder written by `models export` on the CPU.

Reads a serving folder (see export/to_ctranslate2.py) of a classifier, `[CLS] comment [SEP] reply [SEP]` -> one logit, or of a dual
encoder. It does not import PyTorch and transformers.

    BOT_RANK__BACKEND=ctranslate2 python run_bot.py score --in pairs.csv --out scored.csv
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
from tokenizers import Tokenizer

from bot import text
from bot.cli import UserError
from bot.config import Precision
from bot.rankers import Encoded, Vectors, batches_of_like_length, join_pair
from bot.weights import loading, serving

Array = np.ndarray[Any, Any]


class Encoder:
    """The encoder and tokenizer of a serving folder."""

    def __init__(self, folder: Path, facts: dict[str, Any]):
        serving.prefer_avx512()
        loading.keep_freed_memory()
        self.facts = facts
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.workers = len(os.sched_getaffinity(0))
        self.engine = ctranslate2.Encoder(str(folder), inter_threads=self.workers, intra_threads=1)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, without control tokens."""
        encoded = self.tokenizer.encode_batch([text.escape(body) for body in texts], add_special_tokens=False)
        return [each.ids for each in encoded]

    def run(self, encoded: Sequence[Encoded], batch_size: int, summary: Callable[[Any, Array], Array]) -> Array:
        """Run the encoder and return the `summary` of its output for each row, (rows, width).

        summary: (output of the engine, lengths (batch,)) -> (batch, width)
        """
        result: Array = np.zeros((len(encoded), self.facts["width"]), np.float32)

        def work(rows: list[int]) -> None:
            ids, segments = ([encoded[row][part] for row in rows] for part in (0, 1))
            if not self.facts["segments"]:
                segments = [[0] * len(each) for each in segments]
            output = self.engine.forward_batch(ids, token_type_ids=padded(segments))
            result[rows] = summary(output, np.array([len(each) for each in ids]))

        with ThreadPoolExecutor(self.workers) as pool:
            for _ in pool.map(work, [*batches_of_like_length(encoded, batch_size)]):
                pass
        return result


def padded(rows: list[list[int]]) -> list[list[int]]:
    """Pad the rows with zeros to the length of the longest.

    >>> padded([[1], [1, 1]])
    [[1, 0], [1, 1]]
    """
    width = max(map(len, rows))
    return [row + [0] * (width - len(row)) for row in rows]


def sigmoid(x: Array) -> Array:
    result: Array = (1 + np.tanh(np.asarray(x, np.float64) / 2)) / 2  # 1 / (1 + exp(-x)) would overflow, and float32 gives ties
    return result


class Classifier:
    def __init__(self, encoder: Encoder, head: Path):
        self.encoder = encoder
        with np.load(head) as arrays:
            self.weight, self.bias = arrays["weight"], arrays["bias"]  # (width,), ()

    def score(self, pairs: Sequence[tuple[str, str]], batch_size: int = 8) -> list[float]:
        """See rankers.Ranker."""
        comments, replies = (self.encoder.tokens([pair[side] for pair in pairs]) for side in (0, 1))
        ends = [self.encoder.facts[name] for name in ("start", "separator", "longest")]
        encoded = [join_pair(comment, reply, *ends) for comment, reply in zip(comments, replies, strict=True)]
        pooled = self.encoder.run(encoded, batch_size, lambda output, _: np.array(output.pooler_output))
        scores: list[float] = sigmoid(pooled @ self.weight + self.bias).tolist()
        return scores


class DualEncoder:
    """sigmoid(scale * cosine + offset) of comment and reply, as in rankers.transformers."""

    def __init__(self, encoder: Encoder, scale: float, offset: float):
        self.encoder, self.scale, self.offset = encoder, scale, offset
        self.vectors = Vectors(self.encode)

    def encode(self, texts: list[str], batch_size: int) -> Array:
        """See mean_vector, (texts, width)."""
        facts = self.encoder.facts
        encoded = [[facts["start"], *ids[: facts["longest"] - 2], facts["separator"]] for ids in self.encoder.tokens(texts)]
        return self.encoder.run([(ids, [0] * len(ids)) for ids in encoded], batch_size, mean_vector)

    def score(self, pairs: Sequence[tuple[str, str]], batch_size: int = 8) -> list[float]:
        """See rankers.Ranker."""
        scores: list[float] = sigmoid(self.scale * self.vectors.cosines(pairs, batch_size) + self.offset).tolist()
        return scores


class LabelClassifier:
    """A linear head on text vectors, as in rankers.transformers. The head includes the calibration."""

    def __init__(self, encoder: Encoder, head: Path):
        self.encoder, self.labels = DualEncoder(encoder, 1.0, 0.0), encoder.facts["labels"]
        with np.load(head) as arrays:
            self.weight, self.bias = arrays["weight"], arrays["bias"]  # (labels, width), (labels,)

    def logits(self, texts: Sequence[str], batch_size: int = 8) -> Array:
        """The logits, (texts, labels). A label applies if its logit is at least 0."""
        result: Array = self.encoder.encode([*texts], batch_size) @ self.weight.T + self.bias
        return result


def mean_vector(output: Any, lengths: Array) -> Array:
    """The mean over the tokens of each text, normalized to length 1, (batch, width)."""
    hidden = np.array(output.last_hidden_state)  # (batch, time, width)
    mask = np.arange(hidden.shape[1])[None, :] < lengths[:, None]
    mean = (hidden * mask[..., None]).sum(1) / lengths[:, None]
    result: Array = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return result


def load_export(folder: Path) -> Classifier | DualEncoder:
    """Load a ranker from a serving folder. Raises UserError if it is not the serving folder of a ranker."""
    facts = serving.read_facts(folder)
    if facts["kind"] == "generator":
        raise UserError(f"{folder}: a generator, not a ranker; set rank.realism, rank.upvote or rank.relevance to a ranker's folder")
    if facts["kind"] == "labels":
        raise UserError(
            f"{folder}: a conduct classifier, not a ranker; set rank.realism, rank.upvote or rank.relevance to a ranker's folder"
        )
    encoder = Encoder(folder, facts)
    if facts["kind"] == "dual encoder":
        return DualEncoder(encoder, facts["scale"], facts["offset"])
    return Classifier(encoder, folder / serving.HEAD_FILE)


def load(path: Path, precision: Precision = "int8") -> Classifier | DualEncoder:
    """Load the ranker in `path`, after exporting it if necessary. Raises UserError if there is no model or the export fails."""
    return load_export(serving.ensure_exported(path, precision))


def load_labels(path: Path, precision: Precision = "int8") -> LabelClassifier:
    """Load the conduct classifier in `path`, after exporting it if necessary. Raises UserError if there is none or the export fails."""
    folder = serving.ensure_exported(path, precision)
    facts = serving.read_facts(folder)
    if facts["kind"] != "labels":
        raise UserError(f"{path}: not a conduct classifier; set conduct.comment_classifier and conduct.reply_classifier to such folders")
    return LabelClassifier(Encoder(folder, facts), folder / serving.HEAD_FILE)
