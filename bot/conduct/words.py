"""Word lists of conduct: one text file each beside this module, an entry a line, `#` begins a comment line."""

from __future__ import annotations

from pathlib import Path


def read_list(name: str) -> frozenset[str]:
    """The entries of NAME.txt, in lower case.

    >>> "automoderator" in read_list("bots")
    True
    """
    lines = Path(__file__).with_name(f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line.strip().lower() for line in lines if line.strip() and not line.startswith("#"))


SENSITIVE_SUBREDDITS = read_list("sensitive_subreddits")
BOTS = read_list("bots")
MILD_WORDS = read_list("mild_words")
OTHER_SENSES = {word: frozenset(others.split()) for word, others in (line.split(":") for line in read_list("other_senses"))}
