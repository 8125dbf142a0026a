"""Load of the chat: open event streams, and messages at a steady rate. Prints a table.

    python benchmarks/web_load.py                                     50 streams, 20 messages a minute for two minutes
    python benchmarks/web_load.py --config config.example.toml        with the shipped models

Without --config, the models are the tiny ones of the tests, and the settings are those of lively.write_config, so that the server is
measured and not the models. Starts it with an empty room in a temporary folder. Each stream is that of another person, who also writes.
Lost or repeated: a stream that did not get each message, and the end of each message (a reply, or why there is none), exactly once. Memory
is that of the server and its workers, from the third answer on.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
SAMPLE_SECONDS = 10
COMMENTS = (
    "Which book made you laugh out loud on a train?",
    "My kettle takes ten minutes to boil, is that normal?",
    "I write better with music on. Does anybody else?",
)


class Person:
    """A browser: a session with a name, an open event stream, and what came through it, with the time of each event."""

    def __init__(self, port: int, name: str) -> None:
        self.port, self.cookie = port, ""
        self.events: list[tuple[float, dict[str, Any]]] = []
        token = re.search(r'name="csrf_token" value="([\w-]+)"', self.call("GET", "/name"))
        assert token
        self.token = token[1]
        self.call("POST", "/name", {"who": name, "next": "/chat/"})
        self.call("GET", "/chat/")
        threading.Thread(target=self.follow, daemon=True).start()

    def call(self, method: str, path: str, form: dict[str, str] | None = None) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Cookie": self.cookie, "Content-Type": "application/x-www-form-urlencoded"}
        headers |= {"X-CSRF-Token": self.token} if form is not None else {}
        connection.request(method, path, urlencode(form) if form else None, headers)
        answer = connection.getresponse()
        body = answer.read().decode()
        if cookie := answer.getheader("Set-Cookie"):
            self.cookie = cookie.partition(";")[0]
        if answer.status >= 400:
            raise SystemExit(f"{method} {path}: {answer.status} {body[:200]}")
        return body

    def follow(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", "/chat/events", headers={"Cookie": self.cookie})
        for line in connection.getresponse():
            if line.startswith(b"data: "):
                self.events.append((time.monotonic(), json.loads(line[6:])))

    def of(self, *kinds: str) -> list[str]:
        """The messages that the events of these types are about."""
        return [event.get("message", event["id"]) for _, event in self.events if event["type"] in kinds]


def memory(pid: int) -> float:
    """Resident memory of a process and its children, in MiB."""
    listed = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    pages = [int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in {str(pid), *(child for each in listed for child in each)}]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


def sample_memory(pid: int, is_warm: Callable[[], bool], has_ended: threading.Event, samples: list[float]) -> None:
    """Add the memory of the server to `samples` every SAMPLE_SECONDS, as soon as it is warm; and once more at the end."""
    while not has_ended.is_set():
        if is_warm():
            samples.append(memory(pid))
        has_ended.wait(SAMPLE_SECONDS if samples else 0.1)
    samples.append(memory(pid))


def measure(port: int, pid: int, streams: int, a_minute: float, seconds: float) -> dict[str, str]:
    people = [Person(port, f"Person {number}") for number in range(streams)]
    samples: list[float] = []  # MiB
    has_ended = threading.Event()
    sampler = threading.Thread(target=sample_memory, args=(pid, lambda: len(people[0].of("answer")) >= 3, has_ended, samples), daemon=True)
    sampler.start()
    sent, start = 0, time.monotonic()
    while time.monotonic() - start < seconds:
        people[sent % streams].call("POST", "/chat/say", {"text": f"{COMMENTS[sent % len(COMMENTS)]} ({sent})"})
        sent += 1
        time.sleep(max(0.0, start + sent * 60 / a_minute - time.monotonic()))
    deadline = time.monotonic() + 120
    while any(len(each.of("answer")) < sent for each in people) and time.monotonic() < deadline:
        time.sleep(0.2)
    has_ended.set()
    sampler.join()
    ids = people[0].of("message")
    lost = sum(each.of("message") != ids or sorted(each.of("answer")) != sorted(ids) for each in people) + (len(ids) != sent)
    began = {event["id"]: at for at, event in people[0].events if event["type"] == "message"}
    delays = [at - began[event["message"]] for at, event in people[0].events if event["type"] == "answer"]
    times = [[at for at, event in each.events if event["type"] == "answer"] for each in people]
    spread = [max(each) - min(each) for each in zip(*times, strict=True)]
    answered = sum(event["type"] == "answer" and event["text"] is not None for _, event in people[0].events)
    return {
        "streams": str(streams),
        "messages": f"{sent} in {seconds:.0f} s",
        "streams with lost or repeated events": str(lost),
        "with a reply": str(answered),
        "seconds until the end of a message, median and maximum": f"{statistics.median(delays):.2f}, {max(delays):.2f}",
        "seconds between the first and the last stream, maximum": f"{max(spread):.2f}",
        f"memory every {SAMPLE_SECONDS} s, and at the end": f"{', '.join(f'{each:.0f}' for each in samples)} MiB",
        "load of the machine before": f"{os.getloadavg()[2]:.1f}",
    }


@contextmanager
def served(config: Path | None) -> Iterator[tuple[int, int]]:
    """`run_bot.py web` with an empty room. Yields its port and process id."""
    with tempfile.TemporaryDirectory() as folder:
        variables = {"BOT_WEB__CHAT": f"{folder}/chat.jsonl", "BOT_WEB__STATE": f"{folder}/web.json"}
        command = [sys.executable, str(ROOT / "run_bot.py"), "web", "--port", "0", *(["--config", str(config)] if config else [])]
        with subprocess.Popen(command, env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                yield int(server.stdout.readline().split(":")[2].split("/")[0]), server.pid
            finally:
                server.kill()


def tiny_config(folder: Path) -> Path:
    """The settings and the models of the tests of the pages, made in this folder."""
    sys.path.insert(0, str(ROOT))
    from tests import lively

    lively.make_models(folder / "models")
    return lively.write_config(folder, folder / "models")


def main(
    config: Annotated[Path | None, typer.Option(help="TOML settings [default: those of the tests, with tiny models]")] = None,
    streams: Annotated[int, typer.Option(min=1, max=190)] = 50,
    a_minute: Annotated[float, typer.Option(min=1, help="messages a minute, of all people together")] = 20,
    seconds: Annotated[float, typer.Option(min=1)] = 120,
) -> None:
    """Measure the chat under load."""
    with tempfile.TemporaryDirectory() as folder, served(config or tiny_config(Path(folder))) as (port, pid):
        results = measure(port, pid, streams, a_minute, seconds)
    table = Table("", "", title="Chat under load")
    for name, value in results.items():
        table.add_row(name, value)
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
