"""What model cards say in words: how the data was split, what the model is for, and its limits. Trainers put it into model.json.

python -m bot.models card models/upvote          puts it into an older card; the weights and the metrics stay as they are
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bot import models

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
    card = models.read_card(folder)
    for name, value in words(card.kind, card.settings).items():
        setattr(card, name, value)
    return models.write_card(folder, card)
