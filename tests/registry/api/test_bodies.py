"""Bodies on their way out."""

from __future__ import annotations

from collections.abc import Iterator

import falcon
import pytest

from registry.api import bodies
from registry.api.ranges import ByteRange


def sent(resp: falcon.Response) -> bytes:
    """Send it as a server does."""
    assert isinstance(resp.stream, Iterator)
    return b"".join(resp.stream)


def test_what_comes_in_is_passed_on() -> None:
    """Nothing is added or held back."""
    resp = falcon.Response()
    bodies.send_arriving(resp, iter([b"ab", b"c"]), 3)

    assert sent(resp) == b"abc"


def test_a_body_shorter_than_was_said_drops_the_connection() -> None:
    """An upstream may send less of a range than was asked for: its client waited for the rest."""
    resp = falcon.Response()
    bodies.send_arriving(resp, iter([b"ab"]), 3)

    with pytest.raises(ConnectionResetError):
        sent(resp)


def test_so_does_a_part_of_several() -> None:
    """All of them together are as long as was said."""
    resp = falcon.Response()
    parts = [ByteRange(0, 2), ByteRange(5, 9)]
    bodies.send_parts(resp, lambda start, stop: iter([b"abcdefgh"[start:stop]]), parts, 8)

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

    stream = bodies.unbroken(body(), 3)
    next(stream)
    stream.close()

    assert closed == [True]
