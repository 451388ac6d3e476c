"""Response bodies are sent to a connection without blocking the worker's thread."""

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
    """Yield the descriptor of an open file with `CONTENT`."""
    (tmp_path / "file").write_bytes(CONTENT)
    opened = os.open(tmp_path / "file", os.O_RDONLY)
    yield opened
    os.close(opened)


def delivered(pieces: list[Piece], length: int) -> bytes:
    """Send *pieces* to a client that reads immediately; return the bytes that it received."""
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
def test_a_file_slice_arrives_unchanged(descriptor: int, start: int, stop: int) -> None:
    """A client receives a file slice unchanged, even if it is larger than a socket buffer."""
    sent = delivered([FileSlice(descriptor, start, stop)], stop - start)

    assert sent == CONTENT[start:stop]


def test_bytes_and_file_slices_arrive_in_order(descriptor: int) -> None:
    """A body can mix bytes, file slices and empty pieces; the client receives them in order."""
    pieces: list[Piece] = [b"ab", b"", FileSlice(descriptor, 0, 1_000_000), CONTENT[:900_000]]

    assert delivered(pieces, 1_900_002) == b"ab" + CONTENT[:1_000_000] + CONTENT[:900_000]


def test_sending_stops_if_the_client_reads_nothing_and_can_continue(descriptor: int) -> None:
    """If a client reads nothing, `send` returns False; a later call sends the rest."""
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


def test_a_large_slice_is_sent_in_one_call_while_the_client_reads(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the client reads without a pause, a large file is sent with one call of `sendfile`.

    During that call the kernel waits until the client has read. With several calls the thread would
    wake up for each small part of the file.
    """
    calls = []
    sendfile = os.sendfile

    def counted(*args: int) -> int:
        calls.append(args)
        return sendfile(*args)

    monkeypatch.setattr(os, "sendfile", counted)
    ours, theirs = socket.socketpair()
    came = bytearray()

    def read() -> None:
        with theirs:
            while piece := theirs.recv(65536):
                came.extend(piece)

    reader = threading.Thread(target=read)
    reader.start()
    with ours:
        is_over = Delivery(iter([FileSlice(descriptor, 0, 3_000_000)]), 3_000_000, ours).send(60)
        is_blocking = os.get_blocking(ours.fileno())
    reader.join()

    assert is_over
    assert came == CONTENT
    assert len(calls) == 1
    assert not is_blocking


def test_a_large_slice_stops_after_the_patience_and_can_continue(descriptor: int) -> None:
    """If a client reads nothing for longer than the given time, `send` returns False.

    A later call sends the rest.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        delivery = Delivery(iter([FileSlice(descriptor, 0, 3_000_000)]), 3_000_000, ours)
        stopped = delivery.send(0.05)
        is_blocking = os.get_blocking(ours.fileno())
        got = bytearray()
        while len(got) < len(CONTENT):
            got += theirs.recv(65536)
            delivery.send(0)

    assert stopped is False
    assert not is_blocking
    assert got == CONTENT


@pytest.mark.parametrize("is_short", [True, False], ids=["a short body", "a client that left"])
def test_a_failed_delivery_is_a_connection_error_and_closes_its_pieces(
    descriptor: int, *, is_short: bool
) -> None:
    """If a body is too short or the client disconnects, `send` raises ConnectionError.

    `send` also closes the iterator of the body, so that no file stays open.
    """
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
