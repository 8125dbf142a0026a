"""clock: find and correct times in the future in the ledger, which were written when a clock was wrong.

    clock.in_future(db, now)      find them; used by `status`
    clock.bring_back(db, now)     correct them; a posting run does this first

Such a time would prevent posting until it is reached. It is set to the present: the reply counts as just sent, and caps and pauses last as
long as usual.
"""

from __future__ import annotations

import sqlite3

from bot.posting.database import change, sqlite_errors
from bot.posting.ledger import BENCH_SECONDS, DAY

SLACK_SECONDS = 300  # difference between two clocks that is ignored
LONGEST_WAIT_SECONDS = 30 * DAY  # the longest that Reddit may ask for

# table, column, the column that identifies a row, and how many seconds in the future the time may be
TIMES = (
    *(("reply", column, "comment_id", 0) for column in ("first_utc", "intent_utc", "done_utc", "removed_utc")),
    ("reply", "not_before_utc", "comment_id", LONGEST_WAIT_SECONDS),
    ("refusal", "event_utc", "comment_id", 0),
    ("opt_out", "utc", "author", 0),
    ("bench", "until_utc", "subreddit", BENCH_SECONDS),
)


def in_future(db: sqlite3.Connection, now: int) -> dict[str, int]:
    """The rows with a time in the future, by name (a comment's fullname, an author or a subreddit), and the latest time of each."""
    rows: dict[str, int] = {}
    with sqlite_errors(db):
        for table, column, name, ahead in TIMES:
            for row in db.execute(f"SELECT {name}, {column} FROM {table} WHERE {column} > ?", (now + ahead + SLACK_SECONDS,)):
                rows[row[0]] = max(row[1], rows.get(row[0], 0))
    return rows


def bring_back(db: sqlite3.Connection, now: int) -> int:
    """Set these times to the present, or to the latest allowed time. Returns how many rows were changed."""
    count = len(in_future(db, now))
    if count:
        with change(db):
            for table, column, _, ahead in TIMES:
                db.execute(
                    f"UPDATE {table} SET {column} = ? WHERE {column} > ?",
                    (now + ahead, now + ahead + SLACK_SECONDS),
                )
    return count
