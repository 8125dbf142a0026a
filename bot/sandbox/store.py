"""The sandbox's state: one SQLite file. Reads return plain rows. Clients can add comments, delete their own and mark their inbox as read;
faults (see `add_fault`) are for tests. Every acknowledged comment is on disk (WAL, synchronous FULL).
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from copy import copy
from pathlib import Path

from bot.cli import UserError
from bot.sandbox import USERNAME, seed

LAYOUT = 4  # PRAGMA user_version of a complete, seeded file

TABLES = """
CREATE TABLE subreddits (name TEXT PRIMARY KEY, title TEXT, kind TEXT, bans_us INTEGER);
CREATE TABLE submissions (
    number INTEGER PRIMARY KEY, name TEXT UNIQUE, subreddit TEXT, author TEXT, title TEXT, text TEXT, karma INTEGER,
    created_utc INTEGER, over_18 INTEGER, locked INTEGER, archived INTEGER);
CREATE TABLE comments (
    number INTEGER PRIMARY KEY, name TEXT UNIQUE, link_id TEXT, parent_id TEXT, author TEXT, body TEXT, karma INTEGER, created_utc INTEGER);
CREATE INDEX comments_of ON comments (link_id);
CREATE INDEX comments_by ON comments (author);
CREATE TABLE letters (number INTEGER PRIMARY KEY, name TEXT UNIQUE, author TEXT, subject TEXT, body TEXT, created_utc INTEGER);
CREATE TABLE inbox (name TEXT PRIMARY KEY, unread INTEGER);
CREATE TABLE hidden (name TEXT PRIMARY KEY COLLATE NOCASE);
CREATE TABLE tokens (token TEXT PRIMARY KEY, expires_utc INTEGER, user TEXT);
CREATE TABLE faults (
    path TEXT, kind TEXT, times INTEGER, accepted INTEGER, seconds REAL, late_seconds REAL, newest INTEGER, form TEXT)
"""

# What other accounts see instead of the table `comments`.
PUBLIC = f"""
CREATE TEMP VIEW comments AS
SELECT number, name, link_id, parent_id, iif(gone, '{seed.GONE}', author) AS author, iif(gone, '[removed]', body) AS body,
    karma, created_utc
