"""phrases: patterns of texts that are not posted, one file per category in phrases/, named after the member of `Unfit`.

    # a comment
    name = this|that             <name> matches any of these in the lines below
    \\b<name> of                  a regular expression, in any case of letters
        (?:it|them)\\b            an indented line continues the one above

They match fixed phrases and templates such as «I will HURT you» or «GROUP are WORSE». Sentences that must be understood are left to the
classifier, whose probabilities `may_say` gets. Repetitions are bounded, so the time is linear in the length of the text.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).with_name("phrases")
CATEGORIES = tuple(sorted(path.stem for path in FOLDER.glob("*.txt")))


def matches(category: str, text: str) -> bool:
    """True if a pattern of the category matches in the text, as returned by letters.latin.

    >>> matches("threat", "I'll break your legs"), matches("threat", "shots fired, you killed it")
    (True, False)
    >>> matches("self_harm", "just end yourself"), matches("self_harm", "careful, you could cut yourself")
    (True, False)
    """
    return _pattern(category).search(text) is not None


@cache
def _pattern(category: str) -> re.Pattern[str]:
    return compiled((FOLDER / f"{category}.txt").read_text(encoding="utf-8"))


def compiled(source: str) -> re.Pattern[str]:
    """
    >>> compiled("name = you|they\\n^<name>(?:a|\\n  b)$").pattern
    '^(?:you|they)(?:a|b)$'
    """
    joined = re.sub(r"\n[ \t]+", "", source)
    names: dict[str, str] = {}
    expressions = []
    for line in joined.splitlines():
        if not line or line.startswith("#"):
            continue
        filled = re.sub(r"<(\w+)>", lambda match: names.get(match[1], match[0]), line)
        if definition := re.fullmatch(r"(\w+) = (.*)", filled):
            names[definition[1]] = f"(?:{definition[2]})"
        else:
            expressions.append(filled)
    return re.compile("|".join(expressions), re.IGNORECASE)
