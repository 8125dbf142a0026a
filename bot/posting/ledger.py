"""The ledger: one SQLite file, the single source of truth about posting. It has one row per comment that the bot replies to: the intent is
written to disk before the one POST, the result after it. It also records people who opted out, benched subreddits and whether posting is
paused.

    with ledger.held(path) as db: ...            see database.py for the file, backup.py for the copy of data that Reddit cannot restore

    ready ----> submitting ----> posted -> withdrawn
      ^             |----------> rejected                     a known refusal, final
      |-------------|                                         known not to be on Reddit: Reddit asked to wait, or was not reached
                    `----------> unknown -> posted | parked   parked waits for a person; it becomes posted if Reddit shows it

A killed run leaves `submitting`, which becomes `unknown` at the next start (`recover`). A reply never returns from unknown or parked to
ready automatically. Times are epoch seconds by the server's clock; see clock.py for times in the future. Plain functions over a
connection; each change is one transaction.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, fields
from itertools import takewhile

from bot.cli import UserError
from bot.posting import backup
from bot.posting.database import State as State
from bot.posting.database import change, file_of, sqlite_errors
from bot.posting.database import check_exists as check_exists
from bot.posting.database import held as held
from bot.posting.database import lock as lock
from bot.posting.database import open_existing as open_existing
from bot.posting.database import open_ledger as open_ledger
from bot.posting.database import open_to_read as open_to_read
from bot.schema import Phrased

HOUR, DAY = 3600, 86_400
UNWELCOME = ("forbidden", "private")  # outcomes of a 403, when reading or posting
UNWELCOME_IN_A_ROW = 3
BENCH_SECONDS = 30 * DAY
SLOW_DOWN = "the subreddit asked to slow down"  # the reason of a bench that is temporary

UNBENCHED = "unbenched"  # a reason in `refusal`: a person ended a bench, so unwelcome replies are counted from 0 again


class Settled(Phrased):
    """Outcomes that are set neither by Reddit nor by a rule."""

    PARKED = "parked", "it may have been posted, but Reddit does not show it: a person has to check"
    NEVER = "never", "not posted, cancelled by a person"
    FORGOTTEN = "forgotten", "not posted, its author was forgotten"
    DELETED = "deleted_by_us", "it was posted, and deleted by the bot"


# States of replies that are, may be or were on Reddit. They count towards the caps and the limit of one reply per thread.
SENT = (State.SUBMITTING, State.POSTED, State.UNKNOWN, State.PARKED, State.WITHDRAWN)
_IN_SENT = f"state IN {tuple(map(str, SENT))}"


@dataclass(frozen=True, slots=True)
class Reply:
    """A row of `reply`. author: of the comment; body: our reply, without the disclosure line; outcome: a name from reddit.Outcome.

    first_utc, intent_utc: time of the first and of the latest attempt. comment_sha256: text.fingerprint of the comment that the reply
    answers, empty if unknown. approvals: absolute path of the approvals.csv of its run, empty if unknown.
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
    comment_sha256: str = ""
    approvals: str = ""


COLUMNS = ", ".join(field.name for field in fields(Reply))


# --- the account ----------------------------------------------------------------------------------------------------------


def claim(db: sqlite3.Connection, site: str, name: str) -> None:
    """Bind the ledger to an account on first use, since its rows are about one account only.

    Raises:
        UserError: it belongs to another account.
    """
    with change(db):
        owner = db.execute("SELECT site, name FROM account").fetchone()
        if owner is None:
            db.execute("INSERT INTO account VALUES (1, ?, ?)", (site, name))
        elif (owner["site"], owner["name"].lower()) != (site, name.lower()):
            raise UserError(
                f"{file_of(db)}: this ledger belongs to u/{owner['name']} at {owner['site']}, not to u/{name} at {site}; give another"
                " submit.ledger"
            )


