"""Fixtures for all tests: only loopback network access, no model hub, and no settings from the environment."""

from __future__ import annotations

import ipaddress
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from filelock import FileLock

from bot import cli
from bot.cli import ROOT

if TYPE_CHECKING:
    from bot.sandbox.server import Box

# Triton, which comes with PyTorch for GPUs, crashes if it is imported after TensorFlow (torch 2.13, tensorflow 2.21). Programs of the bot
# never load both frameworks, but the tests do.
with suppress(ImportError):
    import triton  # type: ignore[import-not-found]  # noqa: F401

collect_ignore = ["google_sql.py", "ray_nodes.py", "warm"]  # programs for other processes

# for module fixtures, which are set up before no_outside_settings
os.environ["BOT_CONDUCT__COMMENT_CLASSIFIER"] = os.environ["BOT_CONDUCT__REPLY_CLASSIFIER"] = ""
os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
os.environ.pop("BOT_BASES", None)  # read when bot.weights.bases is imported

# In memory, where flushing to disk takes no time: the sandbox, the ledger and every file of a stage do it.
MEMORY, NEEDED = Path("/dev/shm"), 6 << 30
if "PYTEST_DEBUG_TEMPROOT" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > NEEDED:
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(MEMORY)  # pytest's own variable: the parent of its temporary folders

# The same examples on every run, and no deadline, because the machine may be busy.
hypothesis.settings.register_profile(
    "tests", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
hypothesis.settings.load_profile("tests")


# The longest files, which come first, so that all processes end at about the same time.
LONGEST = ["notebooks", "encoder_decoder", "live_pages", "contracts", "export_ct2", "evaluate", "glove_bilstm", "isolation", "docs"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {f"test_{name}.py": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))  # stable


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


@pytest.fixture(autouse=True)
def closed_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that connects, sends or resolves names beyond this machine, even if the tested code swallows exceptions."""
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))
    look_up = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name and not is_loopback(name) and not is_number(name):
            pytest.fail(f"a test tried to resolve {name}; only loopback is allowed")
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield


@pytest.fixture(scope="module")
def eager_again() -> Iterator[None]:
    yield
    from tests import tiny

    tiny.eager_again()


@pytest.fixture(autouse=True)
def no_outside_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("BOT_")]:
        monkeypatch.delenv(name)
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # of `make test`; with them, the `make` of a test prints which folder it enters
        monkeypatch.delenv(name, raising=False)
    for name in ("COMMENT", "REPLY"):  # their base is not part of the project; see tests/test_classifier.py
        monkeypatch.setenv(f"BOT_CONDUCT__{name}_CLASSIFIER", "")


@pytest.fixture(scope="session")
def common_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all test processes, for models that are made once."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def warm() -> Iterator[None]:
    """Programs of the bot that tests start, directly or not, are forks of a process that has imported the frameworks: warm/server.py, which
    is started with the first of them and serves those that start once it is ready.

    They are processes all the same, but the time of their imports, up to ten seconds each, is saved.
    """
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as door, pytest.MonkeyPatch.context() as patch:
        door.bind(f"{folder}/socket")  # the path of a Unix socket has at most 107 characters
        door.listen(64)
        is_over = threading.Event()
        server = threading.Thread(target=serve_warm, args=(door, is_over))
        server.start()
        patch.setenv("WARM", door.getsockname())
        patch.setenv("PYTHONPATH", str(Path(__file__).with_name("warm")), prepend=os.pathsep)
        yield
        is_over.set()
        server.join()


def serve_warm(door: socket.socket, is_over: threading.Event) -> None:
    """Start warm/server.py when the first program connects, and end it with the tests."""
    while not select.select([door], [], [], 0.1)[0]:
        if is_over.is_set():
            return
    program = [sys.executable, str(Path(__file__).with_name("warm") / "server.py"), str(door.fileno())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(program, env=environment, pass_fds=[door.fileno()], preexec_fn=cli.as_part_of_parent)
    while not is_over.wait(0.5) and server.poll() is None:
        pass
    Path(f"{door.getsockname()}.ready").unlink(missing_ok=True)  # if the server died, programs start as usual
    server.kill()
    server.wait()
    door.close()  # otherwise those that connected in the meantime would wait forever


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what a process imports or of how it is killed: programs are started as usual."""
    monkeypatch.delenv("WARM")


@pytest.fixture(scope="session")
def shipped(common_folder: Path) -> Callable[..., Path]:
    """shipped(name, *precisions): a copy of the shipped model models/NAME with these exports."""

    def exported(name: str, *precisions: Any) -> Path:
        from bot.export import to_ctranslate2

        with FileLock(common_folder / f".{name}.lock"):
            if not (common_folder / name).exists():
                shutil.copytree(ROOT / "models" / name, common_folder / name)
            for each in precisions:
                to_ctranslate2.export(common_folder / name, each)  # in this process, because another one would import PyTorch again
        return common_folder / name

    return exported


@pytest.fixture(scope="session")
def lively_models(common_folder: Path) -> Path:
    """See lively.make_models."""
    from tests import lively

    folder = common_folder / "lively"
    with FileLock(common_folder / ".lively.lock"):
        if not folder.exists():
            lively.make_models(folder)
    return folder


@pytest.fixture(scope="session")
def keras_models(common_folder: Path) -> Path:
    """A folder with a generator of each back end in Keras, by its name; see tiny.encoder_decoder."""
    from tests import tiny

    folder = common_folder / "keras"
    with FileLock(common_folder / ".keras.lock"):
        for backend in tiny.ENCODER_DECODERS:
            if not (folder / backend).exists():
                tiny.encoder_decoder(folder / backend, backend)
    return folder


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    """A running sandbox, with settings with which `submit` posts to it."""
    from tests import posting

    with posting.serving(tmp_path, monkeypatch) as running:
        yield running


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The path of a run folder next to the sandbox and the ledger of `box`."""
    return tmp_path / "run"


def _guarded(method: Any) -> Any:
    def call(self: socket.socket, *arguments: Any) -> Any:
        address = arguments[-1]  # sendto(data[, flags], address)
        if self.family in (socket.AF_INET, socket.AF_INET6) and not is_loopback(address[0]):
            pytest.fail(f"a test tried to reach {address[0]} port {address[1]}; only loopback is allowed")
        return method(self, *arguments)

    return call
