"""Candidates that readers graded: for `train choice`, `train weights` and the evaluation of both.

Reads  CSV files with the columns of schema.Graded. data/choice/graded.csv has candidates for invented comments.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from bot import schema
from bot.cli import UserError
from bot.schema import Graded

FILE = Path("data/choice/graded.csv")
GRADES = range(4)
ACCEPTABLE = 2  # grade

Part = Literal["train", "weights", "held_out"]


def part_of(comment_id: str) -> Part:
    """Which part a comment's candidates belong to, by a hash of its id: three fifths train the ranker, a fifth the weights of rank_score.

    >>> part_of("t1_a"), part_of("t1_d"), part_of("t1_f")
    ('held_out', 'train', 'train')
    """
    remainder = zlib.crc32(comment_id.encode()) % 5
    return "held_out" if remainder == 0 else "weights" if remainder == 1 else "train"


def read(paths: Sequence[Path]) -> dict[Part, list[Graded]]:
    """The rows of all files by part. Raises UserError if a file is missing, or a part lacks accepted or other candidates."""
    rows: dict[Part, list[Graded]] = {"train": [], "weights": [], "held_out": []}
    for path in paths:
        for number, row in enumerate(schema.read_rows(path, Graded), start=1):
            if row.grade not in GRADES:
                raise UserError(f"{path}: row {number}: the grade {row.grade} is not one of {', '.join(map(str, GRADES))}; correct it")
            rows[part_of(row.comment_id)].append(row)
    for part, own in rows.items():
        if len({row.grade >= ACCEPTABLE for row in own}) < 2:
            names = ", ".join(map(str, paths))
            raise UserError(
                f"{names}: the part {part!r} ({len(own)} rows) needs grades below {ACCEPTABLE} and of at least {ACCEPTABLE}; grade more"
                " candidates"
            )
    return rows