def account(db: sqlite3.Connection) -> str:
    """The account that the ledger belongs to, for messages."""
    with sqlite_errors(db):
        owner = db.execute("SELECT site, name FROM account").fetchone()
    return f"u/{owner['name']} at {owner['site']}" if owner else "no account yet"


# --- replies --------------------------------------------------------------------------------------------------------------


def recover(db: sqlite3.Connection) -> int:
    """Mark replies that a killed run was sending as unknown. Call this after locking the ledger. Returns how many there were."""
    with change(db):
        return db.execute("UPDATE reply SET state = 'unknown' WHERE state = 'submitting'").rowcount


def intend(db: sqlite3.Connection, reply: Reply, now: int) -> None:
    """Record that `reply` is about to be sent: a new row, or one that is ready.

    Raises:
        RuntimeError: the comment has a row that is not ready, so nothing may be sent.
    """
    with change(db):
        written = db.execute(
            f"INSERT INTO reply ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'submitting', ?8, ?8, NULL, NULL, 1, '', '', '', NULL, ?7, ?9)"
            " ON CONFLICT (comment_id) DO UPDATE SET candidate_id = ?5, body = ?6, comment_sha256 = ?7, approvals = ?9,"
            " state = 'submitting', intent_utc = ?8, done_utc = NULL, not_before_utc = NULL, tries = tries + 1, outcome = '', error = ''"
            " WHERE state = 'ready'",
            (
                *(reply.comment_id, reply.thread_id, reply.subreddit, reply.author, reply.candidate_id, reply.body, reply.comment_sha256),
                *(now, reply.approvals),
            ),
        )
        if written.rowcount != 1:
            raise RuntimeError(f"{reply.comment_id} has a row that is not ready")


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
    """Record the result of a reply. If Reddit asked to wait, the wait applies to the account, independently of this reply."""
    with change(db):
        db.execute(
            "UPDATE reply SET state = ?, outcome = ?, done_utc = ?, reply_id = ?, not_before_utc = coalesce(?, not_before_utc), error = ?"
            " WHERE comment_id = ?",
            (state, outcome, now, reply_id, not_before_utc, error, comment_id),
        )


def release(db: sqlite3.Connection, comment_id: str) -> None:
    """Make a parked reply ready again, as decided by a person."""
    with change(db):
        db.execute(
            "UPDATE reply SET state = 'ready', outcome = 'released', tries = 0 WHERE comment_id = ? AND state = 'parked'", (comment_id,)
        )


def adopt(db: sqlite3.Connection, reply: Reply, reply_id: str, utc: int, body: str = "") -> None:
    """Record a reply of ours that is on Reddit although the ledger has no row for it, or says that it was not sent or was refused.

    utc: when it was posted, or the current time if unknown; body: our text, without the disclosure line.
    """
    with change(db):
        db.execute(
            f"INSERT INTO reply ({COLUMNS})"
            " VALUES (?1, ?2, ?3, ?4, '', ?7, 'posted', ?6, ?6, ?6, NULL, 0, ?5, 'already_replied', '', NULL, '', '')"
            " ON CONFLICT (comment_id) DO UPDATE SET state = 'posted', done_utc = ?6, reply_id = ?5, outcome = 'already_replied',"
            " not_before_utc = NULL WHERE state IN ('ready', 'rejected')",
            (reply.comment_id, reply.thread_id, reply.subreddit, reply.author, reply_id, utc, body),
        )


def find(db: sqlite3.Connection, comment_id: str) -> Reply | None:
    return next(iter(_replies(db, "WHERE comment_id = ?", comment_id)), None)


def in_state(db: sqlite3.Connection, *states: State) -> list[Reply]:
    """Oldest intent first."""
    return _replies(db, f"WHERE state IN ({', '.join('?' * len(states))}) ORDER BY intent_utc, comment_id", *states)


def all_comments(db: sqlite3.Connection) -> set[str]:
    """Every comment that has a row, in any state."""
    with sqlite_errors(db):
        return {row[0] for row in db.execute("SELECT comment_id FROM reply")}


