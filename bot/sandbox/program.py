"""Run the sandbox until it is stopped:

    python run_bot.py sandbox --db FILE [--port 0] [--url-file PATH] [--until-stdin-closes]
    python run_bot.py sandbox --run data/runs/X        the sandbox of `run --sandbox`, to read in a browser what was posted

Reads and writes only the SQLite file. Prints the URL, and writes it to PATH (atomically), once it accepts connections.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from bot import files, names
from bot.cli import UserError
from bot.sandbox import CLIENT_ID, CLIENT_SECRET, PASSWORD, USERNAME
from bot.sandbox.process import sandbox_of
from bot.sandbox.server import listen


def main(
    db: Annotated[Path | None, typer.Option(help="SQLite file; created and seeded if missing [default: data/sandbox.sqlite]")] = None,
    run: Annotated[Path | None, typer.Option(help="run folder of `run --sandbox`, instead of --db")] = None,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="port on 127.0.0.1; 0 for a free one")] = 0,
    url_file: Annotated[Path | None, typer.Option(help="file to write the URL to, once the sandbox accepts connections")] = None,
    until_stdin_closes: Annotated[
        bool, typer.Option("--until-stdin-closes", help="stop when standard input closes, so that the sandbox ends with its parent")
    ] = False,
) -> None:
    """A local Reddit for demos and tests, on 127.0.0.1 only."""
    if run is not None and db is not None:
        raise UserError("--run and --db exclude each other; give only one of them")
    db = sandbox_of(run) if run is not None else db or Path("data/sandbox.sqlite")
    with files.run_folder(run) if run is not None else nullcontext():
        serve(db, port, url_file, until_stdin_closes)


def serve(db: Path, port: int, url_file: Path | None, until_stdin_closes: bool) -> None:
    if url_file is not None:
        files.check_output(url_file, [db], is_ours=lambda path: path.read_bytes().startswith(b"http://127.0.0.1:"))
    db = Path(os.path.realpath(db))
    files.check_output(db, [], is_ours=lambda _: True)  # `listen` says whether it is a database of the sandbox
    box, server = listen(db, port)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if until_stdin_closes:
        threading.Thread(target=_wait_for_end_of_input, daemon=True).start()
    if url_file is not None:
        with files.atomic_writer(url_file) as file:
            file.write(box.url + "\n")
    print(box.url, flush=True)
    print(f"account {USERNAME}, password {PASSWORD}, client {CLIENT_ID}, secret {CLIENT_SECRET}; press Ctrl-C to stop", flush=True)
    for row in box.store.comments_by(USERNAME):
        print(f"posted: {names.permalink(row['link_id'], row['name'], box.url)}", flush=True)
    server.serve_forever()


def _wait_for_end_of_input() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
