"""echo: does a reply repeat what somebody wrote? Added text, look-alike letters, missing spaces or another order do not hide a copy."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from bot.conduct import letters

PASSAGE = 22  # minimum length of a copied passage in letters and digits; «on the way to work» has 14
TAKEN = 0.45  # minimum share of a reply in such passages; such a reply is an echo
_FIGURES = str.maketrans("013457i", "oleastl")  # i, l and 1 count as the same letter
_OTHERS = re.compile(r"[\W_]+")


@lru_cache(maxsize=1 << 15)  # a thread's texts are compared with every candidate
def compact(body: str) -> str:
    """The letters and digits of a text alone, with look-alikes replaced.

    >>> compact("Th1s_is: IT, \u0420\u0430ul")
    'thlslsltpaul'
    """
    text = _OTHERS.sub("", letters.latin(body)).lower()
    return text if text.isdigit() else text.translate(_FIGURES)


def echoes(reply: str, others: Iterable[str]) -> bool:
    """True if at least TAKEN of a reply (`compact`) is in one of the others, in passages of PASSAGE characters or more.

    >>> comment = "I have read everything at home twice, what now?"
    >>> echoes(compact("So I have read everything at home twice lol"), [comment]), echoes(compact("I have read two at home"), [comment])
    (True, False)
    """
    return len(reply) >= PASSAGE and any(_taken(reply, compact(other)) >= TAKEN * len(reply) for other in others)


def _taken(reply: str, other: str) -> int:
    """The number of characters of the reply that are in passages of the other text."""
    half = PASSAGE // 2
    if not any(reply[at : at + half] in other for at in range(0, len(reply) - half + 1, half)):
        return 0  # a fast check, since most texts share nothing: every copied passage contains a half that begins at one of these positions
    known = {other[at : at + PASSAGE] for at in range(len(other) - PASSAGE + 1)}
    taken, end = 0, 0
    for at in range(len(reply) - PASSAGE + 1):
        if reply[at : at + PASSAGE] in known:
            taken += at + PASSAGE - max(at, end)
            end = at + PASSAGE
    return taken
