"""matching: the patterns of patterns/NAME.txt, one a line; `#` begins a comment line, `[…]` a section.

A pattern is a regular expression over `plain.plain` words that matches whole words; a blank in it also matches a comma or a colon and a
blank. <kin> and so on stand for what words.txt says. All take time in proportion to the length of the text: what may be repeated without a
bound lies within a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).with_name("patterns")
# Of a pattern: a character class, a lookbehind (whose width is fixed), a blank.
_BLANK = re.compile(r"\[[^\]]*\]|\(\?<[^)]*\)| ")


@cache
def sections(name: str) -> dict[str, re.Pattern[str]]:
    """One pattern for each section of NAME.txt, which matches what any of the section's does; without sections its name is empty."""
    return {heading: compiled(patterns) for heading, patterns in read(name).items()}


def compiled(patterns: Iterable[str]) -> re.Pattern[str]:
    """One pattern that matches what any of them does.

    >>> compiled(["lost my <kin>"]).search("we lost, my dog is sad"), bool(compiled(["lost my <kin>"]).search("i lost, my dog"))
    (None, True)
    """
    joined = "|".join(patterns)
    for word, words in read("words").items() if "<" in joined else ():
        joined = joined.replace(f"<{word}>", f"(?:{'|'.join(words)})")
    joined = _BLANK.sub(lambda part: "(?:[,:]? )" if part[0] == " " else part[0], joined)
    return re.compile(rf"(?<!\w)(?:{joined})(?!\w)")


@cache
def read(name: str) -> dict[str, list[str]]:
    """The patterns of NAME.txt by section."""
    heading = ""
    found: dict[str, list[str]] = {}
    for line in (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if section := re.fullmatch(r"\[([a-z ,]+)\]", line):
            heading = section[1]
        elif line.strip() and not line.startswith("#"):
            found.setdefault(heading, []).append(line)
    return found
