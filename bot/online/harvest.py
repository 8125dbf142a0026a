"""harvest: record karma, responses and removal of our replies on Reddit, 1 hour, 24 hours and 7 days after posting.

Reads  the ledger; and, from Reddit, our replies and the comments that they answer.
Writes data/harvest.csv, one row per reply and age; existing rows are kept.

    python run_bot.py harvest --config FILE --out data/harvest.csv
    python run_bot.py harvest --run data/runs/X --out data/sandbox_harvest.csv      the replies of `run --sandbox --post`

Run it every hour or two. A reply is measured once when it is 1 to 2 hours old, once at 24 to 48 hours and once at 7 to 14 days. If no run
takes place in one of these periods, that row is missing; nothing is estimated. age_hours is the reply's age at the measurement, by
Reddit's clock. The same command resumes where it stopped.

The comment is read again; it is empty if it has since been deleted, or if its author opted out or was forgotten. Our reply is stored
without its disclosure line. removed: the reply is no longer visible to others, for whatever reason. `train upvote --harvest` learns from
these rows.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated

import typer

from bot import cli, config, files, markdown, schema
from bot.posting import ledger
from bot.posting.ledger import HOUR, Reply, State
from bot.reddit import client as reddit
from bot.reddit.requestor import Client
from bot.reddit.threads import Standing
from bot.sandbox.process import sandbox_of, sandbox_process, sandbox_settings
from bot.schema import Harvested

AGES_HOURS = (1, 24, 168)  # a reply is measured between each of these ages and twice that age
BATCH = 50  # the file is written after this many replies


def age_of(hours: float) -> int | None:
    """The entry of AGES_HOURS that a measurement at this age belongs to, or None.

    >>> [age_of(hours) for hours in (0.9, 1, 1.9, 2, 30, 47.9, 48, 200)]
    [None, 1, 1, None, 24, 24, None, 168]
    """
    return next((age for age in AGES_HOURS if age <= hours < 2 * age), None)


def due(replies: Iterable[Reply], rows: Iterable[Harvested], now: float) -> list[Reply]:
    """Our replies that are due for a measurement. now: epoch seconds."""
    seen = {(row.reply_id, age_of(row.age_hours)) for row in rows}
    ages = ((reply, age_of((now - reply.intent_utc) / HOUR)) for reply in replies)
    return [reply for reply, age in ages if reply.reply_id and age is not None and (reply.reply_id, age) not in seen]


def next_due_minutes(replies: Iterable[Reply], now: float) -> int | None:
    """Minutes until a reply reaches one of AGES_HOURS, rounded up; None if all are older. now: epoch seconds."""
    left = [age * HOUR - (now - reply.intent_utc) for reply in replies for age in AGES_HOURS]
    later = [seconds for seconds in left if seconds > 0]
    return math.ceil(min(later) / 60) if later else None


def look(
    reply: Reply, standings: Mapping[str, Standing], count: Callable[[str], int], now: float, opted_out: Collection[str] = ()
) -> Harvested | None:
    """A row, or None if Reddit does not return the reply. A reply without text counts as removed. opted_out: names in lower case."""
    ours, theirs = standings.get(reply.reply_id), standings.get(reply.comment_id)
    if ours is None:
        return None
    removed = bool(ours.removed) or not ours.body
    return Harvested(
        reply_id=reply.reply_id,
        comment_id=reply.comment_id,
        thread_id=reply.thread_id,
        subreddit=reply.subreddit,
        comment=markdown.well_formed(theirs.body) if theirs and theirs.author.lower() not in opted_out else "",
        reply=reply.body,
        age_hours=round((now - ours.created_utc) / HOUR, 2),
        karma=ours.karma,
        replies=count(reply.reply_id),
        removed=removed,
    )


def harvest(client: Client, replies: Sequence[Reply], out: Path, now: float, opted_out: Collection[str] = ()) -> int:
    """Add a row for each of our replies that is due; returns how many. opted_out: people whose comments are not stored.

    Raises:
        UserError: Reddit cannot be reached or read, or `out` is not a harvest table. Rows that were already read are kept.
    """
    rows = schema.read_rows(out, Harvested) if out.exists() else []
    before = len(rows)
    wanted = due(replies, rows, now)
    for start in range(0, len(wanted), BATCH):
        batch = wanted[start : start + BATCH]
        standings = reddit.standings(client, [name for reply in batch for name in (reply.reply_id, reply.comment_id)])
        looked = (look(reply, standings, lambda name: reddit.count_replies(client, name), now, opted_out) for reply in batch)
        rows += [row for row in looked if row is not None and age_of(row.age_hours) is not None]
        schema.write_rows(out, Harvested, rows)
    return len(rows) - before


def main(
    out: Annotated[Path, typer.Option(help="the CSV to write; existing rows are kept")] = Path("data/harvest.csv"),
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None,
    run: Annotated[Path | None, typer.Option(help="run folder of `run --sandbox --post`: use its sandbox and ledger")] = None,
) -> None:
    """Record karma, replies and removal of our own replies."""
    files.check_output(out)
    with ExitStack() as stack:
        if run is not None:
            sandbox_of(run)
            stack.enter_context(files.run_folder(run))
            os.environ |= sandbox_settings(stack.enter_context(sandbox_process(run)), run)
        harvest_to(out, config.load(config_file))


def harvest_to(out: Path, settings: config.Settings) -> None:
    """`harvest` for the replies in the ledger. Raises UserError if there is none, or Reddit cannot be reached."""
    path = settings.submit.ledger
    with closing(ledger.open_existing(path)) as db:
        client = reddit.connect(settings.reddit)
        ledger.claim(db, reddit.site(client), reddit.account_name(client))
        replies = ledger.in_state(db, State.POSTED, State.WITHDRAWN)
        opted_out = ledger.everyone_opted_out(db)
        account = ledger.account(db)
    now = reddit.server_utc(client)
    with cli.waiting("reading our replies"):
        count = harvest(client, replies, out, now, opted_out)
    print(f"harvest: {count} rows added; {out} ({account}, {path.absolute()})")
    if (minutes := next_due_minutes(replies, now)) is not None and not count:
        print(f"harvest: {len(replies)} replies are posted; the next measurement is due in {minutes} minutes")
