"""matching: the patterns of the conduct rules: regular expressions in text files, one per line.

    # a comment
    name = this|that             defines <name> for the lines below: any of these alternatives
    [section]                    starts a section; the module that uses the file defines what it means
    <name> of the                a pattern
        (?:it|them)              an indented line continues the previous one

topics/NAME.txt    patterns for `plain.plain` text. A pattern matches whole words, and a space in it also matches a comma or colon with a
                   space. The names defined in topics/words.txt can be used in all of these files.
phrases/NAME.txt   patterns for `letters.latin` text, case-insensitive: phrases that must not be posted. Each file is a category, named like
                   the member of `Unfit`.

Patterns detect fixed phrases and templates such as «I will HURT you». Anything that requires an understanding of the sentence is left to a
classifier. Matching takes linear time, because unbounded repetition is used only within a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from bot.conduct import keys

TOPICS, PHRASES = Path(__file__).with_name("topics"), Path(__file__).with_name("phrases")
CATEGORIES = tuple(sorted(path.stem for path in PHRASES.glob("*.txt")))
# Parts of a pattern: a character class, a lookbehind (whose width is fixed), a space.
_BLANK = re.compile(r"\[[^\]]*\]|\(\?<[^)]*\)| ")


Source = tuple[dict[str, str], dict[str, list[str]]]  # the names that a file defines, and its patterns by section


def parse(source: str) -> Source:
    """Parse a file and replace names by their definitions. Patterns before the first section belong to the section "".

    >>> parse("# you\\nyou = you|ya\\n[always]\\n<you>,\\n    my <kin>")[1]
    {'always': ['(?:you|ya),my <kin>']}
    """
    names: dict[str, str] = {}
    sections: dict[str, list[str]] = {}
    heading = ""
    for line in re.sub(r"\n[ \t]+", "", source).splitlines():
        if definition := re.fullmatch(r"(\w+) = (.*)", line):
            names[definition[1]] = _filled(definition[2], names)
        elif section := re.fullmatch(r"\[([a-z ,]+)\]", line):
            heading = section[1]
        elif line.strip() and not line.startswith("#"):
            sections.setdefault(heading, []).append(_filled(line, names))
    return names, sections


def _filled(pattern: str, names: dict[str, str]) -> str:
    return re.sub(r"<(\w+)>", lambda match: f"(?:{names[match[1]]})" if match[1] in names else match[0], pattern)


@cache
def _read(path: Path) -> Source:
    return parse(path.read_text(encoding="utf-8"))


# --- phrases ----------------------------------------------------------------------------------------------------------------------


def matches(category: str, text: str) -> bool:
    """True if a pattern of the category matches somewhere in a `letters.latin` text.

    >>> matches("threat", "I'll break your legs"), matches("threat", "shots fired, you killed it")
    (True, False)
    >>> matches("self_harm", "just end yourself"), matches("self_harm", "careful, you could cut yourself")
    (True, False)
    """
    return _phrases(category).search(text) is not None


@cache
def _phrases(category: str) -> re.Pattern[str]:
    return re.compile("|".join(_read(PHRASES / f"{category}.txt")[1][""]), re.IGNORECASE)


# --- topics -----------------------------------------------------------------------------------------------------------------------


class Patterns:
    """A set of patterns. Only patterns whose keys occur in the text are tried."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = list(patterns)
        self._by_key: dict[str | None, list[int]] = {}
        for number, pattern in enumerate(self._patterns):
            for key in keys.keys_of(pattern, _keys_of_words()) or (None,):
                self._by_key.setdefault(key, []).append(number)
        self._compiled: dict[int, re.Pattern[str]] = {}

    def match(self, piece: str) -> bool:
        """Whether one of the patterns matches anywhere in a text."""
        candidates = {number for key in (None, *keys.keys_in(piece)) for number in self._by_key.get(key, ())}
        return any(self._pattern(number).search(piece) for number in sorted(candidates))

    def _pattern(self, number: int) -> re.Pattern[str]:
        if number not in self._compiled:
            self._compiled[number] = compiled([self._patterns[number]])
        return self._compiled[number]


@cache
def sections(name: str) -> dict[str, Patterns]:
    """The patterns of topics/NAME.txt by section."""
    return {heading: Patterns(patterns) for heading, patterns in read(name).items()}


def read(name: str) -> dict[str, list[str]]:
    """The patterns of topics/NAME.txt by section, as regular expressions."""
    return _read(TOPICS / f"{name}.txt")[1]


def compiled(patterns: Iterable[str]) -> re.Pattern[str]:
    """One regular expression for several patterns; it matches where any of them does.

    >>> compiled(["lost my <kin>"]).search("we lost a game"), bool(compiled(["lost my <kin>"]).search("i lost, my dog"))
    (None, True)
    """
    joined = _filled("|".join(patterns), _words())
    with_commas = _BLANK.sub(lambda part: "(?:[,:]? )" if part[0] == " " else part[0], joined)
    return re.compile(rf"(?<!\w)(?:{with_commas})(?!\w)")


def _words() -> dict[str, str]:
    return _read(TOPICS / "words.txt")[0]


@cache
def _keys_of_words() -> dict[str, keys.Keys | None]:
    return {f"<{name}>": keys.keys_of(expression) for name, expression in _words().items()}
