"""check: try out the conduct rules on any texts.

Reads  any CSV with some of the columns subreddit, title, flair, comment, reply.
Writes the same rows in the same order with two more columns: may_answer_refusal, why the comment would not be answered (a `where.Reason`,
       from subreddit, title, flair and comment), and may_say_refusal, why the reply would not be posted (a `what.Unfit`, from the reply,
       given title and comment). Both are empty if there is no refusal.

    python run_bot.py check --in lines.csv --out checked.csv

It calls the functions that `fetch`, `choose` and `submit` use, with the same settings. It neither connects to Reddit nor needs a ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from bot import config, files, schema
from bot.cli import UserError, redirect_messages
from bot.conduct import what, where
from bot.config import ConductSettings
from bot.rankers import classifier

PLACE = ("subreddit", "title", "flair", "comment")
REFUSALS = ("may_answer_refusal", "may_say_refusal")


def check(rows: Sequence[Mapping[str, str]], conduct: ConductSettings) -> list[tuple[str, str]]:
    """The names of the two refusals for each row; empty if there is no refusal or no text to judge. Columns may be missing.

    Raises:
        UserError: a classifier cannot be read.
    """
    places = [tuple(row.get(name, "") for name in PLACE) for row in rows]
    pieces = dict.fromkeys(piece for _, title, flair, comment in places for piece in where.pieces_judged(title, flair, comment))
    likely = classifier.judge_pieces([*pieces], conduct)
    replies = [row.get("reply", "") for row in rows]
    judged = classifier.judge_replies(replies, conduct)
    refusals = []
    for place, reply, probabilities in zip(places, replies, judged, strict=True):
        subreddit, title, flair, comment = place
        may_answer = where.text_refusal(subreddit, title, flair, comment, conduct, likely=likely) if any(place) else None
        may_say = what.may_say(reply, what.around(comment, [title]), conduct, probabilities) if reply else None
        refusals.append((may_answer or "", may_say or ""))
    return refusals


def main(
    source: Annotated[
        Path, typer.Option("--in", help="CSV with some of the columns subreddit, title, flair, comment, reply; - for standard input")
    ],
    out: Annotated[Path, typer.Option(help="CSV to write; - for standard output")],
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None,
    overwrite: files.Overwrite = False,
) -> None:
    """For each row, write why the comment would not be answered and why the reply would not be posted."""
    settings = config.load(config_file)
    files.check_output(out, [source], overwrite)
    header, rows = schema.read_table(source)
    known = (*PLACE, "reply")
    misspelt = [name for name in known if name not in header and name in schema.plain_names(header)]
    if misspelt or not {*known} & {*header}:
        raise UserError(
            f"{schema.display_name(source)}: expected some of the columns {', '.join(known)}, found {schema.one_line(', '.join(header))};"
            f" {schema.remedy_for(header, misspelt or known)}"
        )
    refusals = check(rows, settings.conduct)
    columns = [*(name for name in header if name not in REFUSALS), *REFUSALS]
    with redirect_messages(out):
        checked = [{**row, **dict(zip(REFUSALS, names, strict=True))} for row, names in zip(rows, refusals, strict=True)]
        schema.write_table(out, columns, checked)
        counts = [sum(bool(names[side]) for names in refusals) for side in (0, 1)]
        print(f"{len(rows):,} rows: {counts[0]:,} not answered, {counts[1]:,} replies not posted; {schema.display_name(out)}")
