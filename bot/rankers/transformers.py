"""Ranker back end `transformers`: a BERT-like encoder with a head, as a full folder or a LoRA adapter with its base.

Comment and reply are two segments, if the encoder knows two. Rankers that were trained together have the same encoder and head, and each
uses its own output (`outputs` and `output` in the card). A relevance ranker is a dual encoder instead (see its card): comment and reply are
encoded to vectors, and their cosine is the score. Training uses the same `encode_pair` and `embed`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoModel, AutoModelForSequenceClassification

from bot import text
from bot.cli import UserError
from bot.config import Precision
from bot.rankers import MAX_TOKENS, MIN_TOKENS, Encoded, Vectors, batches_of_like_length, join_pair
from bot.weights import bases, cards, loading, serving

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode_pair(tokenizer: PreTrainedTokenizerBase, comment: str, reply: str) -> Encoded:
    """See rankers.join_pair and limit_length."""
    return join_pair(_encode(tokenizer, comment), _encode(tokenizer, reply), *start_and_separator(tokenizer), tokenizer.model_max_length)


def _encode(tokenizer: PreTrainedTokenizerBase, body: str) -> list[int]:
    """The ids of a text. Control tokens in it, of this tokenizer or another one, are ordinary text."""
    ids: list[int] = tokenizer(text.escape(body), add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return ids


def start_and_separator(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """The ids of `[CLS]` and `[SEP]`, or of a tokenizer's start and end. Raises UserError if it has neither."""
    first = tokenizer.bos_token_id if tokenizer.cls_token_id is None else tokenizer.cls_token_id
    separator = tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id
    if first is None or separator is None:
        raise UserError(f"{tokenizer.name_or_path}: the tokenizer has no start or separator token; use another encoder")
    return first, separator


def takes_segments(model: Any) -> bool:
    """True if the encoder knows two segments, as BERT does. RoBERTa knows one, DistilBERT none."""
    return int(getattr(model.config, "type_vocab_size", 0) or 0) >= 2


