"""Connecting within one span: a black hole, several addresses, a resolver that hangs."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from entrepot.datastore.refs import Tag
from entrepot.registry.errors import Unavailable, Why
from entrepot.registry.upstream.dial import dial
from tests.registry.upstream.clients import client_of
from tests.upstream import FakeUpstream


@pytest.fixture
def black_hole() -> Iterator[int]:
    """Return the port of a listener whose backlog is full: it drops every further SYN."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        yield port
        for each in waiting:
            each.close()


def _resolving_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Let every name that is no address have these."""
    real = socket.getaddrinfo

    def answer(host: str, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("flags"):
            return real(host, *args, **kwargs)
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, address) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", answer)


def test_a_black_hole_costs_the_connect_time_out(black_hole: int) -> None:
    """It is a time-out, and the breaker is open after the first."""
    url = f"http://127.0.0.1:{black_hole}"
    with FakeUpstream() as unused:
        client = client_of(unused, url=url, connect_timeout=0.1)

    why = []
    for _ in range(2):
        with pytest.raises(Unavailable) as raised:
            client.head("app", Tag("v1"))
        why.append(raised.value.why)

    assert why == [Why.TIMEOUT, Why.RESTING]


def test_an_address_that_works_wins_over_one_that_does_not(
    black_hole: int, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is tried a moment after the first, and a refusal is passed over at once."""
    port = int(upstream.host.rpartition(":")[2])
    _resolving_to(monkeypatch, ("127.0.0.1", black_hole), ("127.0.0.1", 1), ("127.0.0.1", port))

    with dial("some.example", port, 10) as connection:
        peer = connection.getpeername()

    assert peer == ("127.0.0.1", port)


def test_a_resolver_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its call can't be broken off, but it can be left behind."""
    release = threading.Event()
    real = socket.getaddrinfo

    def hang(host: str, *args: Any, **kwargs: Any) -> Any:
        if not kwargs.get("flags"):
            release.wait(60)
        return real(host, *args, **{**kwargs, "flags": socket.AI_NUMERICHOST})

    monkeypatch.setattr(socket, "getaddrinfo", hang)

    with pytest.raises(TimeoutError):
        dial("slow.example", 80, 0.05)
    release.set()


def test_nobody_there_is_a_refusal() -> None:
    """Port 1 of loopback."""
    with pytest.raises(ConnectionRefusedError):
        dial("127.0.0.1", 1, 5)


@pytest.mark.parametrize("name", ["a.localhost", "A.B.LocalHost", "a.localhost."])
def test_a_name_below_localhost_is_this_machine(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """RFC 6761, 6.3: no resolver is asked, and none can lead it elsewhere."""
    _resolving_to(monkeypatch, ("192.0.2.1", 1))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = dial(name, listener.getsockname()[1], 5.0)

        assert connection.getpeername() == listener.getsockname()
        connection.close()
