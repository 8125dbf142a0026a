"""adopt: compare the account's replies on Reddit with the ledger.

Reads  the account's newest comments on Reddit, the ledger and its backup; and, for `adopt`, the account's inbox.
Writes the ledger.

    python run_bot.py adopt --config FILE

Each reply of the bot carries its disclosure line. If such a reply is on Reddit and the ledger has no row for its comment, the ledger is
new, truncated, an older copy, or not the only one. Then caps, opt-outs and the limit of one reply per comment cannot be enforced. `submit`
checks this before it posts anything (`check`), and stops. `adopt` adds these replies to the ledger, with the times at which they were
posted, and processes the inbox again to recover opt-outs. What is no longer on Reddit cannot be recovered: deleted replies, and opt-outs
whose message is gone, unless the ledger's backup contains them.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Annotated

import typer

from bot import cli, config, text
from bot.cli import WrongSettings
from bot.online import inbox
from bot.online.door import without_disclosure
from bot.posting import clock, ledger
from bot.posting.database import State, file_of
from bot.posting.ledger import Reply
from bot.reddit import client as reddit
from bot.reddit.requestor import Client
from bot.reddit.threads import Standing

CHECKED, ADOPTED = 100, 1000  # number of newest comments: those of one call, and all that Reddit lists


def own_replies(client: Client, us: str, limit: int) -> list[Standing]:
    """The bot's replies among the account's newest comments, recognized by their disclosure line; newest first.

    Raises:
        UserError: Reddit cannot be reached or read.
    """
    return [each for each in reddit.own_comments(client, us, limit) if text.discloses(each.body) and each.parent_id.startswith("t1_")]


def check(db: sqlite3.Connection, client: Client, us: str) -> None:
    """Check the ledger before anything is posted. A reply that is on Reddit although its row says that it was refused is marked as posted.

    Raises:
        WrongSettings: Reddit has replies that the ledger lacks.
        UserError: Reddit cannot be reached or read.
    """
    replies = own_replies(client, us, CHECKED)
    known = ledger.all_comments(db)
    if unknown := [each for each in replies if each.parent_id not in known]:
        raise WrongSettings(
            f"{file_of(db)}: lacks {len(unknown)} of u/{us}'s latest replies ({unknown[0].name}, …): it is new, truncated, an older copy,"
            " or another ledger is in use; nothing was posted. Restore the right one, or run `python run_bot.py adopt`"
        )
    refused = {reply.comment_id: reply for reply in ledger.in_state(db, State.REJECTED)}
    for each in replies:
        if each.parent_id in refused:
            ledger.adopt(db, refused[each.parent_id], each.name, each.created_utc)


def adopt(db: sqlite3.Connection, client: Client, us: str) -> int:
    """Add the replies that the ledger lacks; returns how many. Raises the errors of `own_replies`."""
    known = ledger.all_comments(db)
    unknown = [each for each in own_replies(client, us, ADOPTED) if each.parent_id not in known]
    parents = reddit.standings(client, [each.parent_id for each in unknown])
    for each in reversed(unknown):
        author = parents[each.parent_id].author if each.parent_id in parents else ""
        reply = Reply(each.parent_id, each.thread_id, each.subreddit, author, "", "")
        ledger.adopt(db, reply, each.name, each.created_utc, without_disclosure(each.body))
    return len(unknown)


def main(config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None) -> None:
    """Add replies that are on Reddit, and opt-outs, to a ledger that lacks them."""
    settings = config.load(config_file)
    client = reddit.connect(settings.reddit)
    us = reddit.account_name(client)
    with ledger.held(settings.submit.ledger, make=True) as db:
        ledger.claim(db, reddit.site(client), us)
        clock.bring_back(db, reddit.server_utc(client))
        with cli.waiting("reading the account's replies and messages"):
            replies = adopt(db, client, us)
            before = ledger.everyone_opted_out(db)
            inbox.obey(client, db, settings.conduct.withdraw_at_karma, reddit.server_utc(client))
        people = ledger.everyone_opted_out(db) - before
        print(f"adopt: {replies} replies and {len(people)} opt-outs are new in {settings.submit.ledger.absolute()} ({ledger.account(db)})")
