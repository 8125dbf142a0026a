"""Servers with the OpenAI interface for tests: a stub that does what a test says, and `transformers serve` with a model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from bot import cli, generators
from bot.config import GenerateSettings
from bot.generators import Failed
from bot.schema import Candidate
from tests import tiny
from tests.lively import free_port

Answer = tuple[int, dict[str, str], Any]  # status, headers, body: JSON unless it is bytes
WORDS = " ".join(tiny.TEXT).split()
STARTED: list[subprocess.Popen[bytes]] = []

COMMENTS = [("t1_a", "Which book made you laugh?"), ("t1_b", "My kettle takes ten minutes to boil, is that normal?"), ("t1_c", "Hm.")]


def reply_to(seed: int, number: int) -> str:
    """Another reply of eight words for each seed and number."""
    return " ".join(WORDS[(seed // 7**place + number * (place + 1)) % len(WORDS)] for place in range(8))


def candidates(body: dict[str, Any], n: int | None = None, logprobs: bool = True) -> Answer:
    """A right answer with as many candidates as were asked for, or n."""
    choices: list[dict[str, Any]] = []
    for number in range(body.get("n", 1) if n is None else n):
        reply = reply_to(body.get("seed", 0), number)
        rows = [{"token": word, "logprob": -0.5 - place} for place, word in enumerate(reply.split()[:2])]
        if "messages" in body:
            choices.append({"index": number, "message": {"role": "assistant", "content": reply}, "logprobs": {"content": rows}})
        else:
            given = {"tokens": [row["token"] for row in rows], "token_logprobs": [row["logprob"] for row in rows]}
            choices.append({"index": number, "text": f" {reply}", "logprobs": given})
        if not logprobs or "logprobs" not in body:
            choices[-1]["logprobs"] = None
    return 200, {}, {"object": "list", "choices": choices}


@dataclass
class Stub:
    """`answer` is called with the body and the number of the request, from 0. most: requests that were in progress at the same time."""

    answer: Callable[[dict[str, Any], int], Answer] = lambda body, _: candidates(body)
    models: tuple[str, ...] = ("small", "large")
    url: str = ""
    asked: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)  # path, headers, body
    times: list[float] = field(default_factory=list)
    running: int = 0
    most: int = 0
    lock: Lock = field(default_factory=Lock)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [body for _, _, body in self.asked]

    def folder(self, path: Path, **settings: Any) -> Path:
        """Write a model folder for this server."""
        path.mkdir(parents=True, exist_ok=True)
        content = {"url": f"{self.url}/v1", "model": "small", "prompt": "training-text"} | settings
        (path / "server.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in content.items()), encoding="utf-8")
        return path


@contextmanager
def dripping(part: bytes, pause: float) -> Iterator[str]:
    """A server whose answers consist of this part, again and again with a pause, until the client goes away."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):
                while True:
                    self.wfile.write(part)
                    self.wfile.flush()
                    time.sleep(pause)

        def log_message(self, *_: Any) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()
        running.server_close()


@contextmanager
def stub(answer: Callable[[dict[str, Any], int], Answer] | None = None) -> Iterator[Stub]:
    state = Stub()
    if answer:
        state.answer = answer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send(200, {}, {"object": "list", "data": [{"id": name} for name in state.models]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with state.lock:
                number = len(state.asked)
                state.asked.append((self.path, dict(self.headers), body))
                state.times.append(time.monotonic())
                state.running += 1
                state.most = max(state.most, state.running)
            try:
                answer = state.answer(body, number)
            finally:
                with state.lock:
                    state.running -= 1
            if answer[0] == 0:  # break the connection
                self.close_connection = True
                self.connection.close()
            else:
                self.send(*answer)

        def send(self, status: int, headers: dict[str, str], body: Any) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

        def finish(self) -> None:
            with suppress(OSError, ValueError):  # the client went away, or the connection was broken on purpose
                super().finish()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign, assignment]
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def transformers_serve(model: Path, log: Path) -> str:
    """Start `transformers serve` with a model folder; returns its address when it answers. It dies with this process, or with stop_all."""
    port = free_port()
    call = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(model), "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*call, "--device", "cpu", "--dtype", "float32"],
            env=cli.with_root(os.environ) | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""},
            stdout=output, stderr=subprocess.STDOUT, preexec_fn=cli.die_with_parent,
        )  # fmt: skip
    STARTED.append(process)
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return f"http://127.0.0.1:{port}/v1"
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.2)
    raise AssertionError(log.read_text(encoding="utf-8", errors="replace")[-2000:])


def stop_all() -> None:
    """Stop the servers that transformers_serve started."""
    while STARTED:
        process = STARTED.pop()
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# --- the back end -----------------------------------------------------------------------------------------------------------


def settings(model: Path = Path("m"), **changes: Any) -> GenerateSettings:
    return GenerateSettings(**{"backend": "openai-server", "model": model, "num_candidates": 4, "max_new_tokens": 12, **changes})


def load(folder: Path) -> Any:
    return generators.load("openai-server", folder)


def sample(folder: Path, comments: list[tuple[str, str]] = COMMENTS, seed: int = 1, **changes: Any) -> dict[str, list[Candidate]]:
    """The candidates by comment, in the order of the ids."""
    rows = [each for each in load(folder).sample(comments, settings(**changes), seed) if not isinstance(each, Failed)]
    return {each[0].comment_id: each for each in sorted(rows, key=lambda each: each[0].comment_id)}
