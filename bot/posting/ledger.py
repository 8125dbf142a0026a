"""The ledger: one SQLite file, the only truth about posting. One row per comment replied to; intent is on the disk before the one POST, its
result after. Also who opted out, which subreddits are left in peace for a while, and whether posting is paused.

    with ledger.lock(path), closing(ledger.open_ledger(path)) as db: ...

    ready ----> submitting ----> posted -> withdrawn
      ^             |----------> rejected                     a known refusal, final
      |-------------|                                         known not to be there: told to wait, or never connected
                    `----------> unknown -> posted | parked   parked waits for a person, and is posted once it is seen

A killed run leaves `submitting`, which becomes `unknown` at the next start (`recover`). Nothing leads from unknown or parked back to ready
by itself. Times are epoch seconds by the server's clock. Plain functions over a connection; each change is one transaction.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from enum import StrEnum
from itertools import takewhile
from pathlib import Path

from filelock import FileLock, Timeout

from bot.cli import Busy, UserError
from bot.files import sync_folder
from bot.schema import Phrased

LAYOUT = 1  # PRAGMA user_version
HOUR, DAY = 3600, 86_400
UNWELCOME = ("forbidden", "private")  # outcomes of a 403, reading or posting
UNWELCOME_IN_A_ROW = 3
BENCH_SECONDS = 30 * DAY


class State(StrEnum):
    READY = "ready"  # not there; may be sent when not_before_utc has passed
    SUBMITTING = "submitting"
    POSTED = "posted"
    REJECTED = "rejected"  # not there, and never will be; outcome says why
    UNKNOWN = "unknown"  # may be there
    PARKED = "parked"  # may be there, was looked for and not found
    WITHDRAWN = "withdrawn"  # was there, and was deleted by us


class Settled(Phrased):
    """Outcomes that neither Reddit nor a rule gave."""

    PARKED = "parked", "it may have been posted and can't be found: a person has to look"
    NEVER = "never", "not posted, a person gave it up"
    FORGOTTEN = "forgotten", "not posted, its author was forgotten"


# May be there now, or was: it counts against caps, and its thread has its reply.
SENT = (State.SUBMITTING, State.POSTED, State.UNKNOWN, State.PARKED, State.WITHDRAWN)
_IN_SENT = f"state IN {tuple(map(str, SENT))}"

TABLES = f"""
CREATE TABLE reply (
    comment_id TEXT PRIMARY KEY, thread_id TEXT NOT NULL, subreddit TEXT NOT NULL, author TEXT NOT NULL, candidate_id TEXT NOT NULL,
    body TEXT NOT NULL, state TEXT NOT NULL CHECK (state IN {tuple(map(str, State))}), first_utc INTEGER NOT NULL,
    intent_utc INTEGER NOT NULL, done_utc INTEGER, not_before_utc INTEGER, tries INTEGER NOT NULL, reply_id TEXT NOT NULL,
    outcome TEXT NOT NULL, error TEXT NOT NULL, removed_utc INTEGER) STRICT;
