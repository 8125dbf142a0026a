"""operate: commands for the person who runs the bot.

    python run_bot.py status                                 show what was posted, refused, parked and capped, and why
    python run_bot.py status --run data/runs/X               the same of `run --sandbox --post`, which has a ledger of its own
    python run_bot.py resolve [t1_abc posted|never|again]    decide on replies that may have been posted, but that Reddit does not show
    python run_bot.py pause --reason "moderators asked"      post nothing from now on, not even in a run that is in progress
    python run_bot.py resume                                 post again
    python run_bot.py unbench SUBREDDIT                      reply there again before its 30 days are over
    python run_bot.py forget USER                            remove a person's data, and never reply to them again

These commands use the ledger from the config and never create one: if it does not exist, they print its path. status only reads the ledger;
the others change it. forget removes the person's name and our replies to them from the ledger, keeps the ids of their comments (without
which the bot could reply to them twice), and records the name as opted out. Then it purges the person's comments from all tables under
--data and --also; links are followed.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bot import config, names, text
from bot.cli import UserError
from bot.conduct import where
from bot.config import SubmitSettings
from bot.posting import clock, database, ledger, purge
from bot.posting.database import State
from bot.posting.ledger import DAY, HOUR, Reply

LINKS = 5  # replies whose addresses `status` prints
USER = re.compile(r"[\w-]{3,20}", re.ASCII)


# --- the ledger ---------------------------------------------------------------------------------------------------------


def status(db: sqlite3.Connection, rules: SubmitSettings, now: int) -> Iterator[str]:
    """The lines that `status` prints. now: by this machine's clock; posting itself uses Reddit's."""
    yield f"ledger: {rules.ledger.absolute()} ({ledger.account(db)}); times are UTC"
    if reason := ledger.paused(db):
        yield f"paused: {reason}"
    if rules.kill_switch.exists():
        yield f"stopped: {rules.kill_switch.absolute()} exists"
    if times := clock.in_future(db, now):
        latest = ", ".join(f"{name} {moment(utc)}" for name, utc in list(times.items())[:3])
        yield f"{len(times)} times in the future, from a wrong clock ({latest}); the next run that posts sets them to the present"
    hour, day = ledger.sent_since(db, now - HOUR), ledger.sent_since(db, now - DAY)
    yield f"sent: {hour} in the last hour (cap {rules.posts_an_hour}), {day} in 24 hours (cap {rules.posts_a_day})"
    for state, outcome, count in ledger.outcomes(db):
        yield f"{state}: {count}{f', {outcome}' if outcome not in ('', state) else ''}"
    if errors := ledger.errors(db):
        yield f"errors: {', '.join(f'{name} {count}' for name, count in errors.items())}"
    if (until := ledger.not_before_utc(db)) and until > now:
        yield f"Reddit asked us to wait until {moment(until)}"
    for reply in links_of(db):
        yield f"posted {moment(reply.done_utc or reply.intent_utc)}: {names.permalink(reply.thread_id, reply.reply_id)}"
    if refusals := ledger.refusals_since(db, now - DAY):
        yield f"not posted in 24 hours: {', '.join(f'{reason} {count}' for reason, count in refusals.items())}"
    for subreddit, until in ledger.benched(db, now).items():
        yield f"r/{subreddit} is benched until {moment(until)}"
    if people := ledger.everyone_opted_out(db):
        yield f"opted out: {len(people)}"


def links_of(db: sqlite3.Connection) -> list[Reply]:
    """The newest replies on Reddit, at most LINKS, the newest last; none for the sandbox, which has no permanent address."""
    is_on_reddit = not ledger.account(db).endswith("the sandbox")
    posted = [reply for reply in ledger.in_state(db, State.POSTED) if reply.reply_id and is_on_reddit]
    return sorted(posted, key=lambda reply: reply.intent_utc)[-LINKS:]


def describe(reply: Reply) -> str:
    """A parked reply, with the URL where to look for it."""
    where = names.permalink(reply.thread_id, reply.comment_id)
    begins = text.printable(reply.body)[:100]
    why = text.printable(reply.error) or "the run was killed"
    return f"{reply.comment_id} in r/{reply.subreddit}, sent {moment(reply.intent_utc)} UTC ({why}): «{begins}»\n    {where}"


def resolve(db: sqlite3.Connection, comment_id: str, answer: str) -> None:
    """Record a person's decision on a parked reply.

    Raises:
        UserError: it is not parked, or it cannot be sent again because its text was forgotten.
    """
    reply = ledger.find(db, comment_id)
    if reply is None or reply.state != State.PARKED:
        raise UserError(f"{comment_id}: not parked{f', but {reply.state}' if reply else ''}; run `resolve` alone to list parked replies")
    when = reply.done_utc or reply.intent_utc
    if answer == "posted":
        ledger.settle(db, comment_id, State.POSTED, "posted", when, error=reply.error)
    elif answer == "never":
        ledger.settle(db, comment_id, State.REJECTED, ledger.Settled.NEVER, when, error=reply.error)
    elif not reply.body:
        raise UserError(f"{comment_id}: its text was forgotten, so it cannot be sent again; answer posted or never")
    else:
        ledger.release(db, comment_id)


def moment(utc: int) -> str:
    """In UTC.

    >>> moment(1_700_000_000), moment(10**15)
    ('2023-11-14 22:13', '1000000000000000 s')
    """
    try:
        return datetime.fromtimestamp(utc, UTC).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return f"{utc} s"


# --- command line -------------------------------------------------------------------------------------------------------

Config = Annotated[Path | None, typer.Option("--config", help="TOML settings")]


def status_command(
    config_file: Config = None,
    run: Annotated[Path | None, typer.Option(help="run folder of `run --sandbox --post`: show its ledger")] = None,
) -> None:
    """Show what was posted, refused, parked and capped, and why."""
    rules = config.load(config_file).submit
    if run is not None:
        rules = rules.model_copy(update={"ledger": run / "ledger.sqlite"})
        if not rules.ledger.exists():
            raise UserError(f"{rules.ledger}: no such ledger; only `run --sandbox --post` keeps one in its run folder")
    with closing(ledger.open_existing(rules.ledger)) as db:
        for line in status(db, rules, int(time.time())):
            print(text.printable(line))
        if run is not None:
            print(f"`python run_bot.py sandbox --run {run}` shows the posted replies in a browser")


class Answer(StrEnum):
    POSTED = "posted"
    NEVER = "never"
    AGAIN = "again"


def resolve_command(
    comment_id: Annotated[str, typer.Argument(help="t1_…, the comment that was replied to; omit it to list parked replies")] = "",
    answer: Annotated[
        Answer | None,
        typer.Argument(help="posted: it is on Reddit; never: do not send it; again: it is not on Reddit, and the next run may send it"),
    ] = None,
    config_file: Config = None,
) -> None:
    """Decide on replies that may have been posted, but that Reddit does not show."""
    path = config.load(config_file).submit.ledger
    if bool(comment_id) != bool(answer):
        raise UserError("give a comment and an answer: `resolve t1_… posted|never|again`; run `resolve` alone to list parked replies")
    with ledger.held(path) as db:
        if answer:
            resolve(db, comment_id, answer)
        parked = ledger.in_state(db, State.PARKED)
        for reply in parked:
            print(describe(reply))
        print(f"{len(parked)} parked" + "; look on Reddit, then run `python run_bot.py resolve t1_… posted|never|again`" * bool(parked))


def pause_command(reason: Annotated[str, typer.Option(help="shown by `status`")] = "paused by hand", config_file: Config = None) -> None:
    """Post nothing from now on, not even in a run that is in progress, until `resume`."""
    path = config.load(config_file).submit.ledger
    with closing(ledger.open_existing(path)) as db:
        ledger.pause(db, reason)
        account = ledger.account(db)
    print(f"paused: {account}, {path.absolute()}; `resume` ends it. Dry runs still work, and posting runs still obey `!stop` and `!delete`")


def resume_command(config_file: Config = None) -> None:
    """Post again after `pause`."""
    settings = config.load(config_file).submit
    with closing(ledger.open_existing(settings.ledger)) as db:
        was_paused, account = ledger.resume(db), ledger.account(db)
    print(f"{'posting again' if was_paused else 'was not paused; nothing to do'}: {account}, {settings.ledger.absolute()}")
    if settings.kill_switch.exists():
        print(f"but nothing is posted while {settings.kill_switch.absolute()} exists; delete it")


def unbench_command(
    subreddit: Annotated[str, typer.Argument(metavar="SUBREDDIT", help="a name, with or without r/")], config_file: Config = None
) -> None:
    """Reply again in a subreddit that is benched after refusals or removals."""
    path, name = config.load(config_file).submit.ledger, names.plain_name(subreddit)
    with closing(ledger.open_existing(path)) as db:
        if not ledger.unbench(db, name, int(time.time())):
            raise UserError(f"r/{name} is not benched in {path.absolute()}; `status` lists those that are")
        print(f"r/{name} is no longer benched: {ledger.account(db)}, {path.absolute()}")


def forget_command(
    user: Annotated[str, typer.Argument(metavar="USER", help="a name on Reddit, with or without u/")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="folder to search, with all its subfolders")] = Path("data"),
    also: Annotated[list[Path] | None, typer.Option(metavar="DIR", help="another such folder; may be repeated")] = None,
    config_file: Config = None,
) -> None:
    """Remove a person's data, and never reply to them again."""
    name = user.removeprefix("/").removeprefix("u/").removeprefix("U/")
    if not USER.fullmatch(name):
        raise UserError(f"{user[:40]!r} is not a valid account name on Reddit; give 3 to 20 letters, digits, _ and -")
    path, folders = config.load(config_file).submit.ledger, [data, *(also or [])]
    purge.check_folders(folders)
    with ledger.held(path) as db:
        ledger.opt_out(db, name, "forget", int(time.time()))  # first, so that it holds even if a later step fails
        problems = forget(db, name, folders)
        count = ledger.forget(db, name)
        print(f"{path.absolute()} ({ledger.account(db)}): name removed from {count} replies, and kept in the list of those who opted out")
        if not database.empty_wal(db):
            problems.append(f"{path.absolute()}-wal: another program has the ledger open; the name stays there until it is closed")
    if problems:
        raise UserError(f"{len(problems)} may contain traces of them: {'; '.join(problems)}")


def forget(db: sqlite3.Connection, name: str, folders: Sequence[Path]) -> list[str]:
    """Purge a person's comments from all tables in the folders. Returns the problems with files; everything else is done.

    Raises:
        UserError: a run is in progress in one of the folders.
    """
    problems: list[str] = []
    ids = {reply.comment_id for reply in ledger.in_state(db, *State) if where.same_name(reply.author, name)}
    ids |= comments_of(name, folders, problems)
    if ids:
        problems += purge.purge_files(ids, folders)
    return list(dict.fromkeys(problems))


def comments_of(name: str, folders: Iterable[Path], problems: list[str]) -> set[str]:
    """The ids of a person's comments and submissions in tables with user names, i.e. those of run folders.

    Extracts and prepared files have no user names.
    """
    ids = set()
    for path in purge.files_in(folders, None, problems)["table"]:
        with purge.noted(problems, path):
            columns = set(purge.columns_of(path))
            for person, wrote in (("author", "comment_id"), ("submitter", "thread_id")):
                if {person, wrote} <= columns:
                    ids |= {written for who, written in purge.cells_of(path, [person, wrote]) if where.same_name(str(who), name)}
    return ids
