"""Bodies that are sent without waiting for their client."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.registry.server.delivery import Delivery, LentConnection
from entrepot.registry.server.fileslice import FileSlice, Piece

CONTENT = os.urandom(3_000_000)


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    """Return an open file."""
    (tmp_path / "file").write_bytes(CONTENT)
    opened = os.open(tmp_path / "file", os.O_RDONLY)
    yield opened
    os.close(opened)


def delivered(pieces: list[Piece], length: int) -> bytes:
    """Send pieces to a client that reads along, and return what it got."""
    ours, theirs = socket.socketpair()

    def send() -> None:
        with ours:
            LentConnection(ours).deliver(iter(pieces), length)

    sender = threading.Thread(target=send)
    sender.start()
    with theirs, theirs.makefile("rb") as file:
        came = file.read()
    sender.join()
    return came


@pytest.mark.parametrize(("start", "stop"), [(0, 3_000_000), (5, 2_500_000), (7, 7)])
def test_a_stretch_arrives_as_it_lies_in_its_file(descriptor: int, start: int, stop: int) -> None:
    """Also more than a socket holds."""
    sent = delivered([FileSlice(descriptor, start, stop)], stop - start)

    assert sent == CONTENT[start:stop]


def test_bytes_and_stretches_arrive_in_order(descriptor: int) -> None:
    """A body may have both, and empty pieces."""
    pieces: list[Piece] = [b"ab", b"", FileSlice(descriptor, 0, 1_000_000), CONTENT[:900_000]]

    assert delivered(pieces, 1_900_002) == b"ab" + CONTENT[:1_000_000] + CONTENT[:900_000]


def test_a_client_that_takes_nothing_stops_the_sender_and_loses_nothing(descriptor: int) -> None:
    """False says that the rest waits; it may be sent later, by another thread."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        delivery = Delivery(iter([FileSlice(descriptor, 0, 3_000_000)]), 3_000_000, ours)
        stopped = delivery.send(0)
        got = bytearray()
        while len(got) < len(CONTENT):
            got += theirs.recv(65536)
            delivery.send(0)

    assert stopped is False
    assert got == CONTENT


@pytest.mark.parametrize("is_short", [True, False], ids=["a short body", "a client that left"])
def test_what_cannot_be_sent_is_a_connection_error_and_closes_its_pieces(
    descriptor: int, *, is_short: bool
) -> None:
    """Nothing of it stays open, and the client sees no complete answer."""
    closed = []

    def pieces() -> Iterator[Piece]:
        try:
            yield FileSlice(descriptor, 2_999_990, 3_000_010)
        finally:
            closed.append(True)

    ours, theirs = socket.socketpair()
    if not is_short:
        theirs.close()
    with ours, theirs:
        delivery = Delivery(pieces(), 20, ours)
        with pytest.raises(ConnectionError):
            delivery.send(0)

    assert closed == [True]