CREATE INDEX reply_thread ON reply (thread_id);
CREATE TABLE refusal (event_utc INTEGER NOT NULL, comment_id TEXT NOT NULL, subreddit TEXT NOT NULL, reason TEXT NOT NULL) STRICT;
CREATE TABLE opt_out (author TEXT PRIMARY KEY, utc INTEGER NOT NULL, source TEXT NOT NULL) STRICT;
CREATE TABLE bench (subreddit TEXT PRIMARY KEY, until_utc INTEGER NOT NULL, reason TEXT NOT NULL) STRICT;
CREATE TABLE pause (one INTEGER PRIMARY KEY CHECK (one = 1), reason TEXT NOT NULL) STRICT;
CREATE TABLE account (one INTEGER PRIMARY KEY CHECK (one = 1), site TEXT NOT NULL, name TEXT NOT NULL) STRICT
"""


@dataclass(frozen=True, slots=True)
class Reply:
    """A row of `reply`. author wrote the comment; body is ours, without the disclosure line; outcome is a name from reddit.Outcome.

    first_utc is when it was first tried, intent_utc when last.
    """

    comment_id: str
    thread_id: str
    subreddit: str
    author: str
    candidate_id: str
    body: str
    state: str = State.READY
    first_utc: int = 0
    intent_utc: int = 0
    done_utc: int | None = None
    not_before_utc: int | None = None
    tries: int = 0
    reply_id: str = ""
    outcome: str = ""
    error: str = ""
    removed_utc: int | None = None


COLUMNS = ", ".join(field.name for field in fields(Reply))

# --- the file -------------------------------------------------------------------------------------------------------------


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the ledger: who posts, or changes what was posted, holds it. `pause` and readers don't.

    Raises:
        Busy: another process holds it.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{path}.lock", blocking=False):
            yield
    except Timeout:
        raise Busy(f"{path}: another run holds this ledger; nothing was sent, try again when it is done") from None


def open_ledger(path: Path) -> sqlite3.Connection:
    """The ledger at `path`, made where there is none.

    Raises:
        UserError: the file is damaged, or something else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    db = sqlite3.connect(path, timeout=10, isolation_level=None)
    db.row_factory = sqlite3.Row
    try:
        with _told(db):
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA secure_delete = ON")  # what `forget` removes is overwritten
            problems = [row[0] for row in db.execute("PRAGMA integrity_check(3)")]
            if problems != ["ok"]:
                raise UserError(
                    f"{path}: the ledger is damaged ({'; '.join(problems)}); put a copy back, for without it the bot may reply twice"
                )
            with change(db):
                version = db.execute("PRAGMA user_version").fetchone()[0]
                if version == 0 and not db.execute("SELECT 1 FROM sqlite_master").fetchone():
                    for statement in TABLES.split(";"):
                        db.execute(statement)
                    db.execute(f"PRAGMA user_version = {LAYOUT}")
                elif version != LAYOUT:
                    raise UserError(f"{path}: not a ledger of this version; give another path in submit.ledger")
        if is_new:
            sync_folder(path.parent)
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def change(db: sqlite3.Connection) -> Iterator[None]:
    """One transaction: all of it is on the disk afterwards, or none of it."""
    with _told(db):
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


