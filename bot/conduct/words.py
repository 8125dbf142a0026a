"""words: word lists: text files in this folder, with one entry per line; `#` begins a comment line."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path


def read_list(name: str) -> frozenset[str]:
    """The entries of NAME.txt, in lower case.

    >>> "autotldr" in read_list("bots")
    True
    """
    lines = Path(__file__).with_name(f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line.strip().lower() for line in lines if line.strip() and not line.startswith("#"))


def is_listed(name: str, entries: Iterable[str]) -> bool:
    """Whether a name is in the list: `*` in an entry matches any letters, and `!` before an entry excludes the names that it matches.

    >>> [is_listed(name, frozenset({"*support", "!*techsupport", "vent"})) for name in ("GriefSupport", "techsupport", "vent", "vents")]
    [True, False, True, False]
    """
    listed, excepted = _compiled(frozenset(entries))
    return listed.fullmatch(name.lower()) is not None and excepted.fullmatch(name.lower()) is None


@cache
def _compiled(entries: frozenset[str]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    listed = sorted(entry for entry in entries if not entry.startswith("!"))
    excepted = sorted(entry[1:] for entry in entries if entry.startswith("!"))
    either = ("|".join(map(fnmatch.translate, each)) or "(?!)" for each in (listed, excepted))
    first, second = (re.compile(each) for each in either)
    return first, second


SENSITIVE_SUBREDDITS = read_list("sensitive_subreddits")
SUBREDDITS_WITHOUT_BOTS = read_list("subreddits_without_bots")
BOTS = read_list("bots")
MILD_WORDS = read_list("mild_words")
MORE_SLURS = read_list("more_slurs")
OTHER_SENSES = {word: frozenset(others.split()) for word, others in (line.split(":") for line in read_list("other_senses"))}