def posted_texts(db: sqlite3.Connection) -> dict[str, str]:
    """comment_id -> our text, for every reply that is or was on Reddit; empty if the ledger does not have the text."""
    with sqlite_errors(db):
        return dict(map(tuple, db.execute("SELECT comment_id, body FROM reply WHERE state IN ('posted', 'withdrawn')")))


def own_texts(db: sqlite3.Connection, limit: int = 1000, but_to: Collection[str] = ()) -> list[str]:
    """Our recent replies, newest first, except those to the given comments; used to detect near-copies."""
    replies = _replies(db, "WHERE state != 'rejected' AND body != '' ORDER BY intent_utc DESC LIMIT ?", limit)
    return [reply.body for reply in replies if reply.comment_id not in but_to]


def note_removed(db: sqlite3.Connection, comment_id: str, now: int) -> None:
    """Record that a moderator or Reddit removed the reply to this comment; only the first time counts."""
    with change(db):
        db.execute("UPDATE reply SET removed_utc = ? WHERE comment_id = ? AND removed_utc IS NULL", (now, comment_id))


def note_restored(db: sqlite3.Connection, comment_id: str) -> None:
    """Record that a removed reply is visible to everybody again."""
    with change(db):
        db.execute("UPDATE reply SET removed_utc = NULL WHERE comment_id = ?", (comment_id,))


def note_not_deleted(db: sqlite3.Connection, comment_id: str, why: str) -> None:
    """Record that the reply to this comment could not be deleted; the next run tries again."""
    with change(db):
        db.execute("UPDATE reply SET error = ? WHERE comment_id = ?", (f"not_deleted: {why}", comment_id))


def unwelcome_in_a_row(db: sqlite3.Connection, subreddit: str | None = None) -> int:
    """The number of latest consecutive replies that got a 403, were not sent because reading the thread got one, or were removed.

    In one subreddit, or in all; counted since the last `unbench`.
    """
    with sqlite_errors(db):
        rows = db.execute(
            f"SELECT outcome IN {UNWELCOME} OR removed_utc IS NOT NULL FROM ("
            " SELECT subreddit, outcome, removed_utc, done_utc, intent_utc FROM reply WHERE state IN ('posted', 'rejected', 'withdrawn')"
            f" UNION ALL SELECT subreddit, reason, NULL, event_utc, event_utc FROM refusal WHERE reason IN {(*UNWELCOME, UNBENCHED)}"
            ") WHERE ?1 IS NULL OR subreddit = ?1 COLLATE NOCASE"
            f" ORDER BY done_utc DESC, outcome = '{UNBENCHED}' DESC, intent_utc DESC LIMIT 100",
            (subreddit,),
        )
        return sum(1 for _ in takewhile(lambda row: row[0], rows))


def _replies(db: sqlite3.Connection, where: str, *values: object) -> list[Reply]:
    with sqlite_errors(db):
        return [Reply(*row) for row in db.execute(f"SELECT {COLUMNS} FROM reply {where}", values)]


# --- counts for caps --------------------------------------------------------------------------------------------------------


def sent_since(db: sqlite3.Connection, utc: int, subreddit: str | None = None) -> int:
    """The number of replies sent after `utc`, including those in doubt; in one subreddit, or in all."""
    return _count(db, "intent_utc > ?1 AND (?2 IS NULL OR subreddit = ?2 COLLATE NOCASE)", utc, subreddit)


def sent_in_thread(db: sqlite3.Connection, thread_id: str) -> int:
    return _count(db, "thread_id = ?", thread_id)


def last_sent_utc(db: sqlite3.Connection) -> int | None:
    """When something was last sent or answered, including refusals."""
    with sqlite_errors(db):
        return db.execute("SELECT max(max(intent_utc, coalesce(done_utc, 0))) FROM reply WHERE tries > 0").fetchone()[0]