@contextmanager
def _told(db: sqlite3.Connection) -> Iterator[None]:
    """SQLite's errors as ours, with the file's name."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise  # a bug
    except sqlite3.DatabaseError as error:
        path = db.execute("PRAGMA database_list").fetchone()["file"]
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, "no space for the ledger", path) from None
        raise UserError(f"{path}: not usable as a ledger ({error}); nothing more is posted") from None


def claim(db: sqlite3.Connection, site: str, name: str) -> None:
    """Bind the ledger to an account, the first time; its rows say nothing of another account.

    Raises:
        UserError: it is another account's.
    """
    with change(db):
        owner = db.execute("SELECT site, name FROM account").fetchone()
        if owner is None:
            db.execute("INSERT INTO account VALUES (1, ?, ?)", (site, name))
        elif (owner["site"], owner["name"].lower()) != (site, name.lower()):
            raise UserError(
                f"this ledger belongs to u/{owner['name']} at {owner['site']}, not to u/{name} at {site}; give another submit.ledger"
            )


# --- replies --------------------------------------------------------------------------------------------------------------


def recover(db: sqlite3.Connection) -> int:
    """After the lock was got: what a killed run was sending may be there. Returns how many."""
    with change(db):
        return db.execute("UPDATE reply SET state = 'unknown' WHERE state = 'submitting'").rowcount


def intend(db: sqlite3.Connection, reply: Reply, now: int) -> None:
    """Write down that `reply` is about to be sent: a new row, or one that is ready.

    Raises:
        RuntimeError: the comment has a row that isn't ready. Nothing may be sent then.
    """
    with change(db):
        done = db.execute(
            "INSERT INTO reply VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'submitting', ?7, ?7, NULL, NULL, 1, '', '', '', NULL)"
            " ON CONFLICT (comment_id) DO UPDATE SET candidate_id = ?5, body = ?6, state = 'submitting', intent_utc = ?7, done_utc = NULL,"
            " not_before_utc = NULL, tries = tries + 1, outcome = '', error = '' WHERE state = 'ready'",
            (*astuple(reply)[:6], now),
        )
        if done.rowcount != 1:
            raise RuntimeError(f"{reply.comment_id} has a row that isn't ready")


def settle(
    db: sqlite3.Connection,
    comment_id: str,
    state: State,
    outcome: str,
    now: int,
    reply_id: str = "",
    not_before_utc: int | None = None,
    error: str = "",
) -> None:
    """Write down what became of a row."""
    with change(db):
        db.execute(
            "UPDATE reply SET state = ?, outcome = ?, done_utc = ?, reply_id = ?, not_before_utc = ?, error = ? WHERE comment_id = ?",
            (state, outcome, now, reply_id, not_before_utc, error, comment_id),
        )


def release(db: sqlite3.Connection, comment_id: str) -> None:
    """A person says that a parked reply may be sent again."""
    with change(db):
        db.execute(
            "UPDATE reply SET state = 'ready', outcome = 'released', tries = 0 WHERE comment_id = ? AND state = 'parked'", (comment_id,)
        )


def adopt(db: sqlite3.Connection, reply: Reply, reply_id: str, now: int) -> None:
    """Take in a reply of ours that stands on Reddit while the ledger has no row, or one that is ready."""
    with change(db):
        db.execute(
            "INSERT INTO reply VALUES (?1, ?2, ?3, ?4, '', '', 'posted', ?6, ?6, ?6, NULL, 0, ?5, 'already_replied', '', NULL)"
            " ON CONFLICT (comment_id) DO UPDATE SET state = 'posted', done_utc = ?6, reply_id = ?5, outcome = 'already_replied',"
            " not_before_utc = NULL WHERE state = 'ready'",
            (reply.comment_id, reply.thread_id, reply.subreddit, reply.author, reply_id, now),
        )


def find(db: sqlite3.Connection, comment_id: str) -> Reply | None:
    return next(iter(_replies(db, "WHERE comment_id = ?", comment_id)), None)


def in_state(db: sqlite3.Connection, *states: State) -> list[Reply]:
    """Oldest intent first."""
    return _replies(db, f"WHERE state IN ({', '.join('?' * len(states))}) ORDER BY intent_utc, comment_id", *states)


def own_texts(db: sqlite3.Connection, limit: int = 1000, but_to: Collection[str] = ()) -> list[str]:
    """What we wrote lately, newest first, but to these comments; for finding near-copies."""
    found = _replies(db, "WHERE state != 'rejected' AND body != '' ORDER BY intent_utc DESC LIMIT ?", limit)
    return [reply.body for reply in found if reply.comment_id not in but_to]


def note_removed(db: sqlite3.Connection, comment_id: str, now: int) -> None:
    """A moderator or Reddit removed the reply to this comment. Noted once."""
    with change(db):
        db.execute("UPDATE reply SET removed_utc = ? WHERE comment_id = ? AND removed_utc IS NULL", (now, comment_id))


def unwelcome_in_a_row(db: sqlite3.Connection, subreddit: str | None = None) -> int:
    """How many of the newest replies, back from now, were answered with a 403, or kept back by one when the thread was read, or removed.

    In one subreddit, or everywhere.
    """
    with _told(db):
        rows = db.execute(
            f"SELECT outcome IN {UNWELCOME} OR removed_utc IS NOT NULL FROM ("
            " SELECT subreddit, outcome, removed_utc, done_utc, intent_utc FROM reply WHERE state IN ('posted', 'rejected', 'withdrawn')"
            f" UNION ALL SELECT subreddit, reason, NULL, event_utc, event_utc FROM refusal WHERE reason IN {UNWELCOME}"
            ") WHERE ?1 IS NULL OR subreddit = ?1 COLLATE NOCASE ORDER BY done_utc DESC, intent_utc DESC LIMIT 100",
            (subreddit,),
        )
        return sum(1 for _ in takewhile(lambda row: row[0], rows))


def _replies(db: sqlite3.Connection, where: str, *values: object) -> list[Reply]:
    with _told(db):
        return [Reply(*row) for row in db.execute(f"SELECT {COLUMNS} FROM reply {where}", values)]


# --- counts for caps --------------------------------------------------------------------------------------------------------


def sent_since(db: sqlite3.Connection, utc: int, subreddit: str | None = None) -> int:
    """Replies that were sent after `utc`, those in doubt included; in one subreddit, or everywhere."""
    return _count(db, "intent_utc > ?1 AND (?2 IS NULL OR subreddit = ?2 COLLATE NOCASE)", utc, subreddit)


def sent_in_thread(db: sqlite3.Connection, thread_id: str) -> int:
    return _count(db, "thread_id = ?", thread_id)


def last_sent_utc(db: sqlite3.Connection) -> int | None:
    """When something was last sent, or answered, refusals included."""
    with _told(db):
        return db.execute("SELECT max(max(intent_utc, coalesce(done_utc, 0))) FROM reply WHERE tries > 0").fetchone()[0]


def not_before_utc(db: sqlite3.Connection) -> int | None:
    """Until when Reddit told the account to wait, the latest it said."""
    with _told(db):
        return db.execute("SELECT max(not_before_utc) FROM reply").fetchone()[0]


def _count(db: sqlite3.Connection, where: str, *values: object) -> int:
    with _told(db):
        return int(db.execute(f"SELECT count(*) FROM reply WHERE {_IN_SENT} AND {where}", values).fetchone()[0])


def refuse(db: sqlite3.Connection, reply: Reply, reason: str, now: int) -> None:
    """Count a reply that wasn't sent; for `status`."""
    with change(db):
        db.execute("INSERT INTO refusal VALUES (?, ?, ?, ?)", (now, reply.comment_id, reply.subreddit, reason))


