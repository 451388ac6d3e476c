"""Measure warm requests while Entrepot sends an event for each request to an endpoint.

The measured cost includes everything that Entrepot does for the events: it logs, queues and sends
them. The CPU time of the receiver does not count. A second Entrepot, which has no endpoint, is
measured in the same rounds. The difference between the costs of the two appliances is the cost of
the events.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Final

from bench import rows, stages
from bench.figures import Sample
from bench.kinds import OURS
from bench.measure import Book, attempt, measure, turn
from bench.site import Site
from bench.targets import AN_EVENT

_RESPONSE: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_BACKLOG: Final = 128
_PIECE: Final = 1 << 20


def events(site: Site, book: Book, rounds: int) -> None:
    """Measure requests for a warm manifest, each of which causes an event."""
    [(row, work)] = rows.events(site.app).items()
    with (
        receiver() as url,
        stages.warmed(site, lambda: replace(site.plain(), endpoint=url), book, (row,)) as servers,
        stages.warmed(site, site.plain, book, (row,), (OURS,)) as quiet,
    ):
        for number in range(rounds):
            book.report_progress(f"round {number + 1} of {rounds}: {row}")
            for name in turn(list(servers), number):
                act = partial(measure, servers[name], work, site.log)
                if name in quiet:
                    act = partial(_compared, act, partial(measure, quiet[name], work, site.log))
                attempt(row, name, book, act)


def _compared(act: Callable[[], Sample], quiet: Callable[[], Sample]) -> Sample:
    """Measure a server that sends events (*act*) and a server that sends none (*quiet*).

    Return the sample with events, which also has the difference between the two costs (us).
    """
    sample = act()
    return replace(
        sample, more={AN_EVENT: stages.microseconds(sample) - stages.microseconds(quiet())}
    )


@contextmanager
def receiver() -> Iterator[str]:
    """Yield the URL of an event receiver that answers every request with success."""
    with socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG) as listener:
        thread = threading.Thread(target=_serve, args=(listener,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/event"


def _serve(listener: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection, suppress(OSError, ValueError):
                _answer(connection)


def _answer(connection: socket.socket) -> None:
    """Read one whole notification request, and send the response."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(_PIECE)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    left = length - len(body)
    while left > 0:
        left -= len(connection.recv(_PIECE))
    connection.sendall(_RESPONSE)
