"""If the network silently drops the packets of an idle connection, the client opens another."""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Any

import pytest

from entrepot.datastore.refs import Digest, Tag
from entrepot.registry.errors import Unavailable, Why
from entrepot.registry.upstream import dial, pools
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.wire import ConnectionBroken, Request, Wire
from tests.registry.upstream.clients import client_of
from tests.upstream import FakeUpstream

pytestmark = pytest.mark.slow

V1 = Tag("v1")
LAYER = Digest.of(b"layer")
_ATTACH_FILTER = 26  # SO_ATTACH_FILTER of socket(7), for which Python has no name
_RETURN_0 = struct.pack("HBBI", 0x06, 0, 0, 0)  # BPF_RET 0 (see linux/filter.h) drops each packet


def lose_packets(connection: socket.socket) -> None:
    """From now on, drop all packets that arrive on *connection*, even acknowledgements.

    As with a dead router, neither end gets an error.
    """
    program = ctypes.create_string_buffer(_RETURN_0)
    attached = struct.pack("HP", 1, ctypes.addressof(program))
    connection.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, attached)


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[socket.socket]:
    """Return a list to which each new connection is added.

    These connections fail if a packet is not acknowledged within half a second.
    """
    monkeypatch.setattr(dial, "_UNACKNOWLEDGED_MS", 500)
    made = list[socket.socket]()
    real = dial.dial

    def noting(*args: Any) -> socket.socket:
        made.append(real(*args))
        return made[-1]

    monkeypatch.setattr(pools, "dial", noting)
    return made


def test_an_unacknowledged_request_is_repeated_on_a_new_connection(
    upstream: FakeUpstream, dialled: list[socket.socket]
) -> None:
    """If no TCP acknowledgement follows a request, the client repeats it on a new connection.

    The client does so long before the read timeout of 30 s, and the circuit breaker counts no
    failure.
    """
    upstream.add_image("app", "v1", [b"layer"])
    client = client_of(upstream)
    client.head("app", V1)
    lose_packets(dialled[0])

    client.head("app", V1)

    assert len(dialled) == 2
    assert client.is_healthy


def test_other_idle_connections_are_not_tried_after_a_lost_one(
    upstream: FakeUpstream, dialled: list[socket.socket]
) -> None:
    """If an idle connection was lost, the client opens a new connection.

    The client does not try its other idle connections, because they use the same network path
    and each would cost the same wait.
    """
    upstream.add_image("app", "v1", [b"layer"])
    client = client_of(upstream)
    with client.blob("app", LAYER) as first, client.blob("app", LAYER) as second:
        assert list(first.chunks()) == list(second.chunks())
    for each in dialled:
        lose_packets(each)
    client.head("app", V1)
    upstream.forget()

    with client.blob("app", LAYER) as first, client.blob("app", LAYER) as second:
        assert list(first.chunks()) == list(second.chunks())
    assert upstream.count() == 2


def test_an_unsafe_request_is_not_repeated(
    upstream: FakeUpstream, dialled: list[socket.socket]
) -> None:
    """If the response to a POST is lost, the client does not repeat the POST.

    The lost POST may already have had an effect.
    """
    upstream.add_image("app", "v1", [b"layer"])
    wire = Wire(UpstreamConfig("upstream.test", upstream.url))
    answer = wire.send(Request("GET", f"{upstream.url}/v2/"))
    answer.read(100)
    answer.close()
    lose_packets(dialled[0])

    with pytest.raises(ConnectionBroken):
        wire.send(Request("POST", f"{upstream.url}/v2/", body=b"grant"))

    assert len(dialled) == 1


def test_a_lost_new_connection_is_a_failure(
    upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a new connection is lost, the request fails; the client opens no other connection."""
    dialled = list[socket.socket]()
    monkeypatch.setattr(dial, "_UNACKNOWLEDGED_MS", 500)
    real = dial.dial

    def losing(*args: Any) -> socket.socket:
        dialled.append(real(*args))
        lose_packets(dialled[-1])
        return dialled[-1]

    monkeypatch.setattr(pools, "dial", losing)
    with pytest.raises(Unavailable) as raised:
        client_of(upstream).head("app", V1)

    assert raised.value.why is Why.TIMEOUT
    assert len(dialled) == 1
