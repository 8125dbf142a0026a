"""Ranker back end `transformers`: a BERT-like encoder with one output, as a full folder or a LoRA adapter with its base.

`encode_pair` is what train_ranker uses too: comment and reply are BERT's two segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForSequenceClassification

from bot import models, text
from bot.rankers import Encoded, batches_of_like_length, join_pair

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode_pair(tokenizer: PreTrainedTokenizerBase, comment: str, reply: str) -> Encoded:
    """See rankers.join_pair."""
    first, second = (tokenizer(text.escape(body), add_special_tokens=False)["input_ids"] for body in (comment, reply))
    return join_pair(first, second, tokenizer.cls_token_id, tokenizer.sep_token_id)


def logits(model: Any, tokenizer: PreTrainedTokenizerBase, batch: Sequence[Encoded]) -> torch.Tensor:
    """The model's one output for each encoded pair, (batch,)."""
    width = max(len(ids) for ids, _ in batch)
    ids = torch.full((len(batch), width), int(tokenizer.pad_token_id or 0))
    segments = torch.zeros(len(batch), width, dtype=torch.long)
    mask = torch.zeros(len(batch), width, dtype=torch.long)
    for row, (tokens, kinds) in enumerate(batch):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        segments[row, : len(tokens)] = torch.tensor(kinds)
        mask[row, : len(tokens)] = 1
    device = next(model.parameters()).device
    output = model(input_ids=ids.to(device), token_type_ids=segments.to(device), attention_mask=mask.to(device))
    result: torch.Tensor = output.logits[:, 0].float()
    return result


def load_model(path: Path) -> tuple[Any, PreTrainedTokenizerBase]:
    """See models.load."""
    return models.load(path, AutoModelForSequenceClassification, num_labels=1)


class Transformers:
    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase):
        self.model, self.tokenizer = model, tokenizer

    def score(self, pairs: Sequence[tuple[str, str]], batch_size: int = 32) -> list[float]:
        """See rankers.Ranker."""
        encoded = [encode_pair(self.tokenizer, comment, reply) for comment, reply in pairs]
        scores = [0.0] * len(encoded)
        with torch.inference_mode():
            for rows in batches_of_like_length(encoded, batch_size):
                probabilities = torch.sigmoid(logits(self.model, self.tokenizer, [encoded[row] for row in rows]))
                for row, probability in zip(rows, probabilities.tolist(), strict=True):
                    scores[row] = probability
        return scores


def load(path: Path) -> Transformers:
    model, tokenizer = load_model(path)
    return Transformers(model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer)
