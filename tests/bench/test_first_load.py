"""`bench.first_load` measures how much later a blob's first byte arrives through a cache."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench import first_load


def test_the_outcome_has_a_difference_for_each_blob() -> None:
    """If cache and upstream respond alike, the difference is small, and no request fails."""
    with _server(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc") as port:
        outcome = first_load.main(_task(port, port, size=3))

    assert (outcome["requests"], outcome["failures"]) == (4, 0)
    assert abs(outcome["seconds"]) < 5


def test_servers_with_the_same_paths_are_distinguished(monkeypatch: pytest.MonkeyPatch) -> None:
    """If cache and upstream have the same URL paths, a slower cache has a positive difference."""
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
    with _server(response) as slow, _server(response) as fast:
        spans = {slow: 2.5, fast: 1.0}
        monkeypatch.setattr(first_load, "first_byte", lambda to, *_: spans[to.getpeername()[1]])
        task = _task(slow, fast, size=3)
        outcome = first_load.main(task | {"theirs": task["paths"]})

    assert outcome["seconds"] == 1.5


def test_a_blob_of_another_size_is_a_failure() -> None:
    """A blob of another size than expected is a failure, and so are the blobs after it."""
    with _server(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc") as port:
        outcome = first_load.main(_task(port, port, size=4))

    assert (outcome["requests"], outcome["failures"]) == (0, 4)


def _task(port: int, upstream: int, *, size: int) -> dict[str, object]:
    paths = [f"/{number}" for number in range(4)]
    theirs = [f"/theirs{number}" for number in range(4)]
    own = {"port": port, "upstream": upstream, "paths": paths, "theirs": theirs}
    return own | {"headers": {}, "size": size}


@contextmanager
def _server(response: bytes) -> Iterator[int]:
    """Answer each request on every connection with *response*; yield the server's port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, response), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, response: bytes) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_answer, args=(connection, response), daemon=True).start()


def _answer(connection: socket.socket, response: bytes) -> None:
    with connection:
        received = b""
        while piece := connection.recv(4096):
            received += piece
            while b"\r\n\r\n" in received:
                _, _, received = received.partition(b"\r\n\r\n")
                connection.sendall(response)
