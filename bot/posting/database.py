"""database: the ledger's file: its tables, its lock, and how it is created and opened.

    with database.held(path) as db: ...                  an existing ledger, locked
    with database.held(path, make=True) as db: ...       the same for `inbox`, `adopt` and runs that post, which create a missing ledger

A new ledger is written under a temporary name and then renamed, so an empty file is a damaged ledger, not a new one. Only the file's owner
can read it (0600). Each change is one transaction, flushed to disk.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from enum import StrEnum
from pathlib import Path

from bot import files
from bot.cli import UserError
from bot.posting import backup

LAYOUT = 3  # PRAGMA user_version


class State(StrEnum):
    READY = "ready"  # not on Reddit; may be sent after not_before_utc
    SUBMITTING = "submitting"
    POSTED = "posted"
    REJECTED = "rejected"  # not on Reddit, and never sent again; outcome says why
    UNKNOWN = "unknown"  # may be on Reddit
    PARKED = "parked"  # may be on Reddit, but a search did not show it
    WITHDRAWN = "withdrawn"  # was on Reddit, and was deleted by us


TABLES = f"""
CREATE TABLE reply (
    comment_id TEXT PRIMARY KEY, thread_id TEXT NOT NULL, subreddit TEXT NOT NULL, author TEXT NOT NULL, candidate_id TEXT NOT NULL,
    body TEXT NOT NULL, state TEXT NOT NULL CHECK (state IN {tuple(map(str, State))}), first_utc INTEGER NOT NULL,
    intent_utc INTEGER NOT NULL, done_utc INTEGER, not_before_utc INTEGER, tries INTEGER NOT NULL, reply_id TEXT NOT NULL,
    outcome TEXT NOT NULL, error TEXT NOT NULL, removed_utc INTEGER, comment_sha256 TEXT NOT NULL DEFAULT '',
    approvals TEXT NOT NULL DEFAULT '') STRICT;
CREATE INDEX reply_thread ON reply (thread_id);
CREATE TABLE refusal (event_utc INTEGER NOT NULL, comment_id TEXT NOT NULL, subreddit TEXT NOT NULL, reason TEXT NOT NULL) STRICT;
CREATE TABLE opt_out (author TEXT PRIMARY KEY, utc INTEGER NOT NULL, source TEXT NOT NULL) STRICT;
CREATE TABLE bench (subreddit TEXT PRIMARY KEY, until_utc INTEGER NOT NULL, reason TEXT NOT NULL) STRICT;
CREATE TABLE pause (one INTEGER PRIMARY KEY CHECK (one = 1), reason TEXT NOT NULL) STRICT;
CREATE TABLE account (one INTEGER PRIMARY KEY CHECK (one = 1), site TEXT NOT NULL, name TEXT NOT NULL) STRICT
"""
# Statements that upgrade a ledger from layout N to N + 1.
UPGRADES = {
    1: "ALTER TABLE reply ADD COLUMN comment_sha256 TEXT NOT NULL DEFAULT ''",
    2: "ALTER TABLE reply ADD COLUMN approvals TEXT NOT NULL DEFAULT ''",
}


# --- locking --------------------------------------------------------------------------------------------------------------


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Lock the ledger, to post or to change records of posting. `pause` and readers do not need the lock.

    Raises:
        Busy: another process has locked it.
        UserError: its folder cannot be created.
    """
    path = path.resolve()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{path.parent}: not a folder; give another submit.ledger") from None
    with files.lock(
        path.with_name(f"{path.name}.lock"), f"{path}: another run is using this ledger; nothing was sent; try again when it has finished"
    ):
        yield


@contextmanager
def held(path: Path, make: bool = False) -> Iterator[sqlite3.Connection]:
    """The ledger, open and locked. make: create a missing one. Raises as `lock` and `open_…`."""
    if not make:
        check_exists(path)
    with lock(path), closing(open_ledger(path)) as db:
        _add_to_backup(db, path)
        yield db


def check_exists(path: Path) -> None:
    """Raises UserError with the absolute path if there is no ledger."""
    if not path.exists():
        raise UserError(
            f"{path.absolute()}: no such ledger; nothing was done; run this in the bot's folder, or give its --config"
            " (`inbox`, `adopt` and the first run with --post create it; `run --sandbox --post` keeps its own: `status --run DIR`)"
        )


# --- the file -------------------------------------------------------------------------------------------------------------


def open_existing(path: Path) -> sqlite3.Connection:
    """As `open_ledger`, but never creates one.

    Raises:
        UserError: there is none, or it is damaged.
    """
    check_exists(path)
    return open_ledger(path)


def open_to_read(path: Path) -> sqlite3.Connection:
    """An existing ledger, which this connection cannot change. The file is neither checked nor upgraded.

    Raises:
        UserError: there is none, or it cannot be opened.
    """
    check_exists(path)
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10, isolation_level=None)
    except sqlite3.DatabaseError as error:
        raise UserError(f"{path.absolute()}: not usable as a ledger ({error})") from None
    db.row_factory = sqlite3.Row
    return db


