"""The fixtures of conftest.py: blocked network access and settings."""

from __future__ import annotations

import os
import socket

import pytest


@pytest.mark.parametrize(
    ("family", "address"),
    [(socket.AF_INET, ("192.0.2.1", 80)), (socket.AF_INET, ("example.org", 80)), (socket.AF_INET6, ("2001:db8::1", 80))],
)
def test_other_addresses_are_blocked(family: socket.AddressFamily, address: tuple[str, int]) -> None:
    with socket.socket(family) as connection:
        for connect in (connection.connect, connection.connect_ex):
            with pytest.raises(pytest.fail.Exception, match=address[0]):
                connect(address)
    with socket.socket(family, socket.SOCK_DGRAM) as datagrams, pytest.raises(pytest.fail.Exception, match=address[0]):
        datagrams.sendto(b"x", address)


def test_names_are_not_resolved() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"example\.org"):
        socket.create_connection(("example.org", 80), timeout=1)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_is_allowed(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection((host, server.getsockname()[1]), timeout=5) as client:
        assert client.getpeername() == server.getsockname()


def test_unix_sockets_are_allowed() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.sendall(b"x")
        assert other.recv(1) == b"x"


def test_hub_is_offline_and_only_the_conduct_classifiers_are_set() -> None:
    from huggingface_hub import constants

    assert constants.HF_HUB_OFFLINE
    settings = {name: value for name, value in os.environ.items() if name.startswith("BOT_")}
    assert settings == {"BOT_CONDUCT__COMMENT_CLASSIFIER": "", "BOT_CONDUCT__REPLY_CLASSIFIER": ""}
