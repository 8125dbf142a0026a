"""keys: words that a text must contain for a pattern to match, so that most patterns can be skipped for most texts."""

from __future__ import annotations

import re
from collections.abc import Mapping

Keys = frozenset[str]
KEY_LENGTH = 3  # letters at the start of a word

# Tokens of a pattern: start of a group (a lookaround, or any other), its end, a quantifier, a character class or its abbreviation, an
# anchor, a character; and <name>, which stands for other patterns.
_TOKEN = re.compile(
    r"(?P<look>\(\?(?:=|!|<=|<!))|(?P<name><[a-z]+>)|(?P<open>\(\?:)|(?P<close>\))|(?P<or>\|)|(?P<quantifier>[?*+]\+?|\{\d+(?:,\d*)?\})"
    r"|(?P<any>\[[^\]]*\]|\\[wWdDsS]|\.)|(?P<place>\\b|[$^])|(?P<character>\\?.)",
    re.DOTALL,
)


def keys_of(pattern: str, names: Mapping[str, Keys | None] | None = None) -> Keys | None:
    """Prefixes of words (at most KEY_LENGTH letters), such that every match of the pattern contains a word that begins with one of them.

    None if there are no such prefixes. names: the keys of each <name>.

    >>> sorted(keys_of("(?:want|wish) to (?:go away|leave)")), sorted(keys_of("(?:i )?lost my dog")), keys_of(r"\\\\w+ (?:x)?")
    (['wan', 'wis'], ['los'], None)
    """
    return _Reader(pattern, names or {}).alternatives(True)[0]


def keys_in(piece: str) -> set[str]:
    """All keys that a text contains.

    >>> sorted(keys_in("we lost"))
    ['l', 'lo', 'los', 'w', 'we']
    """
    return {word[:length] for word in re.findall(r"\w+", piece) for length in range(1, min(len(word), KEY_LENGTH) + 1)}


def _better(one: Keys | None, other: Keys | None) -> Keys | None:
    """The set whose shortest key is longer; if both are equal, the smaller set."""
    if not one or not other:
        return one or other
    return max(one, other, key=lambda keys: (min(map(len, keys)), -len(keys)))


class _Reader:
    """Reads a pattern once, from left to right."""

    def __init__(self, pattern: str, names: Mapping[str, Keys | None]) -> None:
        self.tokens = [(match.lastgroup, match[0]) for match in _TOKEN.finditer(pattern)]
        self.names = names
        self.place = 0

    def alternatives(self, begins: bool) -> tuple[Keys | None, bool]:
        """Keys of the pattern from here to the end of the group, and whether a word begins after it. begins: whether a word begins here."""
        every: Keys | None = frozenset()
        every_begins = True
        while True:
            keys, then_begins = self.sequence(begins)
            every = None if keys is None or every is None else every | keys
            every_begins &= then_begins
            self.place += 1
            if self.place > len(self.tokens) or self.tokens[self.place - 1][0] == "close":
                return every, every_begins

    def sequence(self, begins: bool) -> tuple[Keys | None, bool]:
        """The same for one alternative."""
        best: Keys | None = None
        word = ""  # the letters at the start of a word that are certain
        while self.place < len(self.tokens) and self.tokens[self.place][0] not in ("close", "or"):
            kind, token = self.tokens[self.place]
            self.place += 1
            if kind == "character" and token[-1].isalnum() and not self.is_optional():
                word += token if begins or word else ""
                begins = False
                continue
            if kind == "look":
                self.alternatives(False)
                continue
            if kind in ("place", "quantifier") and not word:
                continue
            best, begins_here, word = _better(best, _key(word)), begins and not word, ""
            if kind in ("open", "name"):
                inside, then_begins = (
                    self.alternatives(begins_here) if kind == "open" else (self.names.get(token) if begins_here else None, False)
                )
                best = best if self.is_optional() else _better(best, inside)
                begins = then_begins and (begins_here or not self.is_optional())
            elif kind != "place":
                begins = token == " " and not self.is_optional()
        return _better(best, _key(word)), begins

    def is_optional(self) -> bool:
        """Whether a quantifier here makes the item before it optional."""
        return self.place < len(self.tokens) and re.match(r"[?*]|\{0", self.tokens[self.place][1]) is not None


def _key(word: str) -> Keys | None:
    return frozenset({word[:KEY_LENGTH]}) if word else None
