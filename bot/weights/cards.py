"""What model cards say in words: how the data was split, what the model is for, and its limits. Trainers put it into model.json.

python run_bot.py models card models/upvote          puts it into an older card; the weights and the metrics stay as they are
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bot import cli, files
from bot.cli import UserError
from bot.files import atomic_writer

SPLIT = "By a hash of the thread, 90 / 5 / 5: training, validation and test share no thread."
RANKER_SPLIT = (
    f"{SPLIT} Of the training threads a ranker learns from one half, by a second hash, and the judges of `evaluate` from the other."
    " The metrics are of the test split, their intervals (95 %) from drawing whole threads again."
)
READ = "It reads 45 tokens of a comment and 80 of a reply."
INTENDED_USE = {
    "lm": "Writes candidate replies that the rankers choose among; not to be posted unranked.",
    "realism": "The probability that a person wrote a reply, given the comment, so that `choose` can drop candidates that read like a"
    " machine's. No detector of machine-written text elsewhere, and no ground to accuse anybody.",
    "upvote": "Orders the candidates of one comment by how well readers may receive them.",
    "relevance": "Tells replies that belong to a comment from those that would fit any of its subreddit.",
}
LIMITS = {
    "lm": "A small model: fluent, often wrong about facts, and it repeats what it read, prejudices too. Perplexity is over the reply's"
    " tokens of rows within max_tokens.",
    "realism": "It knows only generators like those it was trained against (settings.generators, or the column `generator` of its data);"
    f" text of others may pass. The probability supposes as many people's replies as the prepared files have. {READ}",
    "upvote": "It learnt from siblings alone and means nothing across comments: subreddits, exposure and age cancel. The probability is"
    " that of doing better than an average sibling of the validation pairs. It does worse in subreddits unlike those it learnt from, and"
    f" says nothing about truth, tone or rules. {READ}",
    "relevance": "It looks for what the two speak of and says nothing about truth, tone or rules. A reply of few common words scores low, a"
    " fitting «thank you» too. Replies of the same subreddit are its only negatives, so it learnt little of telling subreddits apart.",
}  # fmt: skip
CLASSES_LIMITS = (
    "It guesses the class of a reply's karma from the text alone: what subreddit, exposure and age do to karma is noise to it, so compare"
    f" candidates of one comment only. It says nothing about truth, tone or rules. {READ}"
)
GPT_2_SIMPLE_LIMITS = (
    "Fluent, often wrong about facts, and it repeats what it read, prejudices too. Loss is nats per token of whole rows; perplexity is over"
    " the reply's tokens, its end counted as one, and comparable between models of one vocabulary only."
)


def words(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """split, intended_use and limits of a model of this kind with these settings of its card."""
    limits = LIMITS[kind]
    if settings.get("backend") == "gpt-2-simple":
        limits = GPT_2_SIMPLE_LIMITS
    elif kind == "upvote" and "classes" in settings:
        limits = CLASSES_LIMITS
    return {"split": SPLIT if kind == "lm" else RANKER_SPLIT, "intended_use": INTENDED_USE[kind], "limits": limits}


def write_words(folder: Path) -> Path:
    """Put them into the card of the model in `folder`. Raises UserError where there is none."""
    card = read_card(folder)
    for name, value in words(card.kind, card.settings).items():
        setattr(card, name, value)
    return write_card(folder, card)


CARD_FILE = "model.json"


# --- model cards ------------------------------------------------------------------------------------------------------


@dataclass
class ModelCard:
    """model.json beside the weights of a model trained here: what it is, what from, how well it does, what it is not for."""

    kind: Literal["lm", "realism", "upvote", "relevance"]
    base: str  # a name for `base_path`
    base_sha256: str  # `base_sha256(base)` when it was trained
    format: Literal["adapter", "full"]  # adapter: only what was changed, to be laid over the base
    data: dict[str, dict[str, Any]] = field(default_factory=dict)  # file name -> {"rows": int, "sha256": str}
    settings: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    created_utc: str = ""  # ISO 8601; write_card fills it in
    licence: str = ""
    split: str = ""  # this and the next two: cards.words
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
        raise UserError(f"{files.shown(path)} is missing, so {files.shown(folder)} holds no model; {remedy}") from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"{files.shown(path)} can't be read as JSON ({cli.first_line(error)}); restore it (`git checkout {files.shown(path)}`) or {remedy}"
        ) from error
    if not isinstance(told, dict):
        raise UserError(f"{files.shown(path)}: expected an object, found {type(told).__name__}; {remedy}")
    texts = {each.name for each in fields(ModelCard)} - {"data", "settings", "metrics"}
    wrong = [name for name in ("kind", "base", "base_sha256", "format") if not told.get(name)]
    wrong += [name for name, value in told.items() if not isinstance(value, str if name in texts else dict)]
    wrong += sorted(set(told) - {each.name for each in fields(ModelCard)} - set(wrong))
    if told.get("kind") not in ("lm", "realism", "upvote", "relevance") or told.get("format") not in ("adapter", "full"):
        wrong += [f"kind={told.get('kind')!r}, format={told.get('format')!r}"]
    if wrong:
        raise UserError(f"{files.shown(path)}: missing, unknown or of the wrong type: {', '.join(dict.fromkeys(wrong))}; {remedy}")
    return ModelCard(**told)


def identity(path: Path) -> str:
    """sha256 of a card without its metrics: they say how well the model does, not what it is. Of the file where it is no card."""
    try:
        content = {**json.loads(path.read_text(encoding="utf-8")), "metrics": {}}
    except (ValueError, TypeError):
        return files.sha256_of(path)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def card_command(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Folders of trained models.")],
) -> None:
    """Write split, intended use and limits of its kind into the card of a trained model again; weights and metrics stay."""
    for folder in folders:
        print(files.shown(write_words(folder)))
