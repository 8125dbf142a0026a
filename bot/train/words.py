"""models card: what the cards of trained models say in words, and of the data. Trainers put it into model.json.

python run_bot.py models card models/upvote        puts the words into an older card; the weights and the metrics stay as they are
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from bot import files
from bot.rankers import MAX_COMMENT_TOKENS, MAX_REPLY_TOKENS
from bot.train import TRAINERS
from bot.weights import cards

SPLIT = "By a hash of the thread, 90 / 5 / 5: training, validation and test share no thread."
RANKER_SPLIT = (
    f"{SPLIT} Of the training threads a ranker learns from one half, by a second hash, and the judges of `evaluate` from the other."
    " The metrics are of the test split, their intervals (95 %) from drawing whole threads again."
)
READ = f"It reads {MAX_COMMENT_TOKENS} tokens of a comment and {MAX_REPLY_TOKENS} of a reply."
INTENDED_USE = {
    "lm": "Writes candidate replies that the rankers choose among; not to be posted unranked.",
    "realism": "The probability that a person wrote a reply, given the comment, so that `choose` can drop candidates that read like a"
    " machine's. No detector of machine-written text elsewhere, and no ground to accuse anybody.",
    "upvote": "Orders the candidates of one comment by how well readers may receive them.",
    "relevance": "Tells replies that belong to a comment from those that would fit any of its subreddit.",
}
# A trainer whose models have others says them itself, as LIMITS.
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


def words(task: str, limits: str = "") -> dict[str, Any]:
    """split, intended_use and limits of a card; those of the task without `limits`."""
    return {"split": SPLIT if task == "lm" else RANKER_SPLIT, "intended_use": INTENDED_USE[task], "limits": limits or LIMITS[task]}


def words_of(card: cards.ModelCard) -> dict[str, Any]:
    """The words of a model that has been trained, by the back end that its card names (the first, where it names none)."""
    back_ends = TRAINERS[card.kind]
    trainer = back_ends.get(card.settings.get("backend", ""), next(iter(back_ends.values())))
    return words(card.kind, getattr(importlib.import_module(trainer.module), "LIMITS", ""))


def data_facts(data: Path, rows: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """What a card says of the files it was trained on and is measured on. rows: how many each has, by its name."""
    return {name: {"rows": count, "sha256": files.sha256_of(data / name)} for name, count in rows.items()}


def card_command(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Folders of trained models.")],
) -> None:
    """Write split, intended use and limits of its kind into the card of a trained model again; weights and metrics stay."""
    for folder in folders:
        card = cards.read_card(folder)
        for name, value in words_of(card).items():
            setattr(card, name, value)
        print(files.display_path(cards.write_card(folder, card)))
