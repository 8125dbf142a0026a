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

CARD_FILE = "model.json"
Kind = Literal["lm", "realism", "upvote", "relevance", "choice", "conduct"]
# adapter: LoRA weights. layers: all weights except the embeddings, which are those of the base. full: a complete model.
Format = Literal["adapter", "layers", "full"]


@dataclass
class ModelCard:
    """The content of model.json: the kind of model, its base, data, settings, metrics, intended use and limits."""

    kind: Kind
    base: str  # a name for `base_path`
    base_sha256: str  # `base_sha256(base)` at the time of training
    format: Format
    data: dict[str, dict[str, Any]] = field(default_factory=dict)  # file name -> {"rows": int, "sha256": str}
    settings: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    created_utc: str = ""  # ISO 8601; set by write_card if empty
    licence: str = ""
    split: str = ""  # this and the next two fields: see train/card_text.py
    intended_use: str = ""
    limits: str = ""
    notes: str = ""


def write_card(folder: Path, card: ModelCard) -> Path:
    """Write model.json to `folder` atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    filled = {**asdict(card), "created_utc": card.created_utc or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
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
    except (OSError, ValueError) as error:
        raise UserError(
            f"{files.display_path(path)} is not readable as JSON ({cli.first_line(error)});"
            f" restore it (`git checkout {files.display_path(path)}`) or {remedy}"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{files.display_path(path)}: expected an object, found {type(content).__name__}; {remedy}")
    texts = {each.name for each in fields(ModelCard)} - {"data", "settings", "metrics"}
    wrong = [name for name in ("kind", "base", "base_sha256", "format") if not content.get(name)]
    wrong += [name for name, value in content.items() if not isinstance(value, str if name in texts else dict)]
    wrong += sorted(set(content) - {each.name for each in fields(ModelCard)} - set(wrong))
    if content.get("kind") not in get_args(Kind) or content.get("format") not in get_args(Format):
        wrong += [f"kind={content.get('kind')!r}, format={content.get('format')!r}"]
    if wrong:
        raise UserError(f"{files.display_path(path)}: missing, unknown or of the wrong type: {', '.join(dict.fromkeys(wrong))}; {remedy}")
    return ModelCard(**content)


def identity(path: Path) -> str:
    """The sha256 of a card without its metrics, which do not identify the model. If the file is not JSON, that of the file."""
    try:
        content = {**json.loads(path.read_text(encoding="utf-8")), "metrics": {}}
    except (ValueError, TypeError):
        return files.sha256_of(path)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
