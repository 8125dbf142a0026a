"""The sandbox as a separate process, for runs, notebooks and tests: `with sandbox_process(folder) as url:`. Loads no web framework."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bot.cli import ROOT, UserError, with_root, without_credentials
from bot.sandbox import SUBREDDITS


def sandbox_settings(url: str, folder: Path) -> dict[str, str]:
    """Environment variables that make every stage use the sandbox at `url`, permit posting there, and keep the ledger in the run folder."""
    return {
        "BOT_REDDIT__URL": url,
        "BOT_FETCH__SUBREDDITS": json.dumps(SUBREDDITS),
        "BOT_SUBMIT__ALLOWED": json.dumps([{"subreddit": each, "permitted_by": "nobody"} for each in SUBREDDITS]),
        "BOT_SUBMIT__LEDGER": str(folder / "ledger.sqlite"),
        "BOT_SUBMIT__MINIMUM_PAUSE_SECONDS": "0",
    }


def sandbox_of(run: Path) -> Path:
    """The sandbox of a run folder. Raises UserError if the run did not use one."""
    path = run / "sandbox.sqlite"
    if not path.exists():
        raise UserError(f"{run}: this run did not use the sandbox; give the folder of `run --sandbox`")
    return path


@contextmanager
def sandbox_process(folder: Path, python: str = sys.executable) -> Iterator[str]:
    """Run the sandbox as a process with its state in `folder`; yields its URL. It ends with the caller, even if the caller is killed."""
    folder = folder.absolute()
    url_file = folder / "sandbox.url"
    url_file.unlink(missing_ok=True)
    command = [
        python,
        "-P",
        "-m",
        "bot",
        "sandbox",
        "--db",
        str(folder / "sandbox.sqlite"),
        "--url-file",
        str(url_file),
        "--until-stdin-closes",
    ]
    with (
        os.fdopen(os.open(folder / "sandbox.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as log,
        # on exit, closes its standard input and waits for it
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=with_root(without_credentials(os.environ)),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as box,
    ):
        deadline = time.monotonic() + 30
        while not url_file.exists():
            if box.poll() is not None or time.monotonic() > deadline:
                raise UserError(f"the sandbox didn't start; see {folder / 'sandbox.log'}")
            time.sleep(0.05)
        yield url_file.read_text().strip()
