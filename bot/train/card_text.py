"""models card: the prose and the data section of a trained model's card. Trainers write both into model.json.

python run_bot.py models card models/upvote        rewrite the prose of an existing card; weights and metrics do not change
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

SPLIT = "By a hash of the thread id, 90 / 5 / 5: training, validation and test share no thread."
RANKER_SPLIT = (
    f"{SPLIT} A second hash divides the training threads in two: rankers train on one half, the judges of `evaluate` on the other."
    " Metrics are on the test split, with 95 % intervals from a bootstrap over threads."
)
LINE_SPLIT = (
    "Lines by a hash of their text: 70 % training, 10 % thresholds, 20 % held out for the figures. People's texts by a hash of the thread"
    " id: the training split for training, the validation split for thresholds."
)
GRADED_SPLIT = "Comments by a hash of their id: 60 % training, 20 % for the weights of rank_score, 20 % held out for the figures."
INPUT_LENGTH = f"Reads the first {MAX_COMMENT_TOKENS} tokens of a comment and {MAX_REPLY_TOKENS} of a reply."
INTENDED_USE = {
    "lm": "Writes candidate replies for the rankers to choose from. Its output should not be posted unranked.",
    "realism": "The probability that a person wrote a reply, given the comment, so that `choose` can drop candidates that read as"
    " machine-written. It is not a general detector of machine-written text and is no basis for accusing anyone.",
    "upvote": "Orders the candidates for one comment by how well readers are likely to receive them.",
    "relevance": "Separates replies that belong to a comment from replies that would fit any comment of the subreddit.",
    "choice": "The probability that a reader accepts a generated reply as an answer to the comment, for the order of candidates.",
    "conduct": "Gives the probability of each reason not to answer a comment, or not to post a reply of the bot. A program that uses it"
    " stays silent in such cases. It is no basis for judging or moderating people, and it is not a detector of people in danger.",
}
# A trainer with other limits defines its own LIMITS.
LIMITS = {
    "lm": "A small model: fluent, often factually wrong, and it reproduces the prejudices of its training data. Perplexity covers the"
    " reply tokens of rows within max_tokens.",
    "realism": "Recognises only generators like those it was trained on (settings.generators, or the column `generator` of its data);"
    f" text from others may pass. The probability assumes the share of human replies in the prepared files. {INPUT_LENGTH}",
    "upvote": "Trained on sibling replies only, so its scores are not comparable across comments: subreddit, exposure and age cancel"
    " out. The probability is that of doing better than an average sibling in the validation pairs. It is less accurate in subreddits"
    f" unlike those it was trained on, and says nothing about truth, tone or rules. {INPUT_LENGTH}",
    "relevance": "Compares topics and says nothing about truth, tone or rules. A reply of a few common words scores low, even a fitting"
    " \"thank you\". Its only negatives are replies from the same subreddit, so it has learnt little about differences between subreddits.",
    "choice": "Trained on the candidates of one generator, graded by few readers, so it knows that generator's faults and those readers'"
    f" taste. It cannot tell whether a claim is true. {INPUT_LENGTH}",
    "conduct": "Trained on a few hundred invented English lines per category, and on texts by people, which are assumed to be harmless. It"
    " misses lines with other wording, so patterns and word lists are used, too. It can mistake quotes, irony or fiction for serious text.",
}  # fmt: skip


def card_text(task: str, limits: str = "") -> dict[str, Any]:
    """split, intended_use and limits of a card. limits: replaces the task's default text."""
    return {
        "split": {"lm": SPLIT, "conduct": LINE_SPLIT, "choice": GRADED_SPLIT}.get(task, RANKER_SPLIT),
        "intended_use": INTENDED_USE[task],
        "limits": limits or LIMITS[task],
    }


def text_for_card(card: cards.ModelCard) -> dict[str, Any]:
    """card_text for a trained model, by the back end that its card names (default: the task's first)."""
    back_ends = TRAINERS[card.kind]
    trainer = back_ends.get(card.settings.get("backend", ""), next(iter(back_ends.values())))
    return card_text(card.kind, getattr(importlib.import_module(trainer.module), "LIMITS", ""))


def data_facts(data: Path, rows: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """The data section of a card: row count and checksum of each file. rows: file name -> number of rows."""
    return {name: {"rows": count, "sha256": files.sha256_of(data / name)} for name, count in rows.items()}


def card_command(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER", help="Folders of trained models.")],
) -> None:
    """Rewrite the prose (split, intended use, limits) of trained models' cards. Weights and metrics do not change."""
    for folder in folders:
        card = cards.read_card(folder)
        for name, value in text_for_card(card).items():
            setattr(card, name, value)
        print(files.display_path(cards.write_card(folder, card)))
