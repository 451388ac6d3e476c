"""A worker stores responses and sends them in reply to equal requests."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from entrepot.registry.server.delivery import Delivery, Repeatable, RepeatableBytes
from entrepot.registry.server.repeats import Repeats

ASK = b"GET /v2/a/blobs/sha256:1 HTTP/1.1\r\nhost: x\r\naccept: */*\r\n\r\n"
PARSED = {"RAW_URI": "/v2/a/blobs/sha256:1", "HTTP_HOST": "x", "HTTP_ACCEPT": "*/*"}
CONTENT = os.urandom(1000)
HEADERS = [("Content-Length", "1000"), ("ETag", '"x"')]


class Body:
    """The application's permission to repeat a response, which the test can withdraw.

    `open` opens the file with the body.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        self._path = path
        self.size = len(content)
        self.is_permitted = True
        self.opened: list[BinaryIO] = []

    def open(self) -> BinaryIO | None:
        """Open the file, or return None if the test has withdrawn the permission."""
        if not self.is_permitted:
            return None
        self.opened.append(self._path.open("rb", buffering=0))
        return self.opened[-1]

    @property
    def repeatable(self) -> Repeatable:
        """Return the permission as a `Repeatable`, which the application passes to the server."""
        return Repeatable(self.size, self.open)