def not_before_utc(db: sqlite3.Connection) -> int | None:
    """The latest time until which Reddit asked the account to wait."""
    with sqlite_errors(db):
        return db.execute("SELECT max(not_before_utc) FROM reply").fetchone()[0]


def _count(db: sqlite3.Connection, where: str, *values: object) -> int:
    with sqlite_errors(db):
        return int(db.execute(f"SELECT count(*) FROM reply WHERE {_IN_SENT} AND {where}", values).fetchone()[0])


def refuse(db: sqlite3.Connection, reply: Reply, reason: str, now: int) -> None:
    """Count a reply that was not sent; for `status`."""
    with change(db):
        db.execute("INSERT INTO refusal VALUES (?, ?, ?, ?)", (now, reply.comment_id, reply.subreddit, reason))


def last_refusal(db: sqlite3.Connection, comment_id: str, since_utc: int) -> str:
    """The latest reason why a reply to a comment was not sent since then; empty if there is none."""
    with sqlite_errors(db):
        row = db.execute(
            "SELECT reason FROM refusal WHERE comment_id = ? AND event_utc >= ? ORDER BY event_utc DESC, rowid DESC LIMIT 1",
            (comment_id, since_utc),
        ).fetchone()
    return str(row[0]) if row else ""


def errors(db: sqlite3.Connection) -> dict[str, int]:
    """Names of the errors (of Reddit or Python) of all replies except withdrawn ones -> their number; most frequent first."""
    with sqlite_errors(db):
        rows = db.execute("SELECT error FROM reply WHERE error != '' AND state != 'withdrawn' ORDER BY comment_id")
        return dict(Counter(row[0].partition(":")[0] for row in rows).most_common())


def outcomes(db: sqlite3.Connection) -> list[tuple[State, str, int]]:
    """How many replies are in each state with each outcome."""
    with sqlite_errors(db):
        rows = db.execute("SELECT state, outcome, count(*) FROM reply GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2")
        return [(State(row[0]), row[1], row[2]) for row in rows]


def refusals_since(db: sqlite3.Connection, utc: int) -> dict[str, int]:
    """How often each reason prevented a reply after `utc`, most frequent first."""
    with sqlite_errors(db):
        rows = db.execute(
            "SELECT reason, count(*) FROM refusal WHERE event_utc > ? AND reason != ? GROUP BY reason ORDER BY 2 DESC, 1", (utc, UNBENCHED)
        )
        return {row[0]: row[1] for row in rows}


# --- people, subreddits, pause ------------------------------------------------------------------------------------------------