def padded_width(tokens: int) -> int:
    """Round up to a multiple of 16, because PyTorch creates and caches kernels for each shape.

    >>> padded_width(16), padded_width(17)
    (16, 32)
    """
    return -(-tokens // 16) * 16


def limit_length(model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Set `tokenizer.model_max_length` to the number of tokens that the model runs on, at most the padded width of MAX_TOKENS.

    It is measured on the CPU, because a config does not tell: RoBERTa takes two tokens fewer than its max_position_embeddings, and relative
    positions have no limit.

    Raises:
        UserError: the model does not read text, or takes fewer than MIN_TOKENS.
        Exception: of the model, if it does not run at all on token ids.
    """
    if model.main_input_name != "input_ids":
        raise UserError(f"{tokenizer.name_or_path}: the model reads {model.main_input_name}, not text; use another encoder")
    paddings = (tokenizer.pad_token_id, model.config.pad_token_id)  # RoBERTa gives padding no position
    word = next(number for number in range(3) if number not in paddings)

    def run(tokens: int) -> None:
        ids = torch.full((2, tokens), word)
        model(input_ids=ids, attention_mask=torch.ones_like(ids))

    def fails(tokens: int) -> bool:
        try:
            run(tokens)
        except (RuntimeError, IndexError, ValueError):
            return True
        return False

    longest = padded_width(MAX_TOKENS)
    with torch.inference_mode():
        if fails(longest):
            longest = bisect_left(range(1, longest), True, key=fails)
        if not longest:
            run(1)
    if longest < MIN_TOKENS:
        raise UserError(f"{tokenizer.name_or_path}: the encoder takes {longest} tokens, but needs {MIN_TOKENS}; use another encoder")
    tokenizer.model_max_length = longest


def logits(model: Any, tokenizer: PreTrainedTokenizerBase, batch: Sequence[Encoded]) -> torch.Tensor:
    """The outputs of the model for each encoded pair, (batch, outputs)."""
    width = min(padded_width(max(len(ids) for ids, _ in batch)), tokenizer.model_max_length)
    ids = torch.full((len(batch), width), int(tokenizer.pad_token_id or 0))
    segments = torch.zeros(len(batch), width, dtype=torch.long)
    mask = torch.zeros(len(batch), width, dtype=torch.long)
    for row, (tokens, of_row) in enumerate(batch):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        segments[row, : len(tokens)] = torch.tensor(of_row)
        mask[row, : len(tokens)] = 1
    device = next(model.parameters()).device
    kinds = {"token_type_ids": segments.to(device)} if takes_segments(model) else {}
    output = model(input_ids=ids.to(device), attention_mask=mask.to(device), **kinds)
    result: torch.Tensor = output.logits.float()
    return result


class Transformers:
    """sigmoid(scale * logit + offset) of one output of the model. scale and offset are fitted on validation rows."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, scale: float = 1.0, offset: float = 0.0, output: int = 0):
        self.model, self.tokenizer, self.scale, self.offset, self.output = model, tokenizer, scale, offset, output

    def logits(self, pairs: Sequence[tuple[str, str]], batch_size: int = 32) -> list[float]:
        """The logit of each (comment, reply), in the same order. Repeated pairs are computed only once."""
        places: dict[tuple[str, str], int] = {}
        for pair in pairs:
            places.setdefault(pair, len(places))
        encoded = [encode_pair(self.tokenizer, comment, reply) for comment, reply in places]
        result = torch.zeros(len(encoded))
        with torch.inference_mode():
            for rows in batches_of_like_length(encoded, batch_size):
                result[rows] = logits(self.model, self.tokenizer, [encoded[row] for row in rows])[:, self.output].cpu()
        values: list[float] = result[[places[pair] for pair in pairs]].tolist()
        return values

    def score(self, pairs: Sequence[tuple[str, str]], batch_size: int = 32) -> list[float]:
        """See rankers.Ranker."""
        return probabilities(self.logits(pairs, batch_size), self.scale, self.offset)


def probabilities(values: Any, scale: float, offset: float) -> list[float]:
    """sigmoid(scale * value + offset), in float64, because float32 would give ties among high scores."""
    result: list[float] = torch.sigmoid(scale * torch.as_tensor(values, dtype=torch.float64) + offset).tolist()
    return result


def encode_text(tokenizer: PreTrainedTokenizerBase, body: str) -> list[int]:
    """`[CLS] text [SEP]`, truncated to MAX_TOKENS, or to what the encoder takes (see limit_length)."""
    start, separator = start_and_separator(tokenizer)
    return [start, *_encode(tokenizer, body)[: min(MAX_TOKENS, tokenizer.model_max_length) - 2], separator]


def embed(model: Any, tokenizer: PreTrainedTokenizerBase, batch: Sequence[list[int]]) -> torch.Tensor:
    """The mean over the tokens of each text (Reimers and Gurevych 2019, arXiv:1908.10084), normalized to length 1, (batch, width)."""
    width = min(padded_width(max(map(len, batch))), tokenizer.model_max_length)
    padding, device = int(tokenizer.pad_token_id or 0), next(model.parameters()).device
    ids = torch.tensor([[*tokens, *[padding] * (width - len(tokens))] for tokens in batch], device=device)
    mask = torch.tensor([[1] * len(tokens) + [0] * (width - len(tokens)) for tokens in batch], device=device)
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state.float() * mask[..., None]
    result: torch.Tensor = torch.nn.functional.normalize(hidden.sum(1) / mask.sum(1, keepdim=True), dim=1)
    return result


class DualEncoder:
    """sigmoid(scale * cosine + offset) of comment and reply. scale and offset are fitted on validation rows."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, scale: float, offset: float):
        self.model, self.tokenizer, self.scale, self.offset = model, tokenizer, scale, offset
        self.vectors = Vectors(self.encode)

    def encode(self, texts: list[str], batch_size: int = 32) -> Any:
        """See embed. Returns a NumPy array, (texts, width)."""
        encoded = [encode_text(self.tokenizer, body) for body in texts]
        result = torch.zeros(len(encoded), int(self.model.config.hidden_size))
        with torch.inference_mode():
            for rows in batches_of_like_length([(ids, []) for ids in encoded], batch_size):
                result[rows] = embed(self.model, self.tokenizer, [encoded[row] for row in rows]).cpu()
        return result.numpy()

    def cosines(self, pairs: Sequence[tuple[str, str]], batch_size: int = 32) -> Any:
        """See rankers.Encoder."""
        return self.vectors.cosines(pairs, batch_size)

    def score(self, pairs: Sequence[tuple[str, str]], batch_size: int = 32) -> list[float]:
        """See rankers.Ranker."""
        return probabilities(self.cosines(pairs, batch_size), self.scale, self.offset)


class LabelClassifier:
    """A linear head on text vectors (see embed). weight: (labels, width), bias: (labels,)."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, labels: Sequence[str], weight: Any, bias: Any):
        self.encoder, self.labels, self.weight, self.bias = DualEncoder(model, tokenizer, 1.0, 0.0), labels, weight, bias

    def vectors(self, texts: Sequence[str], batch_size: int = 32) -> Any:
        """The text vectors as a NumPy array, (texts, width)."""
        return self.encoder.encode([*texts], batch_size)

    def logits(self, texts: Sequence[str], batch_size: int = 32) -> Any:
        """The logits as a NumPy array, (texts, labels). A label applies if its logit is at least 0."""
        return self.vectors(texts, batch_size) @ self.weight.T + self.bias


def load_encoder(path: Path, auto_class: Any, **options: Any) -> tuple[Any, Any]:
    """See loading.load and limit_length; on the GPU, if there is one. Raises UserError if the model is no encoder of text."""
    model, tokenizer = loading.load(path, auto_class, **options)
    with loading.one_line(path):
        limit_length(model, tokenizer)
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def load_base(name: str) -> DualEncoder:
    """See rankers.load_base."""
    return DualEncoder(*load_encoder(bases.base_path(name), AutoModel), 1.0, 0.0)


def load(path: Path, _: Precision = "int8") -> Any:
    """Load a Transformers, DualEncoder or LabelClassifier, depending on the card."""
    settings = cards.read_card(path).settings if (path / cards.CARD_FILE).exists() else {}
    if settings.get("architecture") == "dual encoder":
        return DualEncoder(*load_encoder(path, AutoModel), settings["scale"], settings["offset"])
    if settings.get("architecture") == "labels":
        model, tokenizer = load_encoder(path, AutoModel)
        with np.load(path / serving.HEAD_FILE) as head:
            return LabelClassifier(model, tokenizer, settings["labels"], head["weight"], head["bias"])
    model, tokenizer = load_encoder(path, AutoModelForSequenceClassification, num_labels=settings.get("outputs", 1))
    return Transformers(model, tokenizer, settings.get("scale", 1.0), settings.get("offset", 0.0), settings.get("output", 0))