def open_ledger(path: Path) -> sqlite3.Connection:
    """The ledger at `path`, created if missing, with the opt-outs and withdrawals of its backup.

    Raises:
        UserError: the file is damaged or is not a ledger.
    """
    if path.is_dir():
        raise UserError(f"{path.absolute()}: a folder; give the name of a file in submit.ledger")
    if not path.exists():
        _make(path)
    if path.stat().st_size == 0:
        raise UserError(
            f"{path.absolute()}: the ledger is damaged (empty); restore a copy, or delete it and run `python run_bot.py adopt`;"
            " otherwise the bot may reply twice"
        )
    db = _connect(path)
    try:
        with sqlite_errors(db):
            db.execute("PRAGMA journal_mode = WAL")
            problems = [row[0] for row in db.execute("PRAGMA integrity_check(3)")]
            if problems != ["ok"]:
                raise UserError(f"{path}: the ledger is damaged ({'; '.join(problems)}); restore a copy; otherwise the bot may reply twice")
            _upgrade(db, path)
        _add_from_backup(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=10, isolation_level=None)
    db.row_factory = sqlite3.Row
    try:
        with sqlite_errors(db):
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA secure_delete = ON")  # overwrites what `forget` removes
    except BaseException:
        db.close()
        raise
    return db


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = files.temporary_path(path)
    files.remove(new)
    new.touch(mode=0o600)
    with closing(_connect(new)) as db, sqlite_errors(db):
        db.execute("PRAGMA journal_mode = WAL")
        with change(db):
            for statement in TABLES.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {LAYOUT}")
    new.rename(path)
    files.sync_folder(path.parent)


def _upgrade(db: sqlite3.Connection, path: Path) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == LAYOUT:
        return
    with change(db):
        version = db.execute("PRAGMA user_version").fetchone()[0]  # another process may have upgraded it in the meantime
        while version in UPGRADES:
            db.execute(UPGRADES[version])
            version += 1
            db.execute(f"PRAGMA user_version = {version}")
        if version != LAYOUT:
            raise UserError(f"{path}: not a ledger of this version; give another path in submit.ledger")


def _add_from_backup(db: sqlite3.Connection, path: Path) -> None:
    """Add opt-outs and withdrawn replies from the backup, in case the ledger was lost or restored from an older copy."""
    entries = backup.read(path)
    with sqlite_errors(db):
        people = {row[0] for row in db.execute("SELECT author FROM opt_out")}
        withdrawn = {row[0] for row in db.execute("SELECT comment_id FROM reply WHERE state = 'withdrawn'")}
    missing = [entry for entry in entries if entry.get("opted_out", "").lower() not in people and entry.get("withdrawn") not in withdrawn]
    if not missing:
        return
    with change(db):
        for entry in missing:
            if "opted_out" in entry:
                values = (entry["opted_out"].lower(), entry["utc"], entry.get("source", ""))
                db.execute("INSERT INTO opt_out VALUES (?, ?, ?) ON CONFLICT DO NOTHING", values)
            else:
                db.execute(
                    "INSERT INTO reply (comment_id, thread_id, subreddit, author, candidate_id, body, state, first_utc, intent_utc,"
                    " done_utc, tries, reply_id, outcome, error)"
                    " VALUES (?1, ?2, ?3, '', '', '', 'withdrawn', ?4, ?4, ?4, 0, ?5, 'posted', '')"
                    " ON CONFLICT (comment_id) DO UPDATE SET state = 'withdrawn'",
                    (entry["withdrawn"], entry["thread_id"], entry["subreddit"], entry["utc"], entry.get("reply_id", "")),
                )


def _add_to_backup(db: sqlite3.Connection, path: Path) -> None:
    """Add opt-outs and withdrawn replies to the backup, in case it was lost or did not exist yet."""
    entries = backup.read(path)
    people = {entry["opted_out"].lower() for entry in entries if "opted_out" in entry}
    withdrawn = {entry["withdrawn"] for entry in entries if "withdrawn" in entry}
    with sqlite_errors(db):
        for author, utc, source in db.execute("SELECT author, utc, source FROM opt_out").fetchall():
            if author not in people:
                backup.append(path, utc=utc, opted_out=author, source=source)
        rows = db.execute("SELECT comment_id, thread_id, subreddit, intent_utc, reply_id FROM reply WHERE state = 'withdrawn'")
        for row in rows.fetchall():
            if row[0] not in withdrawn:
                backup.append(path, utc=row[3], withdrawn=row[0], thread_id=row[1], subreddit=row[2], reply_id=row[4])


@contextmanager
def change(db: sqlite3.Connection) -> Iterator[None]:
    """One transaction: at the end, either all of it is on disk or none of it."""
    with sqlite_errors(db):
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


@contextmanager
def sqlite_errors(db: sqlite3.Connection) -> Iterator[None]:
    """Convert SQLite's errors to user errors with the file's name."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise  # a bug
    except sqlite3.DatabaseError as error:
        path = file_of(db)
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, "no space for the ledger", str(path)) from None
        raise UserError(f"{path}: not usable as a ledger ({error}); nothing more is posted") from None


def file_of(db: sqlite3.Connection) -> Path:
    """The ledger's file."""
    return Path(db.execute("PRAGMA database_list").fetchone()["file"])


def empty_wal(db: sqlite3.Connection) -> bool:
    """Move everything from the write-ahead log to the file itself. False if another program prevents that."""
    with sqlite_errors(db):
        return db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
