"""operate: what a person does beside the pipeline.

    python run_bot.py status                                 what was posted, refused, parked and capped, and why
    python run_bot.py resolve [t1_abc posted|never|again]    say what became of replies that may have been posted and can't be found
    python run_bot.py pause --reason "moderators asked"      nothing is posted from now on, by a run that is at work either
    python run_bot.py resume                                 until this
    python run_bot.py forget USER                            remove what is known of a person, and never reply to them again

status reads the ledger and the kill switch; resolve, pause and resume change the ledger. forget removes the name and our words to them
from the ledger, which keeps the ids of the comments (without them they could be replied to twice) and puts the name on the list of those
who opted out; then it purges the comments of theirs that stand in run folders.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bot import config, schema
from bot.cli import UserError
from bot.config import SubmitSettings
from bot.posting import ledger, purge
from bot.posting.ledger import DAY, HOUR, Reply, State

USER = re.compile(r"[\w-]{3,20}", re.ASCII)


# --- the ledger ---------------------------------------------------------------------------------------------------------


def status(db: sqlite3.Connection, rules: SubmitSettings, now: int) -> Iterator[str]:
    """Lines for a person. now: by this machine's clock; posting itself goes by Reddit's."""
    if reason := ledger.paused(db):
        yield f"paused: {reason}"
    if rules.kill_switch.exists():
        yield f"stopped: {rules.kill_switch} is there"
    hour, day = ledger.sent_since(db, now - HOUR), ledger.sent_since(db, now - DAY)
    yield f"sent: {hour} in the last hour (cap {rules.posts_an_hour}), {day} in 24 hours (cap {rules.posts_a_day})"
    for state, outcome, count in ledger.outcomes(db):
        yield f"{state}: {count}{f', {outcome}' if outcome not in ('', state) else ''}"
    if (until := ledger.not_before_utc(db)) and until > now:
        yield f"Reddit told us to wait until {moment(until)}"
    if refusals := ledger.refusals_since(db, now - DAY):
        yield f"not posted in 24 hours: {', '.join(f'{reason} {count}' for reason, count in refusals.items())}"
    for subreddit, until in ledger.benched(db, now).items():
        yield f"r/{subreddit} is left in peace until {moment(until)}"
    if people := ledger.everyone_opted_out(db):
        yield f"opted out: {len(people)}"


def describe(reply: Reply) -> str:
    """A parked reply, and where to look for it."""
    where = f"https://www.reddit.com/comments/{reply.thread_id.removeprefix('t3_')}/_/{reply.comment_id.removeprefix('t1_')}"
    begins = " ".join(reply.body.split())[:100]
    why = reply.error or "the run was killed"
    return f"{reply.comment_id} in r/{reply.subreddit}, sent {moment(reply.intent_utc)} ({why}): «{begins}»\n    {where}"


def resolve(db: sqlite3.Connection, comment_id: str, answer: str) -> None:
    """Write down what a person found out of a parked reply.

    Raises:
        UserError: it isn't parked, or it can't be sent again because its text was forgotten.
    """
    reply = ledger.find(db, comment_id)
    if reply is None or reply.state != State.PARKED:
        raise UserError(f"{comment_id}: not parked{f', but {reply.state}' if reply else ''}; `resolve` alone lists what is")
    when = reply.done_utc or reply.intent_utc
    if answer == "posted":
        ledger.settle(db, comment_id, State.POSTED, "posted", when, error=reply.error)
    elif answer == "never":
        ledger.settle(db, comment_id, State.REJECTED, ledger.Settled.NEVER, when, error=reply.error)
    elif not reply.body:
        raise UserError(f"{comment_id}: its text was forgotten, it can't be sent again; say posted or never")
    else:
        ledger.release(db, comment_id)


def moment(utc: int) -> str:
    """
    >>> moment(1_700_000_000)
    '2023-11-14 22:13 UTC'
    """
    return datetime.fromtimestamp(utc, UTC).strftime("%Y-%m-%d %H:%M UTC")


# --- command line -------------------------------------------------------------------------------------------------------


def status_command(config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None) -> None:
    """What was posted, refused, parked and capped, and why."""
    rules = config.load(config_file).submit
    if not rules.ledger.exists():
        print(f"{rules.ledger}: no ledger; nothing was posted yet")
        return
    with closing(ledger.open_ledger(rules.ledger)) as db:
        for line in status(db, rules, int(time.time())):
            print(line)


class Said(StrEnum):
    POSTED = "posted"
    NEVER = "never"
    AGAIN = "again"


def resolve_command(
    comment_id: Annotated[str, typer.Argument(help="t1_…, the comment that was replied to; without it, what is parked is listed")] = "",
    answer: Annotated[
        Said | None, typer.Argument(help="posted: it is there; never: give it up; again: it isn't there, the next run may send it")
    ] = None,
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None,
) -> None:
    """Say what became of replies that may have been posted and can't be found."""
    path = config.load(config_file).submit.ledger
    if not path.exists():
        raise UserError(f"{path}: no ledger; nothing was posted yet")
    if bool(comment_id) != bool(answer):
        raise UserError("say which and what: `resolve t1_… posted|never|again`; `resolve` alone lists what is parked")
    with ledger.lock(path), closing(ledger.open_ledger(path)) as db:
        if answer:
            resolve(db, comment_id, answer)
        parked = ledger.in_state(db, State.PARKED)
        for reply in parked:
            print(describe(reply))
        print(f"{len(parked)} parked" + "; look there, then `python run_bot.py resolve t1_… posted|never|again`" * bool(parked))


