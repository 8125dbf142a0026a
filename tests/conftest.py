"""Fixtures for all tests: only loopback network access, no model hub, and no settings from the environment."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:
    from bot.sandbox.server import Box

collect_ignore = ["google_sql.py"]  # a program for the emulator's environment

# for module fixtures, which are set up before no_outside_settings
os.environ["BOT_CONDUCT__COMMENT_CLASSIFIER"] = os.environ["BOT_CONDUCT__REPLY_CLASSIFIER"] = ""
os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
os.environ.pop("BOT_BASES", None)  # read when bot.weights.bases is imported

# The same examples on every run, and no deadline, because the machine may be busy.
hypothesis.settings.register_profile(
    "tests", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
hypothesis.settings.load_profile("tests")


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
    for name in ("COMMENT", "REPLY"):  # their base is not part of the project; see tests/test_classifier.py
        monkeypatch.setenv(f"BOT_CONDUCT__{name}_CLASSIFIER", "")


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
