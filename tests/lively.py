"""For tests of `reply` and of the pages Try and Chat: a tiny generator that learned a few replies, servers, and Redis."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bot.cli import ROOT
from tests import programs

COMMENT = "Which book made you laugh out loud on the train?"
REPLIES = ["Try the one about the lighthouse keeper.", "It is short and funny.", "The kettle one, because the ending is kind."]


def cold_environment() -> dict[str, str]:
    """The environment, for programs that are started as usual; see the fixture `cold`."""
    return {name: value for name, value in os.environ.items() if name != "WARM"}


def make_models(folder: Path) -> None:
    """lm: a generator that answers COMMENT with REPLIES, mostly; ranker: an untrained ranker; and their exports."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from bot.export import to_ctranslate2
    from bot.generators.transformers import encode_training_row
    from tests import tiny

    lm = tiny.language_model(folder / "lm")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(lm), AutoTokenizer.from_pretrained(lm)
    rows = [encode_training_row(tokenizer, COMMENT, reply, 40)[0] for reply in REPLIES]
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(180):
        ids = torch.tensor([rows[step % len(rows)]])
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(lm)
    for each in (lm, tiny.encoder(folder / "ranker")):
        to_ctranslate2.export(each, "float32")


def write_config(folder: Path, models: Path) -> Path:
    """Settings for those models, with which nothing is refused for its scores, and with all files in `folder`."""
    config = folder / "config.toml"
    config.write_text(
        f'[generate]\nmodel = "{models / "lm"}"\nprecision = "float32"\nnum_candidates = 6\ntemperature = 0.9\nmax_new_tokens = 24\n'
        f'[rank]\nrealism = "{models / "ranker"}"\nprecision = "float32"\nupvote = ""\nrelevance = ""\nchoice = ""\n'
        "[rank.weights]\nintercept = 0\nrealism = 1\nrelevance = 0\nchoice = 0\n"
        "[choose]\nminimum_realism = 0.0\nminimum_rank = 0.0\nminimum_words = 2\n"
        '[conduct]\ncomment_classifier = ""\nreply_classifier = ""\n'
        '[reddit]\nuser_agent = "linux:reply-bot-test:1 (by /u/someone)"\n'
        f'[submit]\nledger = "{folder / "ledger.sqlite"}"\n'
        f'[web]\nstate = "{folder / "web.json"}"\nchat = "{folder / "chat.jsonl"}"\n'
    )
    return config


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class Server:
    """`run_bot.py web` as a process, on a port that stays the same when it starts again."""

    def __init__(self, config: Path, **settings: str) -> None:
        self.config, self.settings, self.port = config, settings, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        variables = {f"BOT_{name}": value for name, value in self.settings.items()}
        command = [sys.executable, str(ROOT / "run_bot.py"), "web", "--port", str(self.port), "--config", str(self.config)]
        # outside the project's folder, so that no file of a person's own is read or written
        self.process = subprocess.Popen(
            command, env=cold_environment() | variables, cwd=self.config.parent, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().split(" ")[0]  # printed first, with the token
        assert self.address.startswith(self.settings.get("WEB__URL", "http://127.0.0.1:")), self.address

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        with self.process:
            pass

    def children(self) -> list[int]:
        """The process ids of the worker processes."""
        children: set[int] = set()
        for each in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            with suppress(OSError):  # the thread has ended
                children.update(map(int, each.read_text().split()))
        return sorted(children)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The worker processes stand still, so that comments wait."""
        children = self.children()
        for each in children:
            os.kill(each, signal.SIGSTOP)
        yield
        for each in children:
            with suppress(ProcessLookupError):  # ended with the server
                os.kill(each, signal.SIGCONT)


@contextmanager
def server(config: Path, **settings: str) -> Iterator[Server]:
    running = Server(config, **settings)
    try:
        yield running
    finally:
        running.kill()


class Redis:
    """A redis-server on a Unix socket, whose data survives a kill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"unix://{folder / 'redis.sock'}"
        self.start()

    def start(self) -> None:
        program = programs.needed("redis-server", "redis-server")
        options = {"port": "0", "unixsocket": self.folder / "redis.sock", "dir": self.folder, "save": ""}
        options |= {"appendonly": "yes", "appendfsync": "always"}
        arguments = [str(each) for name, value in options.items() for each in (f"--{name}", value)]
        self.process = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not self.is_up():
            assert time.monotonic() < deadline and self.process.poll() is None
            time.sleep(0.05)

    def is_up(self) -> bool:
        with socket.socket(socket.AF_UNIX) as caller:
            try:
                caller.connect(str(self.folder / "redis.sock"))
                caller.sendall(b"PING\r\n")
                return caller.recv(64).startswith(b"+PONG")
            except OSError:
                return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def redis_server() -> Iterator[Redis]:
    with tempfile.TemporaryDirectory() as folder:  # the path of a Unix socket has at most 107 characters
        running = Redis(Path(folder))
        try:
            yield running
        finally:
            running.kill()
