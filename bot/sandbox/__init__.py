"""A local Reddit for demos and tests: the real PRAW talks to it over HTTP, on loopback only, and its state is one SQLite file.

    python -m bot.sandbox --db FILE --port 0

or, in a test, `with sandbox.serve(db_path) as box: box.url`. Its only account and client are the fixed ones below; they open nothing else.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bot import ROOT, UserError

if TYPE_CHECKING:
    from bot.sandbox.server import Box

CLIENT_ID = "sandbox-client"
CLIENT_SECRET = "sandbox-secret"
USERNAME = "sandbox_reply_bot"
PASSWORD = "sandbox-password"
SUBREDDITS = ["sandbox_books", "sandbox_home", "sandbox_college"]  # those that are open to the account


def serve(db: Path, port: int = 0, now: float | None = None) -> AbstractContextManager[Box]:
    """Serve the state in `db` on 127.0.0.1 from a thread; the file is made and seeded where there is none.

    port 0 takes a free one. now: epoch seconds that the seed's times count back from (None: the clock).
    """
    from bot.sandbox.server import serve as start  # keeps Flask out of those who only want the account

    return start(db, port, now)


@contextmanager
def process(folder: Path, python: str = sys.executable) -> Iterator[str]:
    """The sandbox as a process with its state in `folder`; yields its URL. It ends with the caller, however that ends."""
    folder = folder.absolute()
    url_file = folder / "sandbox.url"
    url_file.unlink(missing_ok=True)
    command = [python, "-m", "bot.sandbox", "--db", str(folder / "sandbox.sqlite"), "--url-file", str(url_file), "--until-stdin-closes"]
    with (
        (folder / "sandbox.log").open("w") as log,
        # leaving it closes its standard input and waits
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT) as box,
    ):
        deadline = time.monotonic() + 30
        while not url_file.exists():
            if box.poll() is not None or time.monotonic() > deadline:
                raise UserError(f"the sandbox didn't start; {folder / 'sandbox.log'} says why")
            time.sleep(0.05)
        yield url_file.read_text().strip()