Config = Annotated[Path | None, typer.Option("--config", help="TOML settings")]


def pause_command(reason: Annotated[str, typer.Option(help="told by `status`")] = "paused by hand", config_file: Config = None) -> None:
    """Post nothing from now on, by a run that is at work either, until `resume`."""
    path = config.load(config_file).submit.ledger
    with closing(ledger.open_ledger(path)) as db:
        ledger.pause(db, reason)
    print(f"paused ({path}); `resume` ends it. Dry runs work on, and so do `!stop` and `!delete` when a posting run starts")


def resume_command(config_file: Config = None) -> None:
    """Post again after `pause`."""
    settings = config.load(config_file).submit
    with closing(ledger.open_ledger(settings.ledger)) as db:
        print("posting again" if ledger.resume(db) else "it was not paused; nothing to do")
    if settings.kill_switch.exists():
        print(f"but nothing is posted while {settings.kill_switch} is there; delete it")


def forget_command(
    user: Annotated[str, typer.Argument(metavar="USER", help="a name on Reddit, with or without u/")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="searched with all that lies in it")] = Path("data"),
    also: Annotated[list[Path] | None, typer.Option(metavar="DIR", help="another such folder; may be given several times")] = None,
    config_file: Config = None,
) -> None:
    """Remove what is known of a person, and never reply to them again."""
    name = user.removeprefix("/").removeprefix("u/")
    if not USER.fullmatch(name):
        raise UserError(f"{user[:40]!r} is no name of an account on Reddit; 3 to 20 letters, digits, _ and -")
    path, folders = config.load(config_file).submit.ledger, [data, *(also or [])]
    with ledger.lock(path), closing(ledger.open_ledger(path)) as db:
        ledger.opt_out(db, name, "forget", int(time.time()))  # first: whatever comes after, they are left in peace
        ids = {reply.comment_id for reply in ledger.in_state(db, *State) if reply.author.lower() == name.lower()}
        ids |= comments_of(name, folders)
        if ids:
            purge.purge(ids, folders, dry_run=False)
        print(f"the ledger names them in {ledger.forget(db, name)} replies no more; the list of those who opted out keeps the name")


def comments_of(name: str, folders: Iterable[Path]) -> set[str]:
    """The comments of a person that stand in run folders. Extracts and prepared files tell no names."""
    ids = set()
    for folder in folders:
        for path in folder.rglob("comments.csv"):
            columns, rows = schema.read_table(path)
            if {"author", "comment_id"} <= set(columns):
                ids |= {row["comment_id"] for row in rows if row["author"].lower() == name.lower()}
    return ids
