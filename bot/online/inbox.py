"""inbox: obey people, and take back what nobody wanted; the first thing that a posting run does.

Reads  the account's unread messages and the newest of its replies on Reddit, and the ledger.
Writes the ledger; deletes replies of ours; marks what was obeyed as read. All else in the inbox stays unread, for a person.

    python run_bot.py inbox --config FILE

- `!stop`, in a reply to us or a private message: its author is never replied to again.
- `!delete`, in a reply to us by the person whom we replied to: our reply is deleted.
- A reply of ours whose karma fell to conduct.withdraw_at_karma is deleted.
- A reply of ours that was removed is noted; the third unwelcome one in a row benches the subreddit, and ends the run when all else is done.

A quote doesn't count: our own disclosure line has both words. Each step is done before it is noted and does no harm when it is done again,
so after a kill the next run finishes it. A pause doesn't keep it from working.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bot import config, text
from bot.cli import UserError
from bot.conduct import where
from bot.posting import ledger
from bot.posting.ledger import DAY, Reply, State
from bot.reddit import client as reddit
from bot.reddit.outcomes import Outcome
from bot.reddit.requestor import Client
from bot.reddit.threads import Letter, Standing

WATCHED_SECONDS = 180 * DAY  # after that Reddit archives a thread: no votes, no removals. A call a hundred replies


class Command(StrEnum):
    STOP = "!stop"
    DELETE = "!delete"


class Withdrawal(StrEnum):
    """Why a reply of ours was deleted."""

    ASKED_TO = "deleted_on_request"
    LOW_KARMA = "deleted_for_karma"


@dataclass(frozen=True, slots=True)
class Order:
    """What one letter asks for. delete: the reply to delete, None for none."""

    letter: Letter
    stop: bool
    delete: Reply | None


def commands(body: str) -> set[Command]:
    """The commands in a body; what it quotes is not said by its author.

    >>> sorted(commands("Please !STOP, and\\n\\n!delete this")), commands("> reply !stop\\n\\nWhat for?"), commands("wow!stop")
    ([<Command.DELETE: '!delete'>, <Command.STOP: '!stop'>], set(), set())
    """
    words = set(re.findall(r"(?<!\w)!(?:stop|delete)\b", text.clean(body).lower()))
    return {command for command in Command if command in words}


def orders(letters: Sequence[Letter], ours: Mapping[str, Reply]) -> list[Order]:
    """The letters that ask for something we do, in order. ours: our replies that stand, by their fullname."""
    found = []
    for letter in letters:
        said = commands(letter.body)
        reply = ours.get(letter.parent_id)
        mine = reply if reply and Command.DELETE in said and where.same_name(reply.author, letter.author) else None
        if Command.STOP in said or mine:
            found.append(Order(letter, Command.STOP in said, mine))
    return found


def unwanted(standings: Mapping[str, Standing], ours: Mapping[str, Reply], withdraw_at_karma: int) -> list[Reply]:
    """Our replies that stand at so little karma."""
    return [ours[name] for name, it in standings.items() if name in ours and it.body and it.karma <= withdraw_at_karma]


def obey(client: Client, db: sqlite3.Connection, withdraw_at_karma: int, now: int) -> Counter[str]:
    """Do all that is to be done; returns how often what was done.

    Raises:
        UserError: Reddit can't be reached or read; what was done is noted.
    """
    done: Counter[str] = Counter()
    ours = {reply.reply_id: reply for reply in ledger.in_state(db, State.POSTED) if reply.reply_id}
    letters = reddit.unread(client)
    for order in orders(letters, named(client, letters, ours)):
        if order.stop:
            ledger.opt_out(db, order.letter.author, order.letter.name, now)
            done["opted_out"] += 1
        if order.delete and not withdraw(client, db, order.delete, Withdrawal.ASKED_TO, done):
            continue  # stays unread, for the next run
        reddit.mark_read(client, order.letter.name)
    standing = [reply for reply in ledger.in_state(db, State.POSTED) if reply.reply_id and now - reply.intent_utc < WATCHED_SECONDS]
    found = reddit.standings(client, [reply.reply_id for reply in standing])
    for reply in standing:
        if reply.removed_utc is None and reply.reply_id in found and found[reply.reply_id].removed:
            ledger.note_removed(db, reply.comment_id, now)
            done["removed"] += 1
            done["unwelcome"] += ledger.bench_if_unwelcome(db, reply.subreddit, now)
        elif reply.removed_utc is not None and reply.reply_id in found and found[reply.reply_id].removed is False:
            ledger.note_restored(db, reply.comment_id)
            done["restored"] += 1
    for reply in unwanted(found, {reply.reply_id: reply for reply in standing}, withdraw_at_karma):
        withdraw(client, db, reply, Withdrawal.LOW_KARMA, done)
    return +done


def named(client: Client, letters: Sequence[Letter], ours: Mapping[str, Reply]) -> dict[str, Reply]:
    """`ours`; where `forget` removed the name of the person replied to and a letter answers, Reddit says it anew. It isn't kept."""
    asked = [ours[letter.parent_id].comment_id for letter in letters if letter.parent_id in ours and not ours[letter.parent_id].author]
    authors = {name: it.author for name, it in reddit.standings(client, asked).items()}
    return {name: replace(reply, author=reply.author or authors.get(reply.comment_id, "")) for name, reply in ours.items()}


def withdraw(client: Client, db: sqlite3.Connection, reply: Reply, why: Withdrawal, done: Counter[str]) -> bool:
    """Delete a reply and note it; counts it in `done`. False where Reddit refused."""
    outcome = reddit.delete(client, reply.reply_id)
    if outcome is not Outcome.DELETED:
        ledger.note_not_deleted(db, reply.comment_id, outcome)
        done["not_deleted"] += 1
        return False
    ledger.withdraw(db, reply.comment_id, why)
    done[why] += 1
    return True


def main(config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None) -> None:
    """Obey `!stop` and `!delete`, and withdraw replies that nobody wanted."""
    settings = config.load(config_file)
    with ledger.held(settings.submit.ledger) as db:
        client = reddit.connect(settings.reddit)
        ledger.claim(db, reddit.site(client), reddit.account_name(client))
        done = obey(client, db, settings.conduct.withdraw_at_karma, reddit.server_utc(client))
    print(f"inbox: {', '.join(f'{name} {count}' for name, count in sorted(done.items())) or 'nothing to do'}")
    if done["unwelcome"]:
        raise UserError(f"{ledger.UNWELCOME_IN_A_ROW} replies in a row were removed or forbidden; look at them, this run posts nothing")
