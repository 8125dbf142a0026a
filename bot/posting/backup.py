"""backup: an append-only file beside the ledger, with data that cannot be read from Reddit again if the ledger is lost.

    data/ledger.backup.jsonl     {"utc": 1, "opted_out": "somebody", "source": "t1_…"}
                                 {"utc": 2, "withdrawn": "t1_…", "thread_id": "t3_…", "subreddit": "books", "reply_id": "t1_…"}

It contains people who opted out, and comments whose reply we deleted. Each entry is written here first, then to the ledger; opening the
ledger adds entries that it lacks. All other rows can be restored from Reddit (`python run_bot.py adopt`). If there is no ledger yet,
`fetch` also writes here.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from bot.cli import UserError
from bot.files import flush, sync_folder


def backup_path(ledger: Path) -> Path:
    """
    >>> backup_path(Path("data/ledger.sqlite")).as_posix()
    'data/ledger.backup.jsonl'
    """
    return ledger.with_suffix(".backup.jsonl")


def append(ledger: Path, **entry: Any) -> None:
    """Append a line and flush it to disk. An incomplete last line, left by a power failure, is removed first."""
    path = backup_path(ledger)
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:  # noqa: PTH123 (a file descriptor)
        fcntl.flock(file, fcntl.LOCK_EX)
        content = file.read()
        file.seek(content.rfind(b"\n") + 1)
        file.truncate()
        file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
        flush(file)
    if is_new:
        sync_folder(path.parent)


def read(ledger: Path) -> list[dict[str, Any]]:
    """All entries, oldest first; none if there is no file. An incomplete last line is ignored.

    Raises:
        UserError: a line is not an entry.
    """
    path = backup_path(ledger)
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); nothing is posted until this is fixed") from None
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            complete = isinstance(entry["utc"], int) and ("opted_out" in entry or {"withdrawn", "thread_id", "subreddit"} <= entry.keys())
        except (ValueError, TypeError, KeyError):
            complete = False
        if not complete:
            raise UserError(f"{path}: line {number} is damaged; remove it, or restore a copy of the file; nothing is posted until then")
        entries.append(entry)
    return entries


def opted_out(ledger: Path) -> set[str]:
    """Names in lower case of the people who opted out, even if the ledger itself is lost."""
    return {entry["opted_out"].lower() for entry in read(ledger) if "opted_out" in entry}
