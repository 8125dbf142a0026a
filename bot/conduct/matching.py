"""matching: the patterns of topics/NAME.txt, one per line; `#` begins a comment line, `[…]` a section.

A pattern is a regular expression over `plain.plain` text that matches whole words; a space in it also matches a comma or colon followed by
a space. <kin> etc. are replaced by their definitions in words.txt. Matching takes time proportional to the length of the text, since
unbounded repetitions occur only within words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from bot.conduct import keys

FOLDER = Path(__file__).with_name("topics")
# Parts of a pattern: a character class, a lookbehind (which has a fixed width), a space.
_BLANK = re.compile(r"\[[^\]]*\]|\(\?<[^)]*\)| ")


class Patterns:
    """Patterns, of which only those are tried whose keys the text contains."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = list(patterns)
        self._by_key: dict[str | None, list[int]] = {}
        for number, pattern in enumerate(self._patterns):
            for key in keys.keys_of(pattern, _keys_of_words()) or (None,):
                self._by_key.setdefault(key, []).append(number)
        self._compiled: dict[int, re.Pattern[str]] = {}

    def match(self, piece: str) -> bool:
        """Whether one of them matches anywhere in a text."""
        candidates = {number for key in (None, *keys.keys_in(piece)) for number in self._by_key.get(key, ())}
        return any(self._pattern(number).search(piece) for number in sorted(candidates))

    def _pattern(self, number: int) -> re.Pattern[str]:
        if number not in self._compiled:
            self._compiled[number] = compiled([self._patterns[number]])
        return self._compiled[number]


@cache
def sections(name: str) -> dict[str, Patterns]:
    """The patterns of NAME.txt by section; those of a file without sections have an empty name."""
    return {heading: Patterns(patterns) for heading, patterns in read(name).items()}


def compiled(patterns: Iterable[str]) -> re.Pattern[str]:
    """One pattern that matches whatever any of them matches.

    >>> compiled(["lost my <kin>"]).search("we lost a game"), bool(compiled(["lost my <kin>"]).search("i lost, my dog"))
    (None, True)
    """
    joined = "|".join(map(_expanded, patterns))
    with_commas = _BLANK.sub(lambda part: "(?:[,:]? )" if part[0] == " " else part[0], joined)
    return re.compile(rf"(?<!\w)(?:{with_commas})(?!\w)")


@cache
def _keys_of_words() -> dict[str, keys.Keys | None]:
    return {f"<{word}>": keys.keys_of("|".join(patterns)) for word, patterns in read("words").items()}


def _expanded(pattern: str) -> str:
    for word, words in read("words").items() if "<" in pattern else ():
        pattern = pattern.replace(f"<{word}>", f"(?:{'|'.join(words)})")
    return pattern


@cache
def read(name: str) -> dict[str, list[str]]:
    """The patterns of NAME.txt by section."""
    heading = ""
    patterns: dict[str, list[str]] = {}
    for line in (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if section := re.fullmatch(r"\[([a-z ,]+)\]", line):
            heading = section[1]
        elif line.strip() and not line.startswith("#"):
            patterns.setdefault(heading, []).append(line)
    return patterns