FROM (SELECT *, name IN (SELECT name FROM hidden) OR author IN (SELECT name FROM hidden) AS gone FROM main.comments)
"""


class Store:
    """Each method opens its own connection, so that threads and processes may share the file.

    Raises:
        UserError: the file is not a sandbox database.
    """

    def __init__(self, path: Path, now: float) -> None:
        self.path = path
        self.is_public = False
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._connect() as db:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("BEGIN IMMEDIATE")  # seeded completely or not at all, and by one process only
                version = db.execute("PRAGMA user_version").fetchone()[0]
                if version == 0 and not db.execute("SELECT 1 FROM sqlite_master").fetchone():
                    for statement in TABLES.split(";"):
                        db.execute(statement)
                    _plant(db, now)
                    db.execute(f"PRAGMA user_version = {LAYOUT}")
                elif version != LAYOUT:
                    raise UserError(f"{path}: not a sandbox database of this version; give another --db, or delete it to start over")
                db.execute("COMMIT")
        except sqlite3.Error as error:
            raise UserError(f"{path}: not usable as a sandbox database ({error}); give another --db, or delete it") from None

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=10, isolation_level=None)) as db:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA synchronous = FULL")
            if self.is_public:
                db.execute(PUBLIC)
            yield db

    def public(self) -> Store:
        """The same state as seen without logging in: hidden items are removed."""
        other = copy(self)
        other.is_public = True
        return other

    def _rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        with self._connect() as db:
            return db.execute(sql, values).fetchall()

    def subreddit(self, name: str) -> sqlite3.Row | None:
        return next(iter(self._rows("SELECT * FROM subreddits WHERE name = ? COLLATE NOCASE", name)), None)

    def subreddits(self) -> list[sqlite3.Row]:
        return self._rows("SELECT * FROM subreddits ORDER BY rowid")

    def submissions(self, subreddit: str) -> list[sqlite3.Row]:
        """Newest first."""
        return self._rows("SELECT * FROM submissions WHERE subreddit = ? ORDER BY created_utc DESC, number", subreddit)

    def submission(self, name: str) -> sqlite3.Row | None:
        return next(iter(self._rows("SELECT * FROM submissions WHERE name = ?", name)), None)

    def comment(self, name: str) -> sqlite3.Row | None:
        return next(iter(self._rows("SELECT * FROM comments WHERE name = ?", name)), None)

    def comments_of(self, link_id: str) -> list[sqlite3.Row]:
        """A thread's comments, in display order."""
        return self._rows("SELECT * FROM comments WHERE link_id = ? ORDER BY number", link_id)

    def comments_by(self, author: str) -> list[sqlite3.Row]:
        """Newest first."""
        return self._rows("SELECT * FROM comments WHERE author = ? COLLATE NOCASE ORDER BY created_utc DESC, number DESC", author)

    def comments_in(self, subreddit: str) -> list[sqlite3.Row]:
        """Newest first."""
        return self._rows(
            "SELECT comments.* FROM comments JOIN submissions ON submissions.name = link_id WHERE subreddit = ?"
            " ORDER BY comments.created_utc DESC, comments.number DESC",
            subreddit,
        )

    def replies(self) -> list[sqlite3.Row]:
        """Comments in our inbox, with a column `unread`, newest first."""
        return self._rows("SELECT comments.*, unread FROM comments JOIN inbox USING (name) ORDER BY number DESC")

    def letters(self) -> list[sqlite3.Row]:
        """Private messages to us, with a column `unread`, newest first."""
        return self._rows("SELECT letters.*, unread FROM letters JOIN inbox USING (name) ORDER BY number DESC")

    def unread(self) -> list[sqlite3.Row]:
        return [row for row in self.replies() if row["unread"]]

    def unread_letters(self) -> list[sqlite3.Row]:
        return [row for row in self.letters() if row["unread"]]

    def add_letter(self, author: str, subject: str, body: str, now: float) -> str:
        """A private message to us; returns its fullname."""
        with self._connect() as db:
            db.execute("BEGIN IMMEDIATE")
            number = db.execute("SELECT coalesce(max(number), 1300000000) + 1 FROM letters").fetchone()[0]
            name = f"t4_{base36(number)}"
            db.execute("INSERT INTO letters VALUES (?, ?, ?, ?, ?, ?)", (number, name, author, subject, body, int(now)))
            db.execute("INSERT INTO inbox VALUES (?, 1)", (name,))
            db.execute("COMMIT")
        return name

    def blank(self, name: str, mark: str) -> None:
        """Replace a comment's text with `mark` ([deleted] or [removed]) and its author with [deleted]; its karma and replies are kept."""
        with self._connect() as db:
            db.execute("UPDATE comments SET author = ?, body = ? WHERE name = ?", (seed.GONE, mark, name))

    def hide(self, name: str, hidden: bool = True) -> None:
        """Hide a comment of ours (removed by a moderator) or an account (shadowbanned) from everybody but its owner; or show it again."""
        with self._connect() as db:
            db.execute("INSERT OR IGNORE INTO hidden VALUES (?)" if hidden else "DELETE FROM hidden WHERE name = ?", (name,))

    def is_hidden(self, name: str) -> bool:
        return bool(self._rows("SELECT 1 FROM hidden WHERE name = ?", name))

    def set_karma(self, name: str, karma: int) -> None:
        with self._connect() as db:
            db.execute("UPDATE comments SET karma = ? WHERE name = ?", (karma, name))

    def mark_read(self, names: list[str]) -> None:
        with self._connect() as db:
            db.executemany("UPDATE inbox SET unread = 0 WHERE name = ?", [(name,) for name in names])

    def add_comment(self, link_id: str, parent_id: str, author: str, body: str, now: float, karma: int = 1, tell: str = "") -> sqlite3.Row:
        """Store a comment and return it. A reply to a comment of the account `tell` is added to that account's inbox."""
        with self._connect() as db:
            db.execute("BEGIN IMMEDIATE")
            name = _insert(db, link_id, parent_id, author, body, karma, int(now))
            above = db.execute("SELECT author FROM comments WHERE name = ?", (parent_id,)).fetchone()
            if above and above["author"] == tell != author:
                db.execute("INSERT INTO inbox VALUES (?, 1)", (name,))
            row: sqlite3.Row = db.execute("SELECT * FROM comments WHERE name = ?", (name,)).fetchone()
            db.execute("COMMIT")
        return row

    def add_fault(
        self,
        kind: str,
        path: str = "/api/comment",
        times: int = 1,
        accepted: bool = False,
        seconds: float = 0,
        late_seconds: float = 0,
        form: str = "",
    ) -> None:
        """Apply a fault to the next `times` requests whose path begins with `path`; see faults.FAULTS for the kinds.

        accepted: whether a reply is stored in spite of the fault, after late_seconds. seconds: the duration of a «timeout», and the
        Retry-After of a «429» (0: none). form: a text that the form of the request must contain, for example a thread's fullname. «stale»
        shows no comment that is newer than this call.
        """
        with self._connect() as db:
            db.execute(
                "INSERT INTO faults SELECT ?, ?, ?, ?, ?, ?, max(number), ? FROM comments",
                (path, kind, times, accepted, seconds, late_seconds, form),
            )

    def take_fault(self, path: str, form: str = "") -> sqlite3.Row | None:
        """The oldest remaining fault for a path and a form."""
        with self._connect() as db:
            row: sqlite3.Row | None = db.execute(
                "UPDATE faults SET times = times - 1 WHERE rowid ="
                " (SELECT min(rowid) FROM faults WHERE times > 0 AND substr(?1, 1, length(path)) = path AND instr(?2, form)) RETURNING *",
                (path, form),
            ).fetchone()
        return row

    def clear_faults(self) -> None:
        with self._connect() as db:
            db.execute("DELETE FROM faults")

    def new_token(self, now: float, lifetime_seconds: int, user: str = USERNAME) -> str:
        """Create a token. user: its account, empty for a client without a user."""
        token = secrets.token_urlsafe(24)
        with self._connect() as db:
            db.execute("INSERT INTO tokens VALUES (?, ?, ?)", (token, int(now) + lifetime_seconds, user))
        return token

    def user_of(self, token: str, now: float) -> str | None:
        """The account of a token, empty for a client without a user; None if the token is unknown or expired."""
        rows = self._rows("SELECT user FROM tokens WHERE token = ? AND expires_utc > ?", token, int(now))
        return rows[0]["user"] if rows else None


