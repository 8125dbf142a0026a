"""What the classifiers of conduct say of comments and replies: label -> probability. A text is judged by its pieces, the highest counts.

Reads  the serving folders of models/conduct-comment and models/conduct-reply (settings conduct.comment_classifier, .reply_classifier),
       which are exported first where that is due. Each is loaded once a process, on first use.

    judge_replies(settings)(["You should see a doctor."])   ->  [{"medical": 0.93, "insult": 0.01, …}]
    judge_pieces(settings)(["i want to die"])               ->  {"i want to die": {Reason.CRISIS: 0.98, …}}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bot.conduct import topics
from bot.conduct.plain import plain

Array = np.ndarray[Any, Any]

SHORT_WORDS = 25  # a reply of no more is one piece
MOST_PIECES = 40  # of a reply
_SENTENCE = re.compile(r"[^.!?\n]+[.!?\n]*")


class Labels(Protocol):
    labels: Sequence[str]

    def logits(self, texts: Sequence[str], batch_size: int = 32) -> Array:
        """(texts, labels)"""
        ...


def pieces_of_reply(body: str) -> list[str]:
    """A reply, and where it is longer its sentences as well, each with the one before it.

    >>> pieces_of_reply("Fair enough."), pieces_of_reply(" ")
    (['Fair enough.'], [])
    >>> len(pieces_of_reply("A sentence of seven words is here. " * 5))
    2
    """
    whole = " ".join(body.split())
    if whole.count(" ") < SHORT_WORDS:
        return [whole] if whole else []
    sentences = [each.strip() for each in _SENTENCE.findall(body) if each.strip()]
    pairs = [f"{one} {other}" for one, other in zip(sentences, sentences[1:], strict=False)]
    return list(dict.fromkeys([whole, *pairs]))[:MOST_PIECES]


# By side: a text as one piece, and the pieces by which it is judged.
WHOLE: Mapping[str, Callable[[str], str]] = {"comment": lambda body: " ".join(plain(body).split()), "reply": lambda body: " ".join(body.split())}
PIECES: Mapping[str, Callable[[str], list[str]]] = {"comment": topics.pieces_of, "reply": pieces_of_reply}


def of_texts(logits: Callable[[Sequence[str]], Array], texts: Sequence[str], side: str) -> Array:
    """The largest logit of each text's pieces, (texts, labels); a text without a piece has that of an empty one."""
    pieces = [PIECES[side](body) or [""] for body in texts]
    places = {piece: number for number, piece in enumerate(dict.fromkeys(piece for each in pieces for piece in each))}
    found = logits([*places])
    return np.stack([found[[places[piece] for piece in each]].max(0) for each in pieces])
