"""copies: is a text a near-copy of another, and of what a generator was trained on?

`train lm` writes MODEL/replies.npy, the sketches of the replies it trained on; for a model that was trained without, or elsewhere:

    python run_bot.py train sketches --data data/prepared --model models/lm
    python run_bot.py train sketches --data data/prepared --model models/lm --bytes 16 --max-tokens 96      small enough for git

Reads  DATA/lm_train.csv.
Writes MODEL/replies.npy: a row of 64 bytes for each reply of at least 8 words, from which no text can be read. 64 MB a million replies.
       With 16 bytes a near-copy with one word of 20 changed is still found 99 times in 100, one with one word of 10 changed 8 times in 10.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from bot import files
from bot.cli import UserError

FILE = "replies.npy"
LEAST_WORDS = 8  # two people find the same seven words
PASSAGE_CHARACTERS = 40  # so long a text inside a longer one was taken from it
SKETCH_BYTES, LEAST_BYTES = 64, 16
SKETCH_SHARE = 0.55  # of the pairs of words: one word of 20 changed leaves 0.81, one of 10 leaves 0.64; chance has hardly any

_WORD = re.compile(r"[^\W_]+")


def plain(body: str) -> str:
    """What is compared: the words, without case, punctuation and width; a text without words as it is.

    >>> plain("So, it's  YOU!"), plain("👍")
    ('so its you', '👍')
    """
    folded = unicodedata.normalize("NFKC", body).casefold().replace("'", "").replace("’", "")
    return " ".join(_WORD.findall(folded)) or folded.strip()


def is_copy(said: str, others: Sequence[str], least: float) -> bool:
    """True where one of `others` is as like `said` as `least` (1: the same), or holds it as a passage. All of them `plain`.

    >>> is_copy("so its you", ["why", "so its you all"], 0.95), is_copy("so its you again", ["so its you  again"], 0.95)
    (False, True)
    """
    from rapidfuzz import fuzz, process

    if not said:
        return False
    cutoff = 100 * least
    if process.extractOne(said, others, scorer=fuzz.ratio, score_cutoff=cutoff):
        return True
    if len(said) < PASSAGE_CHARACTERS:
        return False
    # The exact search costs 20 microseconds a text. As few changes as `least` permits leave one of these pieces whole.
    changes = int((1 - least) * 2 * len(said))
    size = len(said) // (changes + 1)
    pieces = [said[start : start + size] for start in range(0, size * (changes + 1), size)] if size else [""]
    longer = (other for other in others if len(other) > len(said) and any(piece in other for piece in pieces))
    return any(fuzz.partial_ratio(said, other, score_cutoff=cutoff) >= cutoff for other in longer)


def sketch(replies: Iterable[str]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(replies of at least LEAST_WORDS words, 64): MinHash over pairs of words, the lowest byte of each (Li and König 2010,
    arXiv:0910.3349). The share of bytes that two rows have in common estimates the share of pairs of words that the texts have.
    """
    from rensa import RMinHash  # type: ignore[import-untyped]

    words = [said for said in (plain(reply).split() for reply in replies) if len(said) >= LEAST_WORDS]
    pairs = [[f"{one} {two}" for one, two in pairwise(said)] for said in words]
    rows = [each.digest() for each in RMinHash.from_token_sets(pairs, SKETCH_BYTES, 1)] if pairs else []
    return (np.array(rows, np.uint32).reshape(-1, SKETCH_BYTES) & 0xFF).astype(np.uint8)


def is_sketched(reply: str, sketches: np.ndarray[Any, Any]) -> bool:
    """True for a near-copy of a reply that stands in `sketches`.

    >>> story = "my first job was in a bakery and I got up at three every day"
    >>> is_sketched(story.replace("bakery", "brewery"), sketch([story]))
    True
    >>> is_sketched("my first dog was in a bakery last day", sketch([story]))
    False
    """
    own = sketch([reply])[:, : sketches.shape[1]]
    if not len(own) or not len(sketches):
        return False
    return bool((sketches == own[0]).mean(axis=1).max() >= SKETCH_SHARE)


def write(model: Path, replies: Sequence[str], sketch_bytes: int = SKETCH_BYTES) -> int:
    """Put replies.npy into a model's folder, whole or not at all; returns its rows."""
    rows = np.unique(sketch(replies)[:, :sketch_bytes], axis=0)
    with files.atomic_binary_writer(model / FILE) as file:
        np.save(file, rows)
    return len(rows)


def read(model: Path) -> np.ndarray[Any, Any] | None:
    """The sketches beside a generator, None where there are none.

    Raises:
        UserError: the file isn't what `write` writes.
    """
    path = model / FILE
    try:
        with path.open("rb") as file:
            rows: np.ndarray[Any, Any] = np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path}: not readable ({error}); make it again with `python run_bot.py train sketches`, or delete it") from None
    if rows.dtype != np.uint8 or rows.ndim != 2 or not LEAST_BYTES <= rows.shape[1] <= SKETCH_BYTES:
        what = f"not sketches of {LEAST_BYTES} to {SKETCH_BYTES} bytes"
        raise UserError(f"{path}: {what}; make it again with `python run_bot.py train sketches`, or delete it")
    return rows