def base36(number: int) -> str:
    """A number in Reddit's notation for ids.

    >>> base36(1_000_000_000)
    'gjdgxs'
    """
    digits = ""
    while True:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
        if not number:
            return digits


def _insert(db: sqlite3.Connection, link_id: str, parent_id: str, author: str, body: str, karma: int, created_utc: int) -> str:
    number = db.execute("SELECT coalesce(max(number), 1500000000) + 1 FROM comments").fetchone()[0]
    name = f"t1_{base36(number)}"
    db.execute("INSERT INTO comments VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (number, name, link_id, parent_id, author, body, karma, created_utc))
    return name


def _plant(db: sqlite3.Connection, now: float) -> None:
    for subreddit in seed.SUBREDDITS:
        db.execute("INSERT INTO subreddits VALUES (?, ?, ?, ?)", (subreddit.name, subreddit.title, subreddit.kind, subreddit.bans_us))
    for number, it in enumerate(seed.SUBMISSIONS, start=1_200_000_001):
        name = f"t3_{base36(number)}"
        created = now - 3600 * it.hours_ago
        db.execute(
            "INSERT INTO submissions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (number, name, it.subreddit, it.author, it.title, it.text, it.karma, int(created), it.over_18, it.locked, it.archived),
        )
        total = sum(_size(comment) for comment in it.comments)
        step = (now - created) / (total + 1)  # evenly spread over the age of the thread, parents before their replies
        for comment in it.comments:
            created = _plant_tree(db, comment, name, name, created, step)


def _plant_tree(db: sqlite3.Connection, comment: seed.Comment, link_id: str, parent_id: str, last: float, step: float) -> float:
    last += step
    name = _insert(db, link_id, parent_id, comment.author, comment.body, comment.karma, int(last))
    for reply in comment.replies:
        last = _plant_tree(db, reply, link_id, name, last, step)
    return last


def _size(comment: seed.Comment) -> int:
    return 1 + sum(_size(reply) for reply in comment.replies)
