"""Bytes that lie in a file until they are sent."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.stretch import Piece, Stretch, in_bytes

CONTENT = os.urandom(3_000_000)


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    """Return an open file."""
    (tmp_path / "file").write_bytes(CONTENT)
    opened = os.open(tmp_path / "file", os.O_RDONLY)
    yield opened
    os.close(opened)


def received(stretch: Stretch) -> tuple[int, bytes]:
    """Send it to somebody who reads along; return what the sender says, and what came."""
    ours, theirs = socket.socketpair()
    said: list[int] = []

    def send() -> None:
        with ours:
            said.append(stretch.send(ours))

    sender = threading.Thread(target=send)
    sender.start()
    with theirs, theirs.makefile("rb") as file:
        came = file.read()
    sender.join()
    return said[0], came


@pytest.mark.parametrize(("start", "stop"), [(0, 3_000_000), (5, 2_500_000), (7, 7)])
def test_it_is_what_lies_there(descriptor: int, start: int, stop: int) -> None:
    """Read or sent, more than a socket or a chunk holds."""
    stretch = Stretch(descriptor, start, stop)

    assert b"".join(stretch.chunks()) == CONTENT[start:stop]
    assert received(stretch) == (stop - start, CONTENT[start:stop])


def test_a_file_that_ends_before_it_ends_it(descriptor: int) -> None:
    """Whoever asked sees that there was less."""
    stretch = Stretch(descriptor, 2_999_990, 3_000_010)

    assert b"".join(stretch.chunks()) == CONTENT[-10:]
    assert received(stretch) == (10, CONTENT[-10:])


def test_who_has_left_is_sent_nothing(descriptor: int) -> None:
    """That is an error of the connection, and of nothing else."""
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(ConnectionError):
        Stretch(descriptor, 0, 10).send(ours)


def test_all_of_it_can_be_had_as_bytes(descriptor: int) -> None:
    """In order, whatever each piece is."""
    pieces: list[Piece] = [b"a", Stretch(descriptor, 0, 3), b"b"]

    assert b"".join(in_bytes(pieces)) == b"a" + CONTENT[:3] + b"b"
