"""Tests of `status_of`, which sends an HTTP request to a unix socket and returns the status."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Thread

import pytest

from entrepot.runtime.unix_socket import status_of


@pytest.fixture
def path() -> Iterator[Path]:
    """Yield a path that is short enough for a unix socket: at most about 100 bytes."""
    with tempfile.TemporaryDirectory(prefix="ent-") as folder:
        yield Path(folder) / "socket"


def ask(path: Path, pieces: Sequence[bytes]) -> tuple[int | None, bytes]:
    """Serve one request with *pieces*; return the status that the client read, and the request."""
    requests = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def respond() -> None:
            connection, _ = server.accept()
            with connection:
                requests.append(connection.recv(4096))
                for each in pieces:
                    connection.sendall(each)

        thread = Thread(target=respond)
        thread.start()
        found = status_of(path, "/healthz", timeout=60)
        thread.join()
    return found, requests[0]


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ([b"HTTP/1.1 200 OK\r\n\r\n"], 200),
        ([b"HTTP/1.1 503 Service Unavailable\r\nA: b\r\n\r\n"], 503),
        ([b"HTT", b"P/1.0 2", b"04 ", b"\n"], 204),
        ([b"HTTP/1.1 what\r\n"], None),
        ([b"SSH-2.0-x\r\n"], None),
        ([b"HTTP/1.1 200"], None),
        ([b"x" * 5000], None),
        ([], None),
    ],
    ids=["ok", "error", "pieces", "no number", "other", "cut off", "endless", "closed"],
)
def test_the_status_is_read_from_the_first_line(
    path: Path, pieces: list[bytes], status: int | None
) -> None:
    """`status_of` returns the status in the first line of the response.

    It returns None if that line is malformed (RFC 9112, section 4). A server can send the line in
    several pieces.
    """
    found, request = ask(path, pieces)

    assert found == status
    assert request == b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def test_a_server_that_does_not_respond_has_no_status(path: Path) -> None:
    """If the server is absent or silent until the timeout, `status_of` returns None."""
    assert status_of(path, "/healthz", timeout=60) is None
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        assert status_of(path, "/healthz", timeout=0.05) is None
