"""check: what do the gates say of these lines? For trying them on texts of one's own.

Reads  any CSV with some of the columns subreddit, title, flair, comment, reply.
Writes OUT, the same rows in the same order with two more columns: may_answer_refusal, the name of a `where.Reason` or empty, of subreddit,
       title, flair and comment; may_say_refusal, the name of a `what.Unfit` or empty, of the reply below that title and comment.

    python run_bot.py check --in lines.csv --out checked.csv
    python run_bot.py check --in - --out - < lines.csv > checked.csv

The functions are those of `fetch`, `choose` and `submit`, with the same settings. Nothing is asked of Reddit, and no ledger is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import typer

from bot import config, files, schema
from bot.cli import UserError, redirect_messages
from bot.conduct import what, where
from bot.config import ConductSettings

ANSWERED = ("subreddit", "title", "flair", "comment")
ADDED = ("may_answer_refusal", "may_say_refusal")


def refusals(row: Mapping[str, str], conduct: ConductSettings) -> tuple[str, str]:
    """The names of what speaks against answering and against saying, empty where nothing does or there is nothing to judge.

    >>> refusals({"subreddit": "petloss", "reply": "see http://a.example"}, ConductSettings())
    ('sensitive_subreddit', 'link')
    """
    subreddit, title, flair, comment = (row.get(column, "") for column in ANSWERED)
    there = any((subreddit, title, flair, comment))
    answer = where.text_refusal(subreddit, title, flair, comment, conduct) if there else None
    reply = row.get("reply", "")
    say = what.may_say(reply, _around(comment, title), conduct) if reply else None
    return answer or "", say or ""


@lru_cache(maxsize=100)
def _around(comment: str, title: str) -> what.Around:
    return what.around(comment, [title] if title else [])


def main(
    source: Annotated[Path, typer.Option("--in", help="CSV with some of subreddit, title, flair, comment, reply; - for standard input")],
    out: Annotated[Path, typer.Option(help="CSV to write, the same with two columns more; - for standard output")],
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None,
    overwrite: files.Overwrite = False,
) -> None:
    """Say of each line why the bot wouldn't answer it, or wouldn't say it."""
    settings = config.load(config_file)
    files.check_output(out, [source], overwrite)
    with redirect_messages(out):
        print(check_file(source, out, settings.conduct))


def check_file(source: Path, out: Path, conduct: ConductSettings) -> str:
    """Write `out`; returns a line that says how many of the rows are refused.

    Raises:
        UserError: no column of those that can be judged, or one that would be added.
    """
    columns, rows = schema.read_table(source)
    if not {*ANSWERED, "reply"} & set(columns):
        raise UserError(f"{schema.display_name(source)}: none of the columns {', '.join(ANSWERED)}, reply; rename the columns")
    if taken := [column for column in ADDED if column in columns]:
        raise UserError(f"{schema.display_name(source)}: has the column {taken[0]} already; give the file that was checked, not the result")
    found = [refusals(row, conduct) for row in rows]
    checked = ({**row, **dict(zip(ADDED, names, strict=True))} for row, names in zip(rows, found, strict=True))
    schema.write_table(out, [*columns, *ADDED], checked, {"conduct": conduct.model_dump(mode="json")})
    return f"{len(rows):,} rows: {sum(bool(answer) for answer, _ in found):,} not answered, {sum(bool(say) for _, say in found):,} not said"
