"""letters: which replies and messages to the account have been read, in the ledger's file.

A list of what is unread is no memory: people read the account's inbox by hand. So all that came since `since_utc` is looked at, and what is
done with is known by its fullname. Nothing of what people wrote is kept.
"""

from __future__ import annotations

import sqlite3

from bot.posting.database import change
from bot.posting.ledger import DAY

TABLE = "CREATE TABLE IF NOT EXISTS letter (name TEXT PRIMARY KEY, utc INTEGER NOT NULL, done INTEGER NOT NULL) STRICT"
OVERLAP_SECONDS = DAY  # what Reddit shows late is found all the same


def since_utc(db: sqlite3.Connection) -> int:
    """From when on letters are to be looked at (epoch seconds): a day before the newest, or the oldest that isn't done with; 0 at first."""
    with change(db):
        db.execute(TABLE)
        oldest_open, newest = db.execute("SELECT min(utc) FILTER (WHERE NOT done), max(utc) FROM letter").fetchone()
    return min(max((newest or 0) - OVERLAP_SECONDS, 0), newest or 0 if oldest_open is None else oldest_open)


def done(db: sqlite3.Connection) -> set[str]:
    """Fullnames of the letters since then that are done with."""
    with change(db):
        db.execute(TABLE)
        return {row[0] for row in db.execute("SELECT name FROM letter WHERE done")}


def note(db: sqlite3.Connection, name: str, utc: int, is_done: bool) -> None:
    """Write down that a letter was read. is_done: nothing is left to do about it."""
    with change(db):
        db.execute(TABLE)
        db.execute("INSERT INTO letter VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE SET done = ?3", (name, utc, is_done))


def forget_old(db: sqlite3.Connection) -> None:
    """Remove what lies before `since_utc`: it isn't looked at again."""
    since = since_utc(db)
    with change(db):
        db.execute("DELETE FROM letter WHERE utc < ?", (since,))
