"""submit: post what was chosen, each reply once or not at all.

Reads  RUN/chosen.csv, RUN/comments.csv (who wrote the comments) and the ledger.
Writes the ledger, and RUN/submitted.csv: what became of each chosen reply, and of those of earlier runs that Reddit told to wait.

    python run_bot.py submit --run data/runs/X --post

The ledger (submit.ledger) is the only truth. For each reply, in this order: the rules (conduct.may_post); a look on Reddit whether a reply
of ours is there already, and whether the comment may still be answered (conduct.may_reply_to: a run folder may be days old); the rules
again; the intent, on the disk; one POST; its result, on the disk. A refusal that Reddit names is final,
or has a time before which nothing is sent. Where it can't be known whether the comment was accepted, it is looked for, and if it isn't
found it is parked for a person (`run_bot.py resolve`) and the run posts nothing more; each later run looks again, and none sends it again.
So a killed run, too, is gone on with by the same command. One process a ledger: a second one exits with status 75 and asks Reddit nothing.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from bot import config, files, schema
from bot.cli import UserError
from bot.conduct import when, where
from bot.conduct.when import Facts, Refusal
from bot.conduct.where import Reason
from bot.config import Settings, SubmitSettings
from bot.posting import ledger
from bot.posting.ledger import DAY, HOUR, Reply, Settled, State
from bot.rankers import classifier
from bot.reddit import client as reddit
from bot.reddit.outcomes import Answer, Outcome
from bot.reddit.requestor import Client
from bot.schema import Comment, Scored, Submitted

LOOKING_SECONDS = 30 * DAY  # so long each run looks for a reply that is parked, or whose id isn't known


def submit(db: sqlite3.Connection, client: Client, chosen: list[Reply], settings: Settings) -> Iterator[Submitted]:
    """Settle what earlier runs left in doubt, then post what is ready from them and what is chosen; yields what became of each.

    Raises:
        UserError: Reddit can't be reached, or the account is wrong. What was sent stands in the ledger.
    """
    us = reddit.account_name(client)
    if not us:
        raise UserError("the account can only read; set praw_username and praw_password in the environment, or write a praw.ini")
    ledger.claim(db, reddit.site(client), us)
    for reply in ledger.in_state(db, State.UNKNOWN, State.PARKED, State.POSTED):
        lately = reddit.server_utc(client) - reply.intent_utc < LOOKING_SECONDS
        if reply.state == State.UNKNOWN or (lately and not reply.reply_id):
            look_for(db, client, us, reply)
    stopped = Refusal.SUSPENDED if reddit.is_suspended(client) else None
    ids = {reply.comment_id for reply in chosen}
    for reply in [*(each for each in ledger.in_state(db, State.READY) if each.comment_id not in ids), *chosen]:
        known = ledger.find(db, reply.comment_id)
        if known is not None and known.state != State.READY:
            yield attempt_of(reply, *said_before(known, reply), known.done_utc or known.intent_utc)
            continue
        if known is not None:
            reply = replace(known, candidate_id=reply.candidate_id, body=reply.body)
        if stopped:
            outcome, reply_id = refused(db, client, reply, stopped), ""
        else:
            outcome, reply_id = post(db, client, us, reply, settings)
            stopped = reason_to_stop(db, client, reply, outcome)
        yield attempt_of(reply, outcome, reply_id, reddit.server_utc(client))


def post(db: sqlite3.Connection, client: Client, us: str, reply: Reply, settings: Settings) -> tuple[str, str]:
    """Post one reply if nothing speaks against it. Returns an outcome (or `parked`, or a refusal's name), and our reply's fullname."""
    rules = settings.submit
    if reason := refusal(db, client, reply, rules):
        return refused(db, client, reply, reason), ""
    outcome, reply_id = reddit.find_reply(client, us, reply.comment_id)
    if reply_id:
        ledger.adopt(db, reply, reply_id, reddit.server_utc(client))
        return Refusal.ALREADY_REPLIED, reply_id
    if outcome is not Outcome.READ:
        return refused(db, client, reply, outcome), ""
    outcome, there = reddit.read_comment(client, reply.thread_id, reply.comment_id)
    if there is None:
        return refused(db, client, reply, outcome), ""
    likely = classifier.judge_pieces(where.pieces_of(there, there.comments[0]), settings.conduct)
    now = reddit.server_utc(client)
    if unfit := where.may_reply_to(there, there.comments[0], settings.fetch, settings.conduct, now, us, likely=likely):
        return refused(db, client, reply, unfit), ""
    reply = replace(reply, subreddit=there.subreddit, author=there.comments[0].author)  # as Reddit says, whatever the files do
    reddit.wait_for_turn(client)
    if reason := refusal(db, client, reply, rules):
        return refused(db, client, reply, reason), ""
    ledger.intend(db, reply, reddit.server_utc(client))
    answer = reddit.reply(client, reply.comment_id, f"{reply.body.rstrip()}\n\n{rules.disclosure}")
    record(db, reply.comment_id, answer, reddit.server_utc(client))
    if answer.outcome is Outcome.UNKNOWN or (answer.outcome is Outcome.POSTED and not answer.reply_id):
        look_for(db, client, us, reply)
    known = ledger.find(db, reply.comment_id)
    assert known is not None
    return known.outcome, known.reply_id


def refusal(db: sqlite3.Connection, client: Client, reply: Reply, rules: SubmitSettings) -> Refusal | None:
    """What `conduct.may_post` says now, or once the pause between two replies is over. A clock that went back is not waited for."""
    while True:
        now = reddit.server_utc(client)
        facts = Facts(
            kill_switch=rules.kill_switch.exists(),
            paused=ledger.paused(db) is not None,
            benched=reply.subreddit.lower() in ledger.benched(db, now),
            opted_out=ledger.opted_out(db, reply.author),
            sent_in_thread=ledger.sent_in_thread(db, reply.thread_id),
            sent_last_hour=ledger.sent_since(db, now - HOUR),
            sent_last_day=ledger.sent_since(db, now - DAY),
            last_sent_utc=ledger.last_sent_utc(db),
            not_before_utc=ledger.not_before_utc(db),
        )
        reason = when.may_post(now, reply, facts, rules)
        if reason is not Refusal.TOO_SOON or (facts.last_sent_utc or 0) > now:
            return reason
        time.sleep(1)


def refused(db: sqlite3.Connection, client: Client, reply: Reply, reason: str) -> str:
    """Count the refusal. A reply that was tried before stays ready until it, or the comment, is too old."""
    now = reddit.server_utc(client)
    ledger.refuse(db, reply, reason, now)
    if reason in (Refusal.WAITED_TOO_LONG, Reason.TOO_OLD):
        ledger.settle(db, reply.comment_id, State.REJECTED, reason, now)
    return str(reason)


def record(db: sqlite3.Connection, comment_id: str, answer: Answer, now: int) -> None:
    """What a POST came to, into the ledger."""
    states = {
        Outcome.POSTED: State.POSTED,
        Outcome.NOT_SENT: State.READY,
        Outcome.RATE_LIMITED: State.READY,
        Outcome.UNKNOWN: State.UNKNOWN,
    }
    not_before = None if answer.wait_seconds is None else now + min(answer.wait_seconds, DAY)
    state = states.get(answer.outcome, State.REJECTED)
    ledger.settle(db, comment_id, state, answer.outcome, now, answer.reply_id, not_before, answer.detail)


def look_for(db: sqlite3.Connection, client: Client, us: str, reply: Reply) -> None:
    """Settle what may be there: posted if it is found; else parked, and never sent again by itself."""
    known = ledger.find(db, reply.comment_id)
    assert known is not None
    _, reply_id = reddit.find_reply(client, us, reply.comment_id)
    now = known.done_utc or reddit.server_utc(client)  # when it was sent counts for caps, not when it was found
    if reply_id or known.state == State.POSTED:
        ledger.settle(db, reply.comment_id, State.POSTED, Outcome.POSTED, now, reply_id, error=known.error)
    else:
        ledger.settle(db, reply.comment_id, State.PARKED, Settled.PARKED, now, error=known.error)


def reason_to_stop(db: sqlite3.Connection, client: Client, reply: Reply, outcome: str) -> Refusal | None:
    """Why nothing more is posted in this run, if so."""
    if outcome == Settled.PARKED:
        return Refusal.IN_DOUBT
    if outcome in ledger.UNWELCOME and ledger.bench_if_unwelcome(db, reply.subreddit, reddit.server_utc(client)):
        return Refusal.UNWELCOME
    return None


def said_before(known: Reply, reply: Reply) -> tuple[str, str]:
    """The outcome of a comment that the ledger knows, and the id of our reply there."""
    same = (known.candidate_id, known.body) == (reply.candidate_id, reply.body)
    return (Refusal.ALREADY_REPLIED if known.state in (State.POSTED, State.WITHDRAWN) and not same else known.outcome), known.reply_id


def attempt_of(reply: Reply, outcome: str, reply_id: str, utc: int) -> Submitted:
    return Submitted(reply.comment_id, reply.thread_id, reply.candidate_id, str(outcome), reply_id, utc)


def read_chosen(run: Path) -> list[Reply]:
    """Raises FileError as schema.read_rows; UserError where a comment isn't in comments.csv."""
    authors = {row.comment_id: row.author for row in schema.read_rows(run / "comments.csv", Comment)}
    chosen = schema.read_rows(run / "chosen.csv", Scored)
    if missing := next((row.comment_id for row in chosen if row.comment_id not in authors), None):
        raise UserError(f"{run / 'comments.csv'}: {missing} of chosen.csv isn't in it, so its author isn't known; run `fetch` again")
    return [Reply(row.comment_id, row.thread_id, row.subreddit, authors[row.comment_id], row.candidate_id, row.reply) for row in chosen]


def main(
    run: Annotated[Path, typer.Option(help="run folder: reads chosen.csv and comments.csv, writes submitted.csv")],
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None,
    send: Annotated[bool, typer.Option("--post", help="really post; without it nothing is sent")] = False,
) -> None:
    """Post what was chosen, each reply once or not at all."""
    settings = config.load(config_file)
    with files.run_folder(run):
        files.check_output(run / "submitted.csv", [run / "chosen.csv", run / "comments.csv"])
        chosen = read_chosen(run)
        if send:
            submit_chosen(run, chosen, settings)
        else:
            print(f"{len(chosen)} replies are chosen; nothing is sent without --post")


def submit_chosen(run: Path, chosen: list[Reply], settings: Settings) -> None:
    """Post them, and write submitted.csv, whatever happens. Raises as `submit`."""
    path = settings.submit.ledger
    with ledger.lock(path), closing(ledger.open_ledger(path)) as db:
        ledger.recover(db)
        attempts: list[Submitted] = []
        try:
            if chosen or ledger.in_state(db, State.UNKNOWN, State.PARKED, State.READY):
                for attempt in submit(db, reddit.connect(settings.reddit), chosen, settings):
                    attempts.append(attempt)
        finally:
            made_from = {"chosen": files.sha256_of(run / "chosen.csv")}
            schema.write_rows(run / "submitted.csv", Submitted, attempts, made_from)
        parked = ledger.in_state(db, State.PARKED)
    outcomes = Counter(attempt.outcome for attempt in attempts)
    posted = outcomes.pop(Outcome.POSTED, 0)
    others = ", ".join(f"{name} {count}" for name, count in outcomes.most_common())
    print(f"{posted} of {len(attempts)} replies posted{f' ({others})' if others else ''}; {run / 'submitted.csv'}")
    if parked:
        print(f"{len(parked)} may have been posted and can't be found; `python run_bot.py resolve` asks what to do")
