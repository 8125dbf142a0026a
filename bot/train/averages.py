"""The mean of the weights of several fine-tuned models, as one model at the cost of one (Wortsman et al. 2022, arXiv:2203.05482).

Works for models that were fine-tuned from the same base and with heads that started alike, as `train conduct` makes them.

    check_alike([Path("a"), Path("b")], card)          raises UserError unless both fit the card
    model = averaged_adapter(plain, [Path("a"), …])    a peft model whose adapter is the mean
    weight, bias = averaged_head([Path("a"), …])
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bot import files
from bot.cli import UserError
from bot.weights import cards, loading, serving

Array = np.ndarray[Any, Any]


def check_alike(folders: Sequence[Path], card: cards.ModelCard) -> list[cards.ModelCard]:
    """The cards of two or more models, which must have the kind, base, side and labels of `card`. Raises UserError otherwise."""
    if len(folders) < 2:
        raise UserError(f"--average {files.display_path(folders[0])}: one model has no mean; give the option twice or more")
    own = []
    for folder in folders:
        other = cards.read_card(folder)
        for name, value, wanted in (
            ("kind", other.kind, card.kind),
            ("format", other.format, card.format),
            ("base", other.base_sha256, card.base_sha256),
            *((name, other.settings.get(name), card.settings[name]) for name in ("side", "labels")),
        ):
            if value != wanted:
                raise UserError(
                    f"--average {files.display_path(folder)}: its {name} is {value}, but {wanted} is needed; choose another model"
                )
        if not (folder / serving.HEAD_FILE).is_file():
            raise UserError(f"--average {files.display_path(folder)}: has no {serving.HEAD_FILE}; copy the whole folder, or train it again")
        own.append(other)
    return own


def averaged_adapter(plain: Any, folders: Sequence[Path]) -> Any:
    """A peft model of `plain` with one LoRA adapter: the mean of those in `folders`, exactly. Its rank is the sum of theirs."""
    from peft import PeftModel

    names = [str(number) for number in range(len(folders))]
    model: Any = None
    for name, folder in zip(names, folders, strict=True):
        with loading.one_line(folder, "copy the whole folder, or train it again"):
            if model is None:
                model = PeftModel.from_pretrained(plain, str(folder), adapter_name=name)
            else:
                model.load_adapter(str(folder), adapter_name=name)
    model.add_weighted_adapter(names, [1 / len(names)] * len(names), "default", combination_type="cat")
    model.set_adapter("default")
    for name in names:
        model.delete_adapter(name)
    return model


def averaged_head(folders: Sequence[Path]) -> tuple[Array, Array]:
    """(weight, bias): the means of the linear heads, (labels, width) and (labels,)."""
    heads = []
    for folder in folders:
        with loading.one_line(folder, "copy the whole folder, or train it again"), np.load(folder / serving.HEAD_FILE) as head:
            heads.append((head["weight"], head["bias"]))
    weight, bias = (np.mean(each, axis=0) for each in zip(*heads, strict=True))
    return weight, bias
