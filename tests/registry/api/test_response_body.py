"""A client gets a complete response body, or the server closes the connection."""

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
    """Return the bytes that a server would send for the body of *resp*."""
    assert isinstance(resp.stream, Iterator)
    return b"".join(resp.stream)


def test_a_stream_is_sent_unchanged() -> None:
    """A stream that has the length in Content-Length is sent unchanged."""
    resp = falcon.Response()
    response_body.send_stream(resp, iter([b"ab", b"c"]), 3)

    assert sent(resp) == b"abc"


def test_a_body_shorter_than_announced_drops_the_connection() -> None:
    """If a body is shorter than its Content-Length, the server drops the connection.

    Otherwise the client would wait for the bytes that the upstream failed to send.
    """
    resp = falcon.Response()
    response_body.send_stream(resp, iter([b"ab"]), 3)

    with pytest.raises(ConnectionResetError):
        sent(resp)


def test_a_short_part_of_a_multipart_body_drops_the_connection() -> None:
    """If a part of a multipart body is too short, the server drops the connection.

    In this case the whole body is shorter than its Content-Length.
    """
    resp = falcon.Response()
    parts = [ByteRange(0, 2), ByteRange(5, 9)]
    response_body.send_parts(resp, lambda start, stop: iter([b"abcdefgh"[start:stop]]), parts, 8)

    with pytest.raises(ConnectionResetError):
        sent(resp)


def test_a_client_that_leaves_closes_the_source_of_the_body() -> None:
    """If a client disconnects, the generator of the body is closed at once.

    The generator does not stay open until Python's garbage collection closes it.
    """
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
    """Yield the descriptor of an open file of eight bytes."""
    (tmp_path / "file").write_bytes(b"abcdefgh")
    opened = os.open(tmp_path / "file", os.O_RDONLY)
    yield opened
    os.close(opened)


def test_slices_of_a_file_are_sent_over_the_connection_directly(descriptor: int) -> None:
    """A range of a stored file is sent with `sendfile` after the header section was sent."""
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
def test_without_a_connection_a_slice_is_read(descriptor: int, length: int | None) -> None:
    """If the WSGI server itself sends a body, the registry reads the stored file and yields bytes.

    A server other than gunicorn sends every body itself. gunicorn sends a body itself if its length
    is unknown and the client uses HTTP/1.0.
    """
    resp = falcon.Response()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        body: Iterator[Piece] = iter([b"", FileSlice(descriptor, 0, 8)])
        lent = LentConnection(ours, has_chunks=False)
        response_body.send_stream(resp, body, length, None if length else lent)

        assert sent(resp) == b"abcdefgh"


def test_a_file_that_is_too_short_drops_the_connection(descriptor: int) -> None:
    """If a file is shorter than the Content-Length, the server drops the connection."""
    resp = falcon.Response()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        response_body.send_stream(
            resp, iter([FileSlice(descriptor, 0, 9)]), 9, LentConnection(ours)
        )

        with pytest.raises(ConnectionResetError):
            sent(resp)


def test_a_client_that_leaves_is_not_logged(
    descriptor: int, caplog: pytest.LogCaptureFixture
) -> None:
    """If a client disconnects during a response, the registry logs nothing."""
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
    """A resource that responds with an open file, as the resource of blobs does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.opened: list[object] = []

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Respond with the file."""
        file = self._path.open("rb")
        self.opened.append(file)
        resp.set_header("Cache-Status", "entrepot; hit")
        resp.set_stream(file, self._path.stat().st_size)

    on_head = on_get


class UnknownLength:
    """A resource whose body is a stream without a Content-Length."""

    def on_head(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Respond with a body of two pieces."""
        resp.stream = iter([b"a", b"b"])


@pytest.fixture
def blob(tmp_path: Path) -> Blob:
    """Return the resource that responds with a file of seven bytes."""
    path = tmp_path / "blob"
    path.write_bytes(b"content")
    return Blob(path)


@pytest.fixture
def client(blob: Blob) -> testing.TestClient:
    """Return a client of an application with the tested middleware and two resources.

    `/blob` returns a file of seven bytes; `/unmeasured` returns a stream of unknown length.
    """
    app = falcon.App(middleware=[ResponseHeaders()])
    app.add_route("/blob", blob)
    app.add_route("/unmeasured", UnknownLength())
    return testing.TestClient(app)


@pytest.mark.parametrize("path", ["/blob", "/absent"])
def test_every_response_has_the_api_version(client: testing.TestClient, path: str) -> None:
    """Each response, even a 404, has the header Docker-Distribution-API-Version."""
    answer = client.simulate_get(path)

    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"


def test_a_cache_status_set_by_the_resource_is_kept(client: testing.TestClient) -> None:
    """The middleware adds a Cache-Status only if the resource has not set one."""
    assert client.simulate_get("/blob").headers["cache-status"] == "entrepot; hit"
    assert client.simulate_get("/absent").headers["cache-status"] == "entrepot"


def test_a_head_closes_the_file_and_keeps_its_length(
    client: testing.TestClient, blob: Blob
) -> None:
    """For a HEAD, the middleware closes the blob's file, because Falcon does not close it.

    The response has the Content-Length of the file.
    """
    answer = client.simulate_head("/blob")

    assert answer.headers["content-length"] == "7"
    assert answer.content == b""
    (file,) = blob.opened
    assert getattr(file, "closed", None) is True


def test_a_head_of_unknown_length_has_no_content_length(client: testing.TestClient) -> None:
    """If the length of a body is unknown, the response to a HEAD has no Content-Length.

    Falcon alone would send 0, which containerd would interpret as the blob's size.
    """
    assert "content-length" not in client.simulate_head("/unmeasured").headers
