"""Bodies on their way out."""

from __future__ import annotations

import os
import socket
from collections.abc import Generator, Iterator
from pathlib import Path

import falcon
import pytest
from falcon import testing

from entrepot.registry.api import response_body
from entrepot.registry.api.etags_and_ranges import ByteRange
from entrepot.registry.api.response_body import ResponseHeaders
from entrepot.registry.server.delivery import LentConnection
from entrepot.registry.server.fileslice import FileSlice, Piece


def sent(resp: falcon.Response) -> bytes:
    """Send it as a server does."""
    assert isinstance(resp.stream, Iterator)
    return b"".join(resp.stream)


def test_what_comes_in_is_passed_on() -> None:
    """Nothing is added or held back."""
    resp = falcon.Response()
    response_body.send_stream(resp, iter([b"ab", b"c"]), 3)

    assert sent(resp) == b"abc"


def test_a_body_shorter_than_was_said_drops_the_connection() -> None:
    """An upstream may send less of a range than was asked for: its client waited for the rest."""
    resp = falcon.Response()
    response_body.send_stream(resp, iter([b"ab"]), 3)

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

    stream = response_body.checked_stream(body(), 3)
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
        response_body.send_stream(resp, body, 8, LentConnection(ours))
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
        lent = LentConnection(ours, has_chunks=False)
        response_body.send_stream(resp, body, length, None if length else lent)

        assert sent(resp) == b"abcdefgh"


def test_a_file_that_is_too_short_drops_the_connection(descriptor: int) -> None:
    """As any other body."""
    resp = falcon.Response()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        response_body.send_stream(
            resp, iter([FileSlice(descriptor, 0, 9)]), 9, LentConnection(ours)
        )

        with pytest.raises(ConnectionResetError):
            sent(resp)


def test_a_client_that_leaves_is_no_news(descriptor: int, caplog: pytest.LogCaptureFixture) -> None:
    """Clients leave all the time; an answer that we cut short is a warning."""
    resp = falcon.Response()
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        response_body.send_stream(
            resp, iter([FileSlice(descriptor, 0, 8)]), 8, LentConnection(ours)
        )

        with pytest.raises(ConnectionError):
            sent(resp)
    assert not caplog.records


class Blob:
    """Answers with a file, as blobs do."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.opened: list[object] = []

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Send it."""
        file = self._path.open("rb")
        self.opened.append(file)
        resp.set_header("Cache-Status", "entrepot; hit")
        resp.set_stream(file, self._path.stat().st_size)

    on_head = on_get


class Unmeasured:
    """Answers with a body of unknown length."""

    def on_head(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Send it piece by piece."""
        resp.stream = iter([b"a", b"b"])


@pytest.fixture
def blob(tmp_path: Path) -> Blob:
    """One of 7 bytes."""
    path = tmp_path / "blob"
    path.write_bytes(b"content")
    return Blob(path)


@pytest.fixture
def client(blob: Blob) -> testing.TestClient:
    """An application with nothing but the middleware and two bodies."""
    app = falcon.App(middleware=[ResponseHeaders()])
    app.add_route("/blob", blob)
    app.add_route("/unmeasured", Unmeasured())
    return testing.TestClient(app)


@pytest.mark.parametrize("path", ["/blob", "/absent"])
def test_every_answer_names_the_api_version(client: testing.TestClient, path: str) -> None:
    """Failures too."""
    answer = client.simulate_get(path)

    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"


def test_what_a_resource_says_of_the_cache_stands(client: testing.TestClient) -> None:
    """Only what nobody said is added: that the answer was made here."""
    assert client.simulate_get("/blob").headers["cache-status"] == "entrepot; hit"
    assert client.simulate_get("/absent").headers["cache-status"] == "entrepot"


def test_a_head_closes_the_file_and_keeps_its_length(
    client: testing.TestClient, blob: Blob
) -> None:
    """Falcon drops the body of a HEAD without closing it."""
    answer = client.simulate_head("/blob")

    assert answer.headers["content-length"] == "7"
    assert answer.content == b""
    (file,) = blob.opened
    assert getattr(file, "closed", None) is True


def test_a_head_of_unknown_length_announces_none(client: testing.TestClient) -> None:
    """A length of 0 would be a lie that containerd believes."""
    assert "content-length" not in client.simulate_head("/unmeasured").headers
