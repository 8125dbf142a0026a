"""toxicity: how offensive a text is according to Detoxify, if its weights are configured."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from bot.cli import UserError

# Detoxify's labels of toxicity. The other labels of its «unbiased» models only indicate which group a text is about.
TOXIC_LABELS = frozenset(
    [
        "toxic",
        "toxicity",
        "severe_toxic",
        "severe_toxicity",
        "obscene",
        "threat",
        "insult",
        "identity_hate",
        "identity_attack",
        "sexual_explicit",
    ]
)


def toxicity(body: str, folder: Path) -> float:
    """The highest probability of any of TOXIC_LABELS according to the classifier in a folder.

    The folder is a transformers model (for example unitary/toxic-bert), or contains a checkpoint of Detoxify (`….ckpt`) together with
    config.json and tokenizer of its base.
    """
    import torch

    tokenizer, model, places = _toxicity_model(folder)
    with torch.inference_mode():
        logits = model(**tokenizer(body, truncation=True, max_length=512, return_tensors="pt")).logits  # (1, labels)
    return float(logits[0, places].sigmoid().max())


@cache
def _toxicity_model(folder: Path) -> tuple[Any, Any, list[int]]:
    """Tokenizer, classifier and the indexes of TOXIC_LABELS among its outputs. Raises UserError if there is no classifier."""
    import pickle

    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if checkpoint := next(iter(sorted(folder.glob("*.ckpt"))), None):
            stored = torch.load(checkpoint, map_location="cpu", weights_only=True)  # runs no code from a pickle
            labels = dict(enumerate(stored["config"]["dataset"]["args"]["classes"]))
            outputs = stored["config"]["arch"]["args"]["num_classes"]
            model = AutoModelForSequenceClassification.from_config(
                AutoConfig.from_pretrained(folder, num_labels=outputs, local_files_only=True)
            )
            # position ids, which older versions of transformers stored
            model.load_state_dict({name: each for name, each in stored["state_dict"].items() if not name.endswith("position_ids")})
        else:
            model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True)
            labels = model.config.id2label
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"conduct.toxicity_model: {folder} contains no classifier ({reason}); give its folder") from None
    places = [place for place, label in labels.items() if label in TOXIC_LABELS]
    if not places:
        raise UserError(f"conduct.toxicity_model: {folder} has none of Detoxify's labels ({', '.join(labels.values())}); give another")
    return tokenizer, model.eval(), places
