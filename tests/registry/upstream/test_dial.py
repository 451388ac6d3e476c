"""A connection succeeds or fails within one timeout, whatever part of the network fails."""

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
    """Yield the port of a listener that drops every new connection, because its queue is full."""
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
    """Make every host name resolve to the given addresses, in this order."""
    real = socket.getaddrinfo

    def answer(host: str, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("flags"):
            return real(host, *args, **kwargs)
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, address) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", answer)


def test_dropped_packets_cost_one_connect_timeout(black_hole: int) -> None:
    """If an upstream drops packets, only one request waits for the connect timeout.

    After that request the circuit breaker is open.
    """
    url = f"http://127.0.0.1:{black_hole}"
    with FakeUpstream() as unused:
        client = client_of(unused, url=url, connect_timeout=0.1)

    why = []
    for _ in range(2):
        with pytest.raises(Unavailable) as raised:
            client.head("app", Tag("v1"))
        why.append(raised.value.why)

    assert why == [Why.TIMEOUT, Why.RESTING]


def test_the_first_address_that_connects_is_used(
    black_hole: int, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a host has several addresses, the first address that accepts a connection is used.

    The client tries the next address if an address refuses the connection or does not respond soon.
    """
    port = int(upstream.host.rpartition(":")[2])
    _resolving_to(monkeypatch, ("127.0.0.1", black_hole), ("127.0.0.1", 1), ("127.0.0.1", port))

    with dial("some.example", port, 10) as connection:
        peer = connection.getpeername()

    assert peer == ("127.0.0.1", port)


def test_a_hanging_resolver_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the resolver hangs, the connection fails within its timeout.

    The call of the resolver continues in a separate thread.
    """
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


def test_a_closed_port_is_a_refused_connection() -> None:
    """If no process listens on the port, the connection fails with ConnectionRefusedError."""
    with pytest.raises(ConnectionRefusedError):
        dial("127.0.0.1", 1, 5)


@pytest.mark.parametrize("name", ["a.localhost", "A.B.LocalHost", "a.localhost."])
def test_a_name_below_localhost_is_loopback(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A name below `localhost` is loopback, without a call of the resolver (RFC 6761, 6.3)."""
    _resolving_to(monkeypatch, ("192.0.2.1", 1))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = dial(name, listener.getsockname()[1], 5.0)

        assert connection.getpeername() == listener.getsockname()
        connection.close()
