"""The conduct classifiers for comments and replies, which give a probability for each label. A text is split into pieces, and the highest
probability of its pieces counts.

Reads  the serving folders of models/conduct-comment and models/conduct-reply (settings conduct.comment_classifier, .reply_classifier),
       which are exported first if necessary. Each is loaded once per process, on first use.

    judge_replies(["You should see a doctor."], conduct)   ->  [{"medical": 0.93, "insult": 0.01, …}], for conduct.what.may_say
    judge_pieces(["i want to die"], conduct)               ->  {"i want to die": {Reason.CRISIS: 0.98, …}}, for conduct.where

The probabilities are calibrated to a decision threshold of 0.5, see train/thresholds.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bot.conduct import letters, topics
from bot.conduct.plain import plain
from bot.conduct.reasons import Reason
from bot.conduct.what import NOT_JUDGED, Judged
from bot.conduct.where import NOTHING_LIKELY, Likely
from bot.config import ConductSettings
from bot.weights import cards

if TYPE_CHECKING:
    from bot.rankers.ctranslate2 import LabelClassifier

Array = np.ndarray[Any, Any]

SHORT_WORDS = 25  # replies up to this length are one piece
MAX_PIECES = 40  # of a reply
_SENTENCE = re.compile(r"[^.!?\n]+[.!?\n]*")


def pieces_of_reply(body: str) -> list[str]:
    """The pieces of a reply: the whole reply, and if it is longer, also its pairs of consecutive sentences.

    >>> pieces_of_reply("Fair enough."), pieces_of_reply(" ")
    (['Fair enough.'], [])
    >>> len(pieces_of_reply("A sentence of seven words is here. " * 5))
    2
    """
    whole = " ".join(body.split())
    if whole.count(" ") < SHORT_WORDS:
        return [whole] if whole else []
    sentences = [each.strip() for each in _SENTENCE.findall(body) if each.strip()]
    pairs = [f"{one} {other}" for one, other in pairwise(sentences)]
    return list(dict.fromkeys([whole, *pairs]))[:MAX_PIECES]


# By side ("comment" or "reply"): a text as one piece, and the pieces of a text.
WHOLE: Mapping[str, Callable[[str], str]] = {
    "comment": lambda body: " ".join(plain(body).split()),
    "reply": lambda body: " ".join(body.split()),
}
PIECES: Mapping[str, Callable[[str], list[str]]] = {"comment": topics.windows_of, "reply": pieces_of_reply}


def of_texts(logits: Callable[[Sequence[str]], Array], texts: Sequence[str], side: str) -> Array:
    """The maximum logits over the pieces of each text, (texts, labels). A text without pieces counts as an empty piece."""
    pieces = [PIECES[side](body) or [""] for body in texts]
    places = {piece: number for number, piece in enumerate(dict.fromkeys(piece for each in pieces for piece in each))}
    values = logits([*places])
    return np.stack([values[[places[piece] for piece in each]].max(0) for each in pieces])


# --- in the stages --------------------------------------------------------------------------------------------------------


def judge_replies(replies: Sequence[str], conduct: ConductSettings) -> list[Judged]:
    """The probabilities of the reply classifier for each reply, as displayed by Reddit; empty results if no classifier is configured.

    Raises:
        UserError: the model is missing or not a conduct classifier.
    """
    if conduct.reply_classifier is None or not replies:
        return [NOT_JUDGED] * len(replies)
    cards.check_kind(conduct.reply_classifier, "conduct.reply_classifier", "conduct", "reply")
    model = load(conduct.reply_classifier)
    probabilities = _probabilities(of_texts(model.logits, [letters.latin(reply) for reply in replies], "reply"))
    return [dict(zip(model.labels, each, strict=True)) for each in probabilities.tolist()]


def judge_pieces(pieces: Sequence[str], conduct: ConductSettings) -> Likely:
    """The probabilities of the comment classifier for each piece of text (`where.pieces_judged`). Raises as in `judge_replies`."""
    if conduct.comment_classifier is None or not pieces:
        return NOTHING_LIKELY
    cards.check_kind(conduct.comment_classifier, "conduct.comment_classifier", "conduct", "comment")
    model = load(conduct.comment_classifier)
    by_name = {str(reason): reason for reason in Reason}
    reasons = [by_name[label] for label in model.labels]
    rows = _probabilities(model.logits(pieces)).tolist()
    return {piece: dict(zip(reasons, each, strict=True)) for piece, each in zip(pieces, rows, strict=True)}


@cache
def load(folder: Path) -> LabelClassifier:
    """The classifier in a folder, in the serving engine. Raises as in `judge_replies`."""
    from bot.rankers.ctranslate2 import load_labels

    return load_labels(folder)


def _probabilities(logits: Array) -> Array:
    result: Array = (1 + np.tanh(logits / 2)) / 2  # 1 / (1 + exp(-x)) would overflow
    return result
