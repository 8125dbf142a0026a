"""Write docs/files.md, the columns of every file, from the row types in bot/schema.py and the names in its columns.

python docs/make_files.py        tests/test_docs.py checks that the file is current
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bot import schema  # noqa: E402
from bot.conduct.reasons import Reason  # noqa: E402
from bot.conduct.what import Unfit  # noqa: E402
from bot.conduct.when import Refusal  # noqa: E402
from bot.posting.ledger import Settled  # noqa: E402
from bot.reddit.outcomes import Outcome  # noqa: E402

FILE = ROOT / "docs" / "files.md"
HEAD = """\
# Files and their columns

Written by `python docs/make_files.py` from bot/schema.py; do not edit.

CSV files are UTF-8 as in RFC 4180: a header row, `\\r\\n`, quotes doubled. Types are never guessed: `NA`, `007` and `1e5` in a column of
text stay text. Ids are Reddit's full names (`t1_…` a comment, `t3_…` a submission). Times (`…_utc`) are seconds since 1970-01-01, UTC.
Scores (`…_score`) are probabilities in [0, 1]. An empty cell of a number means that there is none, such as the score of a ranker that is
not set. Columns of "text or empty" may be missing in files of older versions.

Each file is written whole or not at all, with a manifest next to it (`FILE.manifest.json`: rows, sha256, what it was made from), except
`approvals.csv` and answers of `judge`, to which lines are appended. `RUN/for_spreadsheet.csv` has the columns of scored.csv, made safe for
spreadsheet programs: with a byte order mark, and no cell is read as a formula. `RUN/log.jsonl`, `metrics.json` and `summary.txt` describe
the run.
"""
NAMES = {
    "verdict": (schema.Verdict, "of a candidate, in scored.csv"),
    "reason, not chosen": (schema.NotChosen, "why a candidate is not chosen, in scored.csv"),
    "reason, not fit": (Unfit, "why a text must not be posted, in scored.csv, submitted.csv and `check`"),
    "reason, not answered": (Reason, "why a comment is not answered, in skipped.csv, submitted.csv and `check`"),
    "outcome, not now": (Refusal, "why a reply is not posted at this time, in submitted.csv"),
    "outcome, of a post": (Outcome, "the result of an attempt, in submitted.csv"),
    "outcome, settled": (Settled, "the state of a reply in the ledger, in submitted.csv and `status`"),
    "act": (schema.Act, "of a person, in approvals.csv"),
}
TYPES = {"str": "text", "int": "integer", "float": "number", "bool": "0 or 1"}


def row_types() -> Iterator[type]:
    """The row types of bot/schema.py, in their order there."""
    for each in vars(schema).values():
        if inspect.isclass(each) and dataclasses.is_dataclass(each) and each.__module__ == schema.__name__:
            yield each


def type_of(field: dataclasses.Field[object]) -> str:
    """
    >>> [type_of(field) for field in dataclasses.fields(schema.LossRow)]
    ['integer', 'number or empty', 'number or empty']
    """
    name, _, rest = str(field.type).partition(" | ")
    return TYPES[name] + (" or empty" if rest or field.default is not dataclasses.MISSING else "")


def sections() -> Iterator[str]:
    """The parts of the file."""
    yield HEAD
    for each in row_types():
        yield f"## {each.__name__}\n\n{inspect.cleandoc(each.__doc__ or '')}\n"
        yield "| column | type |\n|---|---|\n" + "".join(f"| `{field.name}` | {type_of(field)} |\n" for field in dataclasses.fields(each))
    yield "# Names in the columns\n"
    for title, (names, where) in NAMES.items():
        yield f"## {title}\n\n{where[0].upper()}{where[1:]}.\n"
        yield "| name | meaning |\n|---|---|\n" + "".join(f"| `{name}` | {phrase} |\n" for name, phrase in schema.phrases(names).items())


def written() -> str:
    return "\n".join(sections())


if __name__ == "__main__":
    FILE.write_text(written(), encoding="utf-8")
    print(f"{FILE.relative_to(ROOT)} written")
