"""letters: the replies and messages to the account that have been processed, stored in the ledger's file.

Reddit's unread marks are not reliable, since people may also read the account's inbox. So everything since `since_utc` is read, and the
fullnames of processed letters are stored. No text is stored.
"""

from __future__ import annotations

import sqlite3

from bot.posting.database import change
from bot.posting.ledger import DAY

TABLE = "CREATE TABLE IF NOT EXISTS letter (name TEXT PRIMARY KEY, utc INTEGER NOT NULL, done INTEGER NOT NULL) STRICT"
OVERLAP_SECONDS = DAY  # so that letters that Reddit shows late are not missed


def since_utc(db: sqlite3.Connection) -> int:
    """The time from which letters are read (epoch seconds): a day before the newest one, or the oldest unprocessed one; at first 0."""
    with change(db):
        db.execute(TABLE)
        oldest_open, newest = db.execute("SELECT min(utc) FILTER (WHERE NOT done), max(utc) FROM letter").fetchone()
    return min(max((newest or 0) - OVERLAP_SECONDS, 0), newest or 0 if oldest_open is None else oldest_open)


def done(db: sqlite3.Connection) -> set[str]:
    """Fullnames of the stored letters that are processed."""
    with change(db):
        db.execute(TABLE)
        return {row[0] for row in db.execute("SELECT name FROM letter WHERE done")}


def note(db: sqlite3.Connection, name: str, utc: int, is_done: bool) -> None:
    """Record that a letter was read. is_done: it is processed."""
    with change(db):
        db.execute(TABLE)
        db.execute("INSERT INTO letter VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE SET done = ?3", (name, utc, is_done))


def forget_old(db: sqlite3.Connection) -> None:
    """Remove the letters before `since_utc`, which are not read again."""
    since = since_utc(db)
    with change(db):
        db.execute("DELETE FROM letter WHERE utc < ?", (since,))