@pytest.fixture
def body(tmp_path: Path) -> Body:
    """Return the permission to repeat a response with a small body."""
    return Body(tmp_path / "body", CONTENT)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield the client's end and the worker's end of a connection."""
    client, server = socket.socketpair()
    server.setblocking(False)
    client.settimeout(20)
    with client, server:
        yield client, server


def kept(body: Body) -> Repeats:
    """Return the stored responses of a worker, with one response to the request ASK."""
    repeats = Repeats()
    repeats.keep(ASK, PARSED, HEADERS, body.repeatable)
    return repeats


def test_an_equal_request_gets_the_same_headers_and_the_body(
    ends: tuple[socket.socket, socket.socket], body: Body
) -> None:
    """An equal request gets the stored headers, the current date and the whole file."""
    client, server = ends
    repeats = kept(body)

    assert repeats.answer(ASK, server) is True
    head, _, content = client.recv(4096).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[:-1] == [
        b"HTTP/1.1 200 OK",
        b"Connection: keep-alive",
        b"Content-Length: 1000",
        b'ETag: "x"',
    ]
    assert lines[-1].startswith(b"Date: ")
    assert lines[-1].endswith(b" GMT")
    assert content == CONTENT
    assert body.opened[0].closed


@pytest.mark.parametrize(
    "request_",
    [
        ASK.replace(b"*/*", b"a/b"),
        ASK.replace(b"host", b"Host"),
        ASK.replace(b"sha256:1", b"sha256:2"),
        ASK + ASK,
        ASK[:-2],
        b"\r\n" + ASK,
    ],
    ids=["other value", "other case", "other path", "two requests", "a part", "a blank line"],
)
def test_a_request_with_other_bytes_is_not_answered(
    ends: tuple[socket.socket, socket.socket], body: Body, request_: bytes
) -> None:
    """If a request differs in any byte from the stored request, no stored response is sent."""
    client, server = ends

    assert kept(body).answer(request_, server) is False
    server.close()
    assert client.recv(4096) == b""


@pytest.mark.parametrize(
    ("request_", "parsed"),
    [
        (ASK.replace(b"GET", b"HEAD"), {}),
        (ASK.replace(b"HTTP/1.1", b"HTTP/1.0"), {}),
        (ASK.replace(b"GET /", b"GET http://x/"), {}),
        (b"\r\n" + ASK, {}),
        (b"\r\n\r\n", {}),
        (ASK + b"GET /", {}),
        (ASK + ASK, {}),
        (ASK[:-2], {}),
        (ASK.replace(b"*/*", b"*" * 2048), {}),
        (ASK, {"CONTENT_LENGTH": "0"}),
        (ASK, {"CONTENT_LENGTH": "5"}),
        (ASK, {"HTTP_TRANSFER_ENCODING": "chunked"}),
        (ASK, {"HTTP_EXPECT": "100-continue"}),
    ],
    ids=[
        "HEAD",
        "HTTP/1.0",
        "absolute URI",
        "a blank line before it",
        "no request line",
        "bytes of the next request",
        "two requests",
        "a part",
        "longer than 2 KiB",
        "an empty body",
        "a body",
        "a chunked body",
        "Expect",
    ],
)
def test_a_request_that_is_not_one_whole_get_is_not_remembered(
    ends: tuple[socket.socket, socket.socket], body: Body, request_: bytes, parsed: dict[str, str]
) -> None:
    """A worker stores a response only if the received bytes are exactly one GET without a body.

    The worker compares the bytes of later requests with those of the stored request, and does not
    parse them. If it stored responses for other bytes, it could misjudge where a request ends.
    """
    repeats = Repeats()
    repeats.keep(request_, PARSED | parsed, HEADERS, body.repeatable)

    assert repeats.answer(request_, ends[1]) is False


def test_a_response_that_is_no_longer_permitted_is_not_repeated(
    ends: tuple[socket.socket, socket.socket], body: Body
) -> None:
    """If the application withdraws its permission, the stored response is deleted."""
    repeats = kept(body)
    body.is_permitted = False

    assert repeats.answer(ASK, ends[1]) is False
    body.is_permitted = True
    assert repeats.answer(ASK, ends[1]) is False


def _failing() -> BinaryIO:
    raise ValueError


@pytest.mark.parametrize("open_", [_failing, lambda: None], ids=["an error", "a refusal"])
def test_an_error_of_the_application_does_not_end_the_polling_thread(
    ends: tuple[socket.socket, socket.socket], open_: Callable[[], BinaryIO | None]
) -> None:
    """If the file of a stored response cannot be opened, `answer` returns False without an error.

    A thread then handles the request.
    """
    repeats = Repeats()
    repeats.keep(ASK, PARSED, HEADERS, Repeatable(1000, open_))

    assert repeats.answer(ASK, ends[1]) is False


def test_a_large_body_is_continued_when_the_client_reads(
    ends: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    """If a connection does not accept a large body at once, `answer` returns the rest.

    The caller sends the rest after the client has read the first bytes.
    """
    client, server = ends
    content = os.urandom(4_000_000)
    body = Body(tmp_path / "large", content)
    repeats = Repeats()
    repeats.keep(ASK, PARSED, HEADERS, body.repeatable)

    rest = repeats.answer(ASK, server)
    assert isinstance(rest, Delivery)
    got = b""
    while not got.endswith(content[-1000:]):
        got += client.recv(1 << 20)
        rest.push()
    assert got.partition(b"\r\n\r\n")[2] == content
    assert rest.send(0.0)
    assert body.opened[0].closed


def test_a_body_that_became_shorter_breaks_the_connection(
    ends: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    """If a file has become shorter than its Content-Length, `answer` raises ConnectionError.

    The caller then closes the connection.
    """
    body = Body(tmp_path / "short", CONTENT[:10])
    repeats = Repeats()
    repeats.keep(ASK, PARSED, HEADERS, Repeatable(1000, body.open))

    with pytest.raises(ConnectionError):
        repeats.answer(ASK, ends[1])
    assert body.opened[0].closed


def test_a_lost_connection_closes_the_file(
    ends: tuple[socket.socket, socket.socket], body: Body
) -> None:
    """If the client has disconnected, `answer` raises an error and closes the file."""
    client, server = ends
    client.close()

    with pytest.raises(OSError, match="roken pipe"):
        kept(body).answer(ASK, server)
    assert body.opened[0].closed


def test_the_responses_kept_first_are_dropped(
    ends: tuple[socket.socket, socket.socket], body: Body
) -> None:
    """A worker stores at most 1,024 responses; the next response displaces the oldest."""
    repeats = kept(body)
    for number in range(1024):
        other = f"/v2/b/blobs/{number}"
        request = f"GET {other} HTTP/1.1\r\n\r\n".encode()
        repeats.keep(request, {"RAW_URI": other}, HEADERS, body.repeatable)

    assert repeats.answer(ASK, ends[1]) is False
    assert repeats.answer(b"GET /v2/b/blobs/0 HTTP/1.1\r\n\r\n", ends[1]) is True


def test_a_body_in_memory_is_repeated_while_that_is_permitted(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    """A stored response with its body in memory is sent until the permission is withdrawn."""
    client, server = ends
    is_permitted = [True, False]
    repeats = Repeats()
    repeats.keep(ASK, PARSED, HEADERS, RepeatableBytes(CONTENT, lambda: is_permitted.pop(0)))

    assert repeats.answer_from_memory(ASK, server)
    assert client.recv(4096).endswith(b"\r\n\r\n" + CONTENT)
    assert not repeats.answer_from_memory(ASK, server)
    assert not repeats.answer_from_memory(ASK, server)


def test_a_body_in_a_file_is_not_answered_from_memory(
    ends: tuple[socket.socket, socket.socket], body: Body
) -> None:
    """`answer_from_memory` sends no file.

    If the client read the file slowly, the calling thread could not send the rest; only the poller
    could.
    """
    assert not kept(body).answer_from_memory(ASK, ends[1])


def test_a_long_body_is_not_remembered(ends: tuple[socket.socket, socket.socket]) -> None:
    """A worker does not store a body of more than 16 KiB in memory."""
    repeats = Repeats()
    repeats.keep(ASK, PARSED, HEADERS, RepeatableBytes(bytes(16 * 1024 + 1), lambda: True))

    assert not repeats.answer_from_memory(ASK, ends[1])


def test_a_get_is_frequent_if_an_equal_one_came_within_a_second() -> None:
    """A GET is frequent if an equal GET arrived within the last second.

    Requests with other methods are never frequent.
    """
    times = [0.0, 0.5, 1.5, 2.0]
    repeats = Repeats(clock=lambda: times.pop(0))
    other = ASK.replace(b"host: x", b"host: y")

    assert [repeats.is_frequent(ASK) for _ in range(3)] == [False, True, False]
    assert not repeats.is_frequent(other)
    assert not repeats.is_frequent(b"POST" + ASK[3:])
    assert times == []
