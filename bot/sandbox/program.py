"""Run the sandbox until it is stopped:

    python run_bot.py sandbox --db FILE [--port 0] [--url-file PATH] [--until-stdin-closes]

Reads and writes only the SQLite file. Prints the URL, and writes it to PATH (atomically), once it accepts connections.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from bot import files
from bot.sandbox import CLIENT_ID, CLIENT_SECRET, PASSWORD, USERNAME
from bot.sandbox.server import listen


def main(
    db: Annotated[Path, typer.Option(help="SQLite file; created and seeded if missing")] = Path("data/sandbox.sqlite"),
    port: Annotated[int, typer.Option(min=0, max=65_535, help="port on 127.0.0.1; 0 for a free one")] = 0,
    url_file: Annotated[Path | None, typer.Option(help="file to write the URL to, once the sandbox accepts connections")] = None,
    until_stdin_closes: Annotated[
        bool, typer.Option("--until-stdin-closes", help="stop when standard input closes, so that the sandbox ends with its parent")
    ] = False,
) -> None:
    """A local Reddit for demos and tests, on 127.0.0.1 only."""
    if url_file is not None:
        files.check_output(url_file, [db], is_ours=lambda path: path.read_bytes().startswith(b"http://127.0.0.1:"))
    box, server = listen(db, port)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if until_stdin_closes:
        threading.Thread(target=_wait_for_end_of_input, daemon=True).start()
    if url_file is not None:
        with files.atomic_writer(url_file) as file:
            file.write(box.url + "\n")
    print(box.url, flush=True)
    print(f"account {USERNAME}, password {PASSWORD}, client {CLIENT_ID}, secret {CLIENT_SECRET}; press Ctrl-C to stop", flush=True)
    server.serve_forever()


def _wait_for_end_of_input() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
