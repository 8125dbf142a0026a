"""Detect near-copies of other texts and of the replies that a generator was trained on.

`train lm` writes MODEL/replies.npy, sketches of its training replies. For a model that has none, run:

    python run_bot.py train sketches --data data/prepared --model models/lm
    python run_bot.py train sketches --data data/prepared --model models/lm --bytes 16 --max-tokens 96      small enough for git

Reads  DATA/lm_train.csv.
Writes MODEL/replies.npy: 64 bytes for each reply of at least 8 words (64 MB per million replies). The text cannot be reconstructed.
       With 16 bytes, a near-copy is still detected in 99 % of cases if one word of 20 is changed, and in 80 % if one word of 10 is changed.
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
MIN_WORDS = 8  # shorter replies may be equal by coincidence
PASSAGE_CHARACTERS = 40  # a text of this length inside a longer one counts as copied
SKETCH_BYTES, MIN_BYTES = 64, 16
SKETCH_SHARE = 0.55  # of word pairs: 0.81 remain if one word of 20 is changed, 0.64 if one of 10; unrelated texts share almost none

_WORD = re.compile(r"[^\W_]+")


def plain(body: str) -> str:
    """Normalize a text for comparison: its words without case, punctuation and character width; a text without words stays unchanged.

    >>> plain("So, it's  YOU!"), plain("👍")
    ('so its you', '👍')
    """
    folded = unicodedata.normalize("NFKC", body).casefold().replace("'", "").replace("’", "")
    return " ".join(_WORD.findall(folded)) or folded.strip()


def is_copy(text: str, others: Sequence[str], threshold: float) -> bool:
    """True if one of `others` has at least the similarity `threshold` to `text` (1: equal), or contains it as a passage.

    All texts must be normalized by `plain`.

    >>> is_copy("so its you", ["why", "so its you all"], 0.95), is_copy("so its you again", ["so its you  again"], 0.95)
    (False, True)
    """
    from rapidfuzz import fuzz, process

    if not text:
        return False
    cutoff = 100 * threshold
    if process.extractOne(text, others, scorer=fuzz.ratio, score_cutoff=cutoff):
        return True
    if len(text) < PASSAGE_CHARACTERS:
        return False
    # The exact search takes 20 microseconds per text, so filter first: with so few changes, at least one of these pieces is unchanged.
    changes = int((1 - threshold) * 2 * len(text))
    size = len(text) // (changes + 1)
    pieces = [text[start : start + size] for start in range(0, size * (changes + 1), size)] if size else [""]
    longer = (other for other in others if len(other) > len(text) and any(piece in other for piece in pieces))
    return any(fuzz.partial_ratio(text, other, score_cutoff=cutoff) >= cutoff for other in longer)


def sketch(replies: Iterable[str]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The sketches of all replies with at least MIN_WORDS words, shape (replies, 64).

    A sketch is a MinHash over pairs of words, reduced to the lowest byte of each hash (Li and König 2010, arXiv:0910.3349). The share of
    equal bytes in two rows estimates the share of word pairs that the texts have in common.
    """
    from rensa import RMinHash  # type: ignore[import-untyped]

    texts = [words for words in (plain(reply).split() for reply in replies) if len(words) >= MIN_WORDS]
    pairs = [[f"{one} {two}" for one, two in pairwise(words)] for words in texts]
    rows = [each.digest() for each in RMinHash.from_token_sets(pairs, SKETCH_BYTES, 1)] if pairs else []
    return (np.array(rows, np.uint32).reshape(-1, SKETCH_BYTES) & 0xFF).astype(np.uint8)


def is_sketched(reply: str, sketches: np.ndarray[Any, Any]) -> bool:
    """True if the reply is a near-copy of a reply in `sketches`.

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


def write(model: Path, replies: Sequence[str], sketch_bytes: int = SKETCH_BYTES, earlier: np.ndarray[Any, Any] | None = None) -> int:
    """Write replies.npy to a model folder. Returns the number of sketches. earlier: those of the model that this one continues."""
    rows = sketch(replies)[:, :sketch_bytes]
    if earlier is not None:
        width = min(rows.shape[1], earlier.shape[1])
        rows = np.concatenate([earlier[:, :width], rows[:, :width]])
    rows = np.unique(rows, axis=0)
    with files.atomic_binary_writer(model / FILE) as file:
        np.save(file, rows)
    return len(rows)


def read(model: Path) -> np.ndarray[Any, Any] | None:
    """Read the sketches in a model folder. None if there are none.

    Raises:
        UserError: the file is not readable or was not written by `write`.
    """
    path = model / FILE
    try:
        with path.open("rb") as file:
            rows: np.ndarray[Any, Any] = np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path}: not readable ({error}); recreate it with `python run_bot.py train sketches`, or delete it") from None
    if rows.dtype != np.uint8 or rows.ndim != 2 or not MIN_BYTES <= rows.shape[1] <= SKETCH_BYTES:
        what = f"not sketches of {MIN_BYTES} to {SKETCH_BYTES} bytes"
        raise UserError(f"{path}: {what}; recreate it with `python run_bot.py train sketches`, or delete it")
    return rows
