"""A local Reddit for demos and tests: the real PRAW talks to it over HTTP, on loopback only, and its state is one SQLite file.

    python run_bot.py sandbox --db FILE --port 0

or, in a test, `with server.serve(db_path) as box: box.url`. Its only account and client are the fixed ones below; they open nothing else.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bot.cli import ROOT, UserError

CLIENT_ID = "sandbox-client"
CLIENT_SECRET = "sandbox-secret"
USERNAME = "sandbox_reply_bot"
PASSWORD = "sandbox-password"
SUBREDDITS = ["sandbox_books", "sandbox_home", "sandbox_college"]  # those that are open to the account


@contextmanager
def process(folder: Path, python: str = sys.executable) -> Iterator[str]:
    """The sandbox as a process with its state in `folder`; yields its URL. It ends with the caller, however that ends."""
    folder = folder.absolute()
    url_file = folder / "sandbox.url"
    url_file.unlink(missing_ok=True)
    command = [python, "-m", "bot", "sandbox", "--db", str(folder / "sandbox.sqlite"), "--url-file", str(url_file), "--until-stdin-closes"]
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
