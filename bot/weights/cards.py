"""Model cards: model.json beside the weights of a model that was trained here. What they say in words is train/words.py's."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from bot import cli, files
from bot.cli import UserError
from bot.files import atomic_writer

CARD_FILE = "model.json"


@dataclass
class ModelCard:
    """model.json beside the weights of a model trained here: what it is, what from, how well it does, what it is not for."""

    kind: Literal["lm", "realism", "upvote", "relevance", "conduct"]
    base: str  # a name for `base_path`
    base_sha256: str  # `base_sha256(base)` when it was trained
    format: Literal["adapter", "full"]  # adapter: only what was changed, to be laid over the base
    data: dict[str, dict[str, Any]] = field(default_factory=dict)  # file name -> {"rows": int, "sha256": str}
    settings: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    created_utc: str = ""  # ISO 8601; write_card fills it in
    licence: str = ""
    split: str = ""  # this and the next two: train.card_text
    intended_use: str = ""
    limits: str = ""
    notes: str = ""


def write_card(folder: Path, card: ModelCard) -> Path:
    """Write model.json into `folder`, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    filled = {**asdict(card), "created_utc": card.created_utc or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
    with atomic_writer(folder / CARD_FILE) as file:
        file.write(json.dumps(filled, indent=1, ensure_ascii=False) + "\n")
    return folder / CARD_FILE


def read_card(folder: Path) -> ModelCard:
    """The card of the model in `folder`. Raises UserError where there is none or it can't be read."""
    path = folder / CARD_FILE
    remedy = "point to a trained model's folder, or train it (`python run_bot.py train --help`)"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{files.display_path(path)} is missing, so {files.display_path(folder)} holds no model; {remedy}") from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"{files.display_path(path)} can't be read as JSON ({cli.first_line(error)});"
            f" restore it (`git checkout {files.display_path(path)}`) or {remedy}"
        ) from error
    if not isinstance(told, dict):
        raise UserError(f"{files.display_path(path)}: expected an object, found {type(told).__name__}; {remedy}")
    texts = {each.name for each in fields(ModelCard)} - {"data", "settings", "metrics"}
    wrong = [name for name in ("kind", "base", "base_sha256", "format") if not told.get(name)]
    wrong += [name for name, value in told.items() if not isinstance(value, str if name in texts else dict)]
    wrong += sorted(set(told) - {each.name for each in fields(ModelCard)} - set(wrong))
    if told.get("kind") not in ("lm", "realism", "upvote", "relevance", "conduct") or told.get("format") not in ("adapter", "full"):
        wrong += [f"kind={told.get('kind')!r}, format={told.get('format')!r}"]
    if wrong:
        raise UserError(f"{files.display_path(path)}: missing, unknown or of the wrong type: {', '.join(dict.fromkeys(wrong))}; {remedy}")
    return ModelCard(**told)


def identity(path: Path) -> str:
    """sha256 of a card without its metrics: they say how well the model does, not what it is. Of the file where it is no card."""
    try:
        content = {**json.loads(path.read_text(encoding="utf-8")), "metrics": {}}
    except (ValueError, TypeError):
        return files.sha256_of(path)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
