"""Bodies on their way out."""

from __future__ import annotations

import os
import socket
from collections.abc import Generator, Iterator
from pathlib import Path

import falcon
import pytest

from entrepot.registry.api import response_body
from entrepot.registry.api.ranges import ByteRange
from entrepot.registry.server.delivery import Lent
from entrepot.registry.server.fileslice import FileSlice, Piece


def sent(resp: falcon.Response) -> bytes:
    """Send it as a server does."""
    assert isinstance(resp.stream, Iterator)
    return b"".join(resp.stream)


def test_what_comes_in_is_passed_on() -> None:
    """Nothing is added or held back."""
    resp = falcon.Response()
    response_body.send_arriving(resp, iter([b"ab", b"c"]), 3)

    assert sent(resp) == b"abc"


def test_a_body_shorter_than_was_said_drops_the_connection() -> None:
    """An upstream may send less of a range than was asked for: its client waited for the rest."""
    resp = falcon.Response()
    response_body.send_arriving(resp, iter([b"ab"]), 3)

    with pytest.raises(ConnectionResetError):
        sent(resp)


def test_so_does_a_part_of_several() -> None:
    """All of them together are as long as was said."""
    resp = falcon.Response()
    parts = [ByteRange(0, 2), ByteRange(5, 9)]
    response_body.send_parts(resp, lambda start, stop: iter([b"abcdefgh"[start:stop]]), parts, 8)

    with pytest.raises(ConnectionResetError):
        sent(resp)


def test_who_leaves_lets_go_of_what_comes_in() -> None:
    """Its descriptors are closed with the client's connection, not some day."""
    closed: list[bool] = []

    def body() -> Iterator[bytes]:
        try:
            yield from [b"ab", b"c"]
        finally:
            closed.append(True)

    stream = response_body.unbroken(body(), 3)
    next(stream)
    assert isinstance(stream, Generator)
    stream.close()

    assert closed == [True]


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    """Return an open file of eight bytes."""
    (tmp_path / "file").write_bytes(b"abcdefgh")
    opened = os.open(tmp_path / "file", os.O_RDONLY)
    yield opened
    os.close(opened)


def test_what_lies_in_a_file_goes_past_the_server(descriptor: int) -> None:
    """Behind the head, which the server sends with the first that it is given."""
    resp = falcon.Response()
    ours, theirs = socket.socketpair()
    body = iter([FileSlice(descriptor, 0, 5), FileSlice(descriptor, 5, 8)])
    with ours, theirs:
        response_body.send_arriving(resp, body, 8, Lent(ours))
        assert isinstance(resp.stream, Iterator)
        first = next(resp.stream)
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)
        rest = b"".join(resp.stream)

        assert (first, rest) == (b"", b"")
        assert theirs.recv(100) == b"abcdefgh"


@pytest.mark.parametrize("length", [8, None], ids=["known", "unknown"])
def test_without_a_connection_a_file_is_read(descriptor: int, length: int | None) -> None:
    """By any other server, and where nobody knows the length and the client takes no chunks."""
    resp = falcon.Response()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        body: Iterator[Piece] = iter([b"", FileSlice(descriptor, 0, 8)])
        lent = Lent(ours, has_chunks=False)
        response_body.send_arriving(resp, body, length, None if length else lent)

        assert sent(resp) == b"abcdefgh"


def test_a_file_that_is_too_short_drops_the_connection(descriptor: int) -> None:
    """As any other body."""
    resp = falcon.Response()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        response_body.send_arriving(resp, iter([FileSlice(descriptor, 0, 9)]), 9, Lent(ours))

        with pytest.raises(ConnectionResetError):
            sent(resp)


def test_a_client_that_leaves_is_no_news(descriptor: int, caplog: pytest.LogCaptureFixture) -> None:
    """Clients leave all the time; an answer that we cut short is a warning."""
    resp = falcon.Response()
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        response_body.send_arriving(resp, iter([FileSlice(descriptor, 0, 8)]), 8, Lent(ours))

        with pytest.raises(ConnectionError):
            sent(resp)
    assert not caplog.records