def opt_out(db: sqlite3.Connection, author: str, source: str, now: int) -> None:
    """Never reply to `author` again. source: fullname of the request, `t1_…` or `t4_…`. Written to the backup, then to the ledger."""
    if not opted_out(db, author):
        backup.append(file_of(db), utc=now, opted_out=author.lower(), source=source)
    with change(db):
        db.execute("INSERT INTO opt_out VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (author.lower(), now, source))


def opted_out(db: sqlite3.Connection, author: str) -> bool:
    with sqlite_errors(db):
        return db.execute("SELECT 1 FROM opt_out WHERE author = ?", (author.lower(),)).fetchone() is not None


def everyone_opted_out(db: sqlite3.Connection) -> set[str]:
    """Names in lower case."""
    with sqlite_errors(db):
        return {row[0] for row in db.execute("SELECT author FROM opt_out")}


def bench(db: sqlite3.Connection, subreddit: str, until_utc: int, reason: str) -> None:
    """Post nothing in a subreddit until `until_utc`, or until a later time that is already set."""
    with change(db):
        db.execute(
            "INSERT INTO bench VALUES (?1, ?2, ?3) ON CONFLICT (subreddit) DO UPDATE SET until_utc = ?2, reason = ?3 WHERE until_utc <= ?2",
            (subreddit.lower(), until_utc, reason),
        )


def wait_of_subreddit(db: sqlite3.Connection, subreddit: str, now: int) -> int | None:
    """The time until which the subreddit is benched because it asked to slow down, or None."""
    with sqlite_errors(db):
        row = db.execute(
            "SELECT until_utc FROM bench WHERE subreddit = ? AND until_utc > ? AND reason = ?", (subreddit.lower(), now, SLOW_DOWN)
        ).fetchone()
        return None if row is None else row[0]


def bench_if_unwelcome(db: sqlite3.Connection, subreddit: str, now: int) -> bool:
    """After a 403 or a removal: bench the subreddit if that was the third in a row there. True if it was the third there or overall."""
    if unwelcome_in_a_row(db, subreddit) >= UNWELCOME_IN_A_ROW:
        bench(db, subreddit, now + BENCH_SECONDS, f"{UNWELCOME_IN_A_ROW} forbidden or removed in a row")
        return True
    return unwelcome_in_a_row(db) >= UNWELCOME_IN_A_ROW


def unbench(db: sqlite3.Connection, subreddit: str, now: int) -> bool:
    """Allow replies in a subreddit again, and count its unwelcome replies from 0. True if it was benched."""
    with change(db):
        was_benched = db.execute("DELETE FROM bench WHERE subreddit = ?", (subreddit.lower(),)).rowcount > 0
        latest = db.execute("SELECT max(?, coalesce(max(done_utc), 0)) FROM reply", (now,)).fetchone()[0]
        if was_benched:
            db.execute("INSERT INTO refusal VALUES (?, '', ?, ?)", (latest, subreddit, UNBENCHED))
        return was_benched


def benched(db: sqlite3.Connection, now: int) -> dict[str, int]:
    """Benched subreddits, in lower case -> the time at which each bench ends."""
    with sqlite_errors(db):
        return {row[0]: row[1] for row in db.execute("SELECT subreddit, until_utc FROM bench WHERE until_utc > ? ORDER BY 1", (now,))}


def pause(db: sqlite3.Connection, reason: str) -> None:
    """Post nothing from now on, not even in a run that is in progress, until `resume`."""
    with change(db):
        db.execute("INSERT OR REPLACE INTO pause VALUES (1, ?)", (reason,))


def resume(db: sqlite3.Connection) -> bool:
    """End a pause. True if posting was paused."""
    with change(db):
        return db.execute("DELETE FROM pause").rowcount > 0


def paused(db: sqlite3.Connection) -> str | None:
    """Why posting is paused, or None."""
    with sqlite_errors(db):
        row = db.execute("SELECT reason FROM pause").fetchone()
        return None if row is None else row[0]


def forget(db: sqlite3.Connection, author: str) -> int:
    """Remove a person's name and our replies to them; the ids of their comments are kept. Returns how many rows were changed.

    Replies that are ready are never sent. An opt-out is kept: without it the bot would reply to them again.
    """
    with change(db):
        db.execute(
            "UPDATE reply SET state = 'rejected', outcome = ? WHERE lower(author) = ? AND state = 'ready'",
            (Settled.FORGOTTEN, author.lower()),
        )
        return db.execute("UPDATE reply SET author = '', body = '' WHERE lower(author) = ?", (author.lower(),)).rowcount


# --- withdrawing -----------------------------------------------------------------------------------------------------------


def withdraw(db: sqlite3.Connection, comment_id: str, why: str) -> None:
    """Record that we deleted our reply to this comment. The time and outcome of posting are kept.

    Written to the backup first: Reddit does not show deleted replies, and an older copy of the ledger would post it again.
    """
    if reply := find(db, comment_id):
        place = {"thread_id": reply.thread_id, "subreddit": reply.subreddit}
        backup.append(file_of(db), utc=reply.intent_utc, withdrawn=comment_id, **place, reply_id=reply.reply_id)
    with change(db):
        db.execute("UPDATE reply SET state = 'withdrawn', error = ? WHERE comment_id = ?", (why, comment_id))
