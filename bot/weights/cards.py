"""Model cards: model.json next to the weights of a model trained by this project. Their texts come from train/card_text.py."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from bot import cli, files
from bot.cli import UserError
from bot.files import atomic_writer
from bot.weights import bases

CARD_FILE = "model.json"
Kind = Literal["lm", "realism", "upvote", "relevance", "choice", "conduct"]
# adapter: LoRA weights. layers: all weights except the embeddings, which are those of the base. full: a complete model.
Format = Literal["adapter", "layers", "full"]


@dataclass
class ModelCard:
    """The content of model.json: the kind of model, its base, data, settings, metrics, intended use and limits."""

    kind: Kind
    base: str  # a name for `base_path`; empty: trained from random weights
    base_sha256: str  # `base_sha256(base)` at the time of training; empty without a base
    format: Format
    data: dict[str, dict[str, Any]] = field(default_factory=dict)  # file name -> {"rows": int, "sha256": str}
    settings: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    hours: float = 0.0  # of training, without interruptions; 0: not known
    parameters: int = 0  # with those of the base; 0: not known
    created_utc: str = ""  # ISO 8601; set by write_card if empty
    licence: str = ""  # of the base, whose weights the model contains or needs; set by write_card if empty
    split: str = ""  # this and the next two fields: see train/card_text.py
    intended_use: str = ""
    limits: str = ""
    notes: str = ""


def write_card(folder: Path, card: ModelCard) -> Path:
    """Write model.json to `folder` atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    created = card.created_utc or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    filled = {**asdict(card), "created_utc": created, "licence": card.licence or bases.licence_of(card.base)}
    with atomic_writer(folder / CARD_FILE) as file:
        file.write(json.dumps(filled, indent=1, ensure_ascii=False) + "\n")
    return folder / CARD_FILE


def read_card(folder: Path) -> ModelCard:
    """Read the card of the model in `folder`. Raises UserError if it is missing or invalid."""
    path = folder / CARD_FILE
    remedy = "give the folder of a trained model, or train it (`python run_bot.py train --help`)"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{files.display_path(path)} is missing, so {files.display_path(folder)} contains no model; {remedy}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{files.display_path(path)} is not readable as JSON ({cli.first_line(error)});"
            f" restore it (`git checkout {files.display_path(path)}`) or {remedy}"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{files.display_path(path)}: expected an object, found {type(content).__name__}; {remedy}")
    types: dict[str, Any] = {"data": dict, "settings": dict, "metrics": dict, "hours": (int, float), "parameters": int}
    may_be_empty = ("base", "base_sha256")  # both or neither
    wrong = [
        name for name in ("kind", "base", "base_sha256", "format") if name not in content or not (content[name] or name in may_be_empty)
    ]
    wrong += [name for name in may_be_empty if bool(content.get(name)) != bool(content.get("base"))]
    wrong += [name for name, value in content.items() if not isinstance(value, types.get(name, str)) or isinstance(value, bool)]
    wrong += [name for name in ("hours", "parameters") if name not in wrong and not 0 <= content.get(name, 0) < 1e15]  # NaN is neither
    wrong += sorted(set(content) - {each.name for each in fields(ModelCard)} - set(wrong))
    if content.get("kind") not in get_args(Kind) or content.get("format") not in get_args(Format):
        wrong += [f"kind={content.get('kind')!r}, format={content.get('format')!r}"]
    if wrong:
        raise UserError(f"{files.display_path(path)}: missing, unknown or of the wrong type: {', '.join(dict.fromkeys(wrong))}; {remedy}")
    return ModelCard(**content)


def check_kind(folder: Path, setting: str, kind: Kind, side: str = "") -> None:
    """Raises UserError if the card in `folder` is of a model of another kind (or, of a classifier of conduct, for another side).

    setting: the setting or option that names the folder. A folder without a card, such as a model from the hub, is not checked.
    """
    if not (folder / CARD_FILE).exists():
        return
    card = read_card(folder)
    own_side = card.settings.get("side") if side else ""
    actual, wanted = (f"{name} ({part})" if part else name for name, part in ((card.kind, own_side), (kind, side)))
    if card.kind != kind or actual not in (kind, wanted):
        raise UserError(f"{files.display_path(folder)}: a model of kind {actual}; set {setting} to a folder of kind {wanted}")


def identity(path: Path) -> str:
    """The sha256 of a card without its metrics, hours and parameters, which do not identify the model. If the file is not JSON, that of
    the file.
    """
    try:
        content = {**json.loads(path.read_text(encoding="utf-8")), "metrics": {}}
        for name in ("hours", "parameters"):
            content.pop(name, None)
    except (ValueError, TypeError, RecursionError):
        return files.sha256_of(path)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
