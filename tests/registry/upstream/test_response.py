"""The status line and the headers of an upstream's response are limited in size and time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import repeat

import pytest

from entrepot.datastore.refs import Digest, Tag
from entrepot.registry.errors import Unavailable, Why
from entrepot.registry.upstream.protocol import Upstream
from entrepot.registry.upstream.response import LARGEST_HEAD, BoundedResponse
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.upstreams import Shared, open_upstream
from tests.images import image

IMAGE = image([b"layer"])
HEAD = b"HTTP/1.1 200 OK\r\n"
REST = f"Content-Type: {IMAGE.media_type}\r\nContent-Length: {len(IMAGE.manifest)}\r\n\r\n".encode()
ANSWER = HEAD + REST + IMAGE.manifest
V1 = Tag("v1")
LONG = b"X-Long: " + b"x" * 8000 + b"\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"


@contextmanager
def sending(
    pieces: Callable[[], Iterator[bytes]], pause: float = 0
) -> Iterator[tuple[Upstream, list[int]]]:
    """Respond to each request with *pieces*; yield a client and the numbers of bytes sent."""
    sent: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                while connection.recv(65536):
                    sent.append(0)
                    for piece in pieces():
                        connection.sendall(piece)
                        sent[-1] += len(piece)
                        if pause:
                            time.sleep(pause)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        host = f"127.0.0.1:{server.getsockname()[1]}"
        source = UpstreamConfig(host, f"http://{host}", connect_timeout=5.0, read_timeout=2.0)
        yield open_upstream(source, Shared()), sent
        server.close()


@pytest.mark.parametrize(
    "interim",
    [
        HINTS,
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n" + HINTS * 3,
        b"HTTP/1.1 199 Whatever\r\nX: y\r\n\r\n",
    ],
)
def test_interim_responses_are_skipped(interim: bytes) -> None:
    """The client skips interim responses, even with unknown status codes (RFC 9110, 15.2)."""
    with sending(lambda: iter([interim, ANSWER])) as (client, sent):
        for _ in range(2):
            assert client.manifest("app", V1).body == IMAGE.manifest

    assert len(sent) == 2


def test_a_head_ends_at_its_first_empty_line() -> None:
    """The first empty line ends the headers, even if header lines end with LF and not CRLF.

    An empty line with CRLF in the body is not treated as the end of the headers.
    """
    body = b"{}\r\n\r\n" + b"x" * 100
    answer = b"HTTP/1.1 200 OK\nContent-Length: %d\n\n" % len(body) + body
    with sending(lambda: iter([answer])) as (client, _):
        digest = Digest.of(body)
        for _ in range(2):
            with client.blob("app", digest) as blob:
                assert b"".join(blob.chunks()) == body


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        (lambda: repeat(HINTS), Why.NONSENSE),
        (lambda: iter([b"HTTP/1.1 101 Switching Protocols\r\n\r\n", ANSWER]), Why.NONSENSE),
        (lambda: iter([HEAD, *([LONG] * 1000), REST]), Why.NONSENSE),
        (lambda: iter([HEAD, *([LONG] * 20), REST, IMAGE.manifest]), Why.NONSENSE),
        (lambda: iter([HEAD, *([b"X: y\r\n"] * 1000), REST, IMAGE.manifest]), Why.NONSENSE),
        (lambda: iter([HEAD, b"X: ", *repeat(b"x" * 8000, 1000)]), Why.NONSENSE),
        (lambda: repeat(b"x" * 8000, 1000), Why.NONSENSE),
        (lambda: iter([b"HTTP/1.1 " + b"9" * 5000 + b" OK\r\n", REST]), Why.NONSENSE),
    ],
    ids=["hints", "101", "larger", "large", "many", "line", "status", "digits"],
)
def test_endless_headers_are_rejected(pieces: Callable[[], Iterator[bytes]], why: Why) -> None:
    """The client rejects endless response headers after 64 KiB.

    The upstream can send a few more bytes, which the kernel buffers.
    """
    with sending(pieces) as (client, _), pytest.raises(Unavailable) as raised:
        client.manifest("app", V1)

    assert raised.value.why is why
    assert LARGEST_HEAD < 128 * 1024


@pytest.mark.parametrize(
    "length",
    [b"x", b"", b"-1", b"+7", b"7_0", b"7.0", b"0x7", b"7, 8", b"7,", b"9" * 17, b"9" * 5000],
)
def test_a_length_that_cannot_be_read_is_refused_at_once(length: bytes) -> None:
    """If the Content-Length is not exactly one number, the request fails (RFC 9112, 6.3)."""
    head = HEAD + b"Content-Type: %s\r\n" % IMAGE.media_type.encode()
    answer = head + b"Content-Length: " + length + b"\r\n\r\n" + IMAGE.manifest
    with sending(lambda: iter([answer])) as (client, _):
        for ask in (lambda: client.manifest("app", V1), lambda: client.tags("app")):
            with pytest.raises(Unavailable) as raised:
                ask()
            assert raised.value.why is Why.NONSENSE


@pytest.mark.parametrize("lengths", [b"%d, %d", b"%d\r\nContent-Length: %d"])
def test_equal_lengths_are_one_length(lengths: bytes) -> None:
    """Equal lengths in a list or in two Content-Length headers are accepted (RFC 9110, 8.6)."""
    said = lengths % (len(IMAGE.manifest), len(IMAGE.manifest))
    head = HEAD + b"Content-Type: %s\r\n" % IMAGE.media_type.encode()
    answer = head + b"Content-Length: " + said + b"\r\n\r\n" + IMAGE.manifest
    with sending(lambda: iter([answer])) as (client, _):
        assert client.manifest("app", V1).body == IMAGE.manifest


@pytest.mark.slow
@pytest.mark.parametrize(
    "pieces",
    [
        lambda: iter([HEAD, *(b"X%d: y\r\n" % n for n in range(90)), REST]),
        lambda: iter([HEAD, b"X: ", *repeat(b"y", 1000)]),
        lambda: iter([HEAD, REST, *(bytes([each]) for each in IMAGE.manifest)]),
        lambda: iter([HEAD, b"Transfer-Encoding: chunked\r\n\r\n", *repeat(b"1\r\n \r\n", 1000)]),
        lambda: iter([HEAD, b"Transfer-Encoding: chunked\r\n\r\n0\r\n", *repeat(b"X: y\r\n", 90)]),
    ],
    ids=["headers", "line", "body", "chunks", "trailers"],
)
def test_slow_bytes_do_not_block_a_thread(pieces: Callable[[], Iterator[bytes]]) -> None:
    """If headers or a small body arrive byte by byte, the request fails after one read timeout.

    So a slow upstream does not occupy a thread for long.
    """
    with sending(pieces, pause=0.02) as (client, _):
        began = time.monotonic()
        with pytest.raises(Unavailable) as raised:
            client.manifest("app", V1)

    assert raised.value.why is Why.TIMEOUT
    assert time.monotonic() - began < 15


def test_endless_trailers_are_rejected() -> None:
    """If a blob has endless trailers after its last chunk, the download fails."""
    content = b"5\r\nlayer\r\n0\r\n"
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + content
    with (
        sending(lambda: iter([head, *repeat(b"X: y\r\n", 100_000)])) as (client, _),
        client.blob("app", Digest.of(b"layer")) as body,
        pytest.raises(Unavailable),
    ):
        list(body.chunks())


class _Recording(socket.socket):
    """A `_Recording` is a socket that records the time-outs that are set."""

    def settimeout(self, value: float | None) -> None:
        """Record and set a time-out in seconds."""
        self.spans = [*getattr(self, "spans", []), value]
        super().settimeout(value)


def test_each_wait_for_the_headers_ends_at_their_common_limit() -> None:
    """The time-out of the socket shrinks while headers arrive, and is restored for the body.

    Otherwise an upstream that stops sending headers just before the limit would delay the failure
    to almost twice the limit.
    """
    near, far = socket.socketpair()
    with far, _Recording(fileno=near.detach()) as waiting:
        waiting.settimeout(5.0)
        response = BoundedResponse(waiting, method="GET")

        def send() -> None:
            for piece in (HEAD, b"X: y\r\n", REST):
                far.sendall(piece)
                time.sleep(0.3)

        sender = threading.Thread(target=send)
        sender.start()
        response.begin()
        sender.join()

        assert waiting.spans[0] == waiting.spans[-1] == 5.0
        assert len(waiting.spans) > 2
        assert all(0 < each < 4.9 for each in waiting.spans[1:-1] if each is not None)
        response.close()
