"""inbox: carry out people's requests, and withdraw unwanted replies; the first step of a posting run.

Reads  the account's inbox since the last run (read and unread), its newest replies on Reddit, and the ledger.
Writes the ledger, which it creates if it is missing; deletes replies of ours; marks processed requests as read. The rest of the inbox is
       left for a person.

    python run_bot.py inbox --config FILE

- People who ask the bot to stop, in a reply to it, a private message or its subject, never get a reply again: `!stop` and everything else
  that conduct.asks recognizes, such as «stop replying to me» and «unsubscribe».
- If a person whom the bot replied to asks for deletion (`!delete`, «take this down»), the bot deletes the reply that they responded to
  or, if they sent a message, all replies to them.
- Replies of ours with karma at or below conduct.withdraw_at_karma are deleted.
- Replies of ours that were removed are recorded. The third unwelcome reply in a row benches the subreddit and ends the run once everything
  else is done.

Quoted text is ignored, because our own disclosure line contains both words. Each letter is processed once. A step is recorded after it is
done, and repeating it is harmless, so after a kill the next run completes the work. If it is still unknown whether a reply to somebody was
posted, their request for deletion stays open until that is settled. `inbox` also works while posting is paused.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bot import cli, config
from bot.cli import UserError
from bot.conduct import asks, where
from bot.posting import ledger, letters
from bot.posting.ledger import DAY, Reply, State
from bot.reddit import client as reddit
from bot.reddit.outcomes import Outcome
from bot.reddit.requestor import Client
from bot.reddit.threads import Letter, Standing

WATCHED_SECONDS = 180 * DAY  # Reddit archives a thread after that: no more votes or removals


class Withdrawal(StrEnum):
    """Why a reply of ours was deleted."""

    ASKED_TO = "deleted_on_request"
    LOW_KARMA = "deleted_for_karma"


@dataclass(frozen=True, slots=True)
class Request:
    """What the author of one letter asks for."""

    letter: Letter
    stop: bool
    delete: bool


def request_of(letter: Letter) -> Request:
    """What a letter's text or subject asks for (a reply has no subject).

    >>> request_of(Letter("t4_a", "reader_1", "thank you!", "", 0, "unsubscribe")).stop
    True
    """
    parts = [part for part in (letter.subject, letter.body) if part]
    return Request(letter, any(map(asks.to_stop, parts)), any(map(asks.to_delete, parts)))


def to_delete(request: Request, ours: Mapping[str, Reply]) -> list[Reply]:
    """Our replies that this request deletes: the one that its author responded to or, for a message, all replies to its author.

    Replies to other people are never included. ours: our replies that are on Reddit, by fullname.
    """
    letter = request.letter
    meant = [ours[letter.parent_id]] if letter.parent_id in ours else [] if letter.parent_id else list(ours.values())
    return [reply for reply in meant if request.delete and where.same_name(reply.author, letter.author)]


def unwanted(standings: Mapping[str, Standing], ours: Mapping[str, Reply], withdraw_at_karma: int) -> list[Reply]:
    """Our replies with at most this karma."""
    return [ours[name] for name, it in standings.items() if name in ours and it.body and it.karma <= withdraw_at_karma]


def obey(client: Client, db: sqlite3.Connection, withdraw_at_karma: int, now: int) -> Counter[str]:
    """Carry out everything that is due; returns how often each action was taken.

    Raises:
        UserError: Reddit cannot be reached or read; completed actions are recorded.
    """
    done: Counter[str] = Counter()
    ours = {reply.reply_id: reply for reply in ledger.in_state(db, State.POSTED) if reply.reply_id}
    read_before = letters.done(db)
    new = [letter for letter in reddit.letters(client, letters.since_utc(db)) if letter.name not in read_before]
    requests = [request_of(letter) for letter in new]
    ours = named(client, requests, ours)
    in_doubt = [reply for reply in ledger.in_state(db, *ledger.SENT) if not reply.reply_id and reply.state != State.WITHDRAWN]
    for request in requests:
        letter, deletions = request.letter, to_delete(request, ours)
        if request.stop:
            ledger.opt_out(db, letter.author, letter.name, now)
            done["opted_out"] += 1
        deleted = [withdraw(client, db, reply, Withdrawal.ASKED_TO, done) for reply in deletions]
        if (request.stop or deletions) and all(deleted):
            reddit.mark_read(client, letter.name)
        is_waiting = request.delete and any(where.same_name(reply.author, letter.author) for reply in in_doubt)
        letters.note(db, letter.name, letter.created_utc, is_done=all(deleted) and not is_waiting)
    letters.forget_old(db)
    standing = [reply for reply in ledger.in_state(db, State.POSTED) if reply.reply_id and now - reply.intent_utc < WATCHED_SECONDS]
    now_there = reddit.standings(client, [reply.reply_id for reply in standing])
    for reply in standing:
        if reply.removed_utc is None and reply.reply_id in now_there and now_there[reply.reply_id].removed:
            ledger.note_removed(db, reply.comment_id, now)
            done["removed"] += 1
            done["unwelcome"] += ledger.bench_if_unwelcome(db, reply.subreddit, now)
        elif reply.removed_utc is not None and reply.reply_id in now_there and now_there[reply.reply_id].removed is False:
            ledger.note_restored(db, reply.comment_id)
            done["restored"] += 1
    for reply in unwanted(now_there, {reply.reply_id: reply for reply in standing}, withdraw_at_karma):
        withdraw(client, db, reply, Withdrawal.LOW_KARMA, done)
    return +done


def named(client: Client, requests: Sequence[Request], ours: Mapping[str, Reply]) -> dict[str, Reply]:
    """`ours`, with author names that `forget` removed read from Reddit again if a request may be theirs. The names are not stored."""
    asking = [request.letter for request in requests if request.delete]
    in_message = any(not letter.parent_id for letter in asking)
    answered = {letter.parent_id for letter in asking}
    unnamed = [reply.comment_id for name, reply in ours.items() if not reply.author and (in_message or name in answered)]
    authors = {name: standing.author for name, standing in reddit.standings(client, unnamed).items()}
    return {name: replace(reply, author=reply.author or authors.get(reply.comment_id, "")) for name, reply in ours.items()}


def withdraw(client: Client, db: sqlite3.Connection, reply: Reply, why: Withdrawal, done: Counter[str]) -> bool:
    """Delete a reply, record it, and count it in `done`. False if Reddit refused."""
    outcome = reddit.delete(client, reply.reply_id)
    if outcome is not Outcome.DELETED:
        ledger.note_not_deleted(db, reply.comment_id, outcome)
        done["not_deleted"] += 1
        return False
    ledger.withdraw(db, reply.comment_id, why)
    done[why] += 1
    return True


def main(config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None) -> None:
    """Carry out people's requests (to stop, to delete a reply), and withdraw unwanted replies."""
    settings = config.load(config_file)
    client = reddit.connect(settings.reddit)
    site, us = reddit.site(client), reddit.account_name(client)  # before a missing ledger is created
    with ledger.held(settings.submit.ledger, make=True) as db:
        ledger.claim(db, site, us)
        with cli.waiting("reading messages and replies"):
            done = obey(client, db, settings.conduct.withdraw_at_karma, reddit.server_utc(client))
        account = ledger.account(db)
    counts = ", ".join(f"{name} {count}" for name, count in sorted(done.items())) or "nothing to do"
    print(f"inbox: {counts}; {account}, ledger {settings.submit.ledger.absolute()}")
    if done["unwelcome"]:
        raise unwelcome()


def unwelcome() -> UserError:
    return UserError(f"{ledger.UNWELCOME_IN_A_ROW} replies in a row were removed or forbidden; review them; this run posts nothing")