def outcomes(db: sqlite3.Connection) -> list[tuple[State, str, int]]:
    """How many replies are in each state with each outcome."""
    with _told(db):
        rows = db.execute("SELECT state, outcome, count(*) FROM reply GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2")
        return [(State(row[0]), row[1], row[2]) for row in rows]


def refusals_since(db: sqlite3.Connection, utc: int) -> dict[str, int]:
    """How often each reason kept a reply back after `utc`, the most frequent first."""
    with _told(db):
        rows = db.execute("SELECT reason, count(*) FROM refusal WHERE event_utc > ? GROUP BY reason ORDER BY 2 DESC, 1", (utc,))
        return {row[0]: row[1] for row in rows}


# --- people, subreddits, pause ------------------------------------------------------------------------------------------------


def opt_out(db: sqlite3.Connection, author: str, source: str, now: int) -> None:
    """Never reply to `author` again. source: where they said so, `t1_…` or `t4_…`."""
    with change(db):
        db.execute("INSERT INTO opt_out VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (author.lower(), now, source))


def opted_out(db: sqlite3.Connection, author: str) -> bool:
    with _told(db):
        return db.execute("SELECT 1 FROM opt_out WHERE author = ?", (author.lower(),)).fetchone() is not None


def everyone_opted_out(db: sqlite3.Connection) -> set[str]:
    """Names in lower case."""
    with _told(db):
        return {row[0] for row in db.execute("SELECT author FROM opt_out")}


def bench(db: sqlite3.Connection, subreddit: str, until_utc: int, reason: str) -> None:
    """Leave a subreddit in peace until then."""
    with change(db):
        db.execute("INSERT OR REPLACE INTO bench VALUES (?, ?, ?)", (subreddit.lower(), until_utc, reason))


def bench_if_unwelcome(db: sqlite3.Connection, subreddit: str, now: int) -> bool:
    """After a 403 or a removal: bench the subreddit if that was the third in a row there. True if it was, there or everywhere together."""
    if unwelcome_in_a_row(db, subreddit) >= UNWELCOME_IN_A_ROW:
        bench(db, subreddit, now + BENCH_SECONDS, f"{UNWELCOME_IN_A_ROW} forbidden or removed in a row")
        return True
    return unwelcome_in_a_row(db) >= UNWELCOME_IN_A_ROW


def benched(db: sqlite3.Connection, now: int) -> dict[str, int]:
    """Subreddits, in lower case, that are left in peace, and until when."""
    with _told(db):
        return {row[0]: row[1] for row in db.execute("SELECT subreddit, until_utc FROM bench WHERE until_utc > ? ORDER BY 1", (now,))}


def pause(db: sqlite3.Connection, reason: str) -> None:
    """Nothing is posted from now on, by a run that is at work either, until `resume`."""
    with change(db):
        db.execute("INSERT OR REPLACE INTO pause VALUES (1, ?)", (reason,))


def resume(db: sqlite3.Connection) -> bool:
    """True if it was paused."""
    with change(db):
        return db.execute("DELETE FROM pause").rowcount > 0


def paused(db: sqlite3.Connection) -> str | None:
    """Why posting is paused, or None."""
    with _told(db):
        row = db.execute("SELECT reason FROM pause").fetchone()
        return None if row is None else row[0]


def forget(db: sqlite3.Connection, author: str) -> int:
    """Remove a person's name, and our words to them; that their comments were replied to stays known. Returns how many rows it was.

    What is ready is never sent then. An opt-out stays: without it they would be replied to again.
    """
    with change(db):
        db.execute(
            "UPDATE reply SET state = 'rejected', outcome = ? WHERE lower(author) = ? AND state = 'ready'",
            (Settled.FORGOTTEN, author.lower()),
        )
        return db.execute("UPDATE reply SET author = '', body = '' WHERE lower(author) = ?", (author.lower(),)).rowcount


# --- withdrawing -----------------------------------------------------------------------------------------------------------


def withdraw(db: sqlite3.Connection, comment_id: str, why: str) -> None:
    """Note that our reply to this comment was deleted by us. When it was posted, and that it was, stays as it is."""
    with change(db):
        db.execute("UPDATE reply SET state = 'withdrawn', error = ? WHERE comment_id = ?", (why, comment_id))
