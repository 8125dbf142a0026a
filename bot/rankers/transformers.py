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

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_TOKENS = 128  # of a pair, with its three control tokens
MAX_REPLY_TOKENS = 80

Encoded = tuple[list[int], list[int]]  # token ids, segment ids


def encode_pair(tokenizer: PreTrainedTokenizerBase, comment: str, reply: str) -> Encoded:
    """`[CLS] comment [SEP] reply [SEP]`; ends are cut, the reply's beyond 80 tokens, the comment's to what room is left."""
    second = tokenizer(text.escape(reply), add_special_tokens=False)["input_ids"][:MAX_REPLY_TOKENS]
    first = tokenizer(text.escape(comment), add_special_tokens=False)["input_ids"][: MAX_TOKENS - 3 - len(second)]
    ids = [tokenizer.cls_token_id, *first, tokenizer.sep_token_id, *second, tokenizer.sep_token_id]
    return ids, [0] * (len(first) + 2) + [1] * (len(second) + 1)


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
        """See rankers.Ranker. Pairs of like length go together, so little is padded."""
        encoded = [encode_pair(self.tokenizer, comment, reply) for comment, reply in pairs]
        order = sorted(range(len(encoded)), key=lambda row: len(encoded[row][0]))
        scores = [0.0] * len(encoded)
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                probabilities = torch.sigmoid(logits(self.model, self.tokenizer, [encoded[row] for row in rows]))
                for row, probability in zip(rows, probabilities.tolist(), strict=True):
                    scores[row] = probability
        return scores


def load(path: Path) -> Transformers:
    model, tokenizer = load_model(path)
    return Transformers(model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer)
