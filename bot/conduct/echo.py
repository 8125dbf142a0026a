"""echo: does a reply say again what somebody wrote? Also with a head, a tail, look-alike letters, no blanks, or in other pieces."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from bot.conduct import letters

PASSAGE = 22  # letters and digits in a row that were taken from somewhere; «on the way to work» has 14
TAKEN = 0.45  # of a reply, in such passages, makes it an echo
_FIGURES = str.maketrans("013457i", "oleastl")  # i, l and 1 are one
_OTHERS = re.compile(r"[\W_]+")


@lru_cache(maxsize=1 << 15)  # a thread's texts are asked for again with every candidate
def compact(body: str) -> str:
    """The letters and digits of a text without anything between them, look-alikes as what they look like.

    >>> compact("Th1s_is: IT, \u0420\u0430ul")
    'thlslsltpaul'
    """
    text = _OTHERS.sub("", letters.latin(body)).lower()
    return text if text.isdigit() else text.translate(_FIGURES)


def echoes(reply: str, others: Iterable[str]) -> bool:
    """True where TAKEN of a reply (`compact`) stands in one of the others, in passages of PASSAGE or more.

    >>> comment = "I have read everything at home twice, what now?"
    >>> echoes(compact("So I have read everything at home twice lol"), [comment]), echoes(compact("I have read two at home"), [comment])
    (True, False)
    """
    return len(reply) >= PASSAGE and any(_taken(reply, compact(other)) >= TAKEN * len(reply) for other in others)


def _taken(reply: str, other: str) -> int:
    """How many characters of the reply stand in passages of the other."""
    half = PASSAGE // 2
    if not any(reply[at : at + half] in other for at in range(0, len(reply) - half + 1, half)):
        return 0  # most have nothing in common, and this takes a tenth of the time: a passage holds a half that begins at such a place
    known = {other[at : at + PASSAGE] for at in range(len(other) - PASSAGE + 1)}
    taken, end = 0, 0
    for at in range(len(reply) - PASSAGE + 1):
        if reply[at : at + PASSAGE] in known:
            taken += at + PASSAGE - max(at, end)
            end = at + PASSAGE
    return taken
