"""Measure warm requests while an endpoint of notifications gets an event for each of them.

The cost has all that the server does for the events: its log, its queue, and their delivery. The
receiver answers at once, and its own CPU time does not count.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Final

from bench import rows, stages
from bench.measure import Book
from bench.site import Site

_RESPONSE: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_BACKLOG: Final = 128
_PIECE: Final = 1 << 20


def events(site: Site, book: Book, rounds: int) -> None:
    """Measure a warm manifest while each request causes an event."""
    works = rows.events(site.app)
    with receiver() as url:
        stages.measure_warm(site, lambda: replace(site.plain(), endpoint=url), works, book, rounds)


@contextmanager
def receiver() -> Iterator[str]:
    """Yield the URL of a receiver that accepts every request."""
    with socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG) as listener:
        thread = threading.Thread(target=_serve, args=(listener,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/event"


def _serve(listener: socket.socket) -> None:
    """Answer each connection until the listener is closed."""
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection, suppress(OSError, ValueError):
                _answer(connection)


def _answer(connection: socket.socket) -> None:
    """Read one request to its end, and answer it."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(_PIECE)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    left = length - len(body)
    while left > 0:
        left -= len(connection.recv(_PIECE))
    connection.sendall(_RESPONSE)
