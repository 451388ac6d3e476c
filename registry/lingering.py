"""gunicorn's worker of threads, but that a thread stays with its connection for a moment.

gunicorn hands each request from the thread that polls to one of the pool and back, although
HAProxy sends the next one over the same connection at once. A thread that waits there itself spares
two wakings, and two turns of the loop that tells the arbiter that this worker lives. Few may
wait, and not for long: idle connections keep no threads.

What ends is ended in its own thread too. gunicorn gives the other side two seconds to close, in the
thread that polls; HAProxy does not close as long as a slow client has not taken what came before.
"""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress
from typing import Any

from gunicorn import util
from gunicorn.workers.gthread import ThreadWorker

MOST_LINGERING = 16
"""Threads of a worker that wait at a connection, beside those that answer."""


class LingeringWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """Answers several requests of a connection in one thread, if they come within `linger_s`."""

    linger_s = 0.2
    parting_s = 2.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - gunicorn's own
        super().__init__(*args, **kwargs)
        self._places = threading.Semaphore(MOST_LINGERING)

    def init_process(self) -> None:
        """Begin; no setting changes any more.

        PERF: gunicorn looks at some 25 of them a request, and each goes through a `__getattr__`.
        """
        settings = self.cfg.settings
        self.cfg.__dict__.update((name, each.get()) for name, each in settings.items())
        super().init_process()

    def handle(self, conn: Any) -> Any:  # noqa: ANN401 - gunicorn's own
        """Answer a request, and those that follow soon; True: the poller waits for the next."""
        kept = super().handle(conn)
        while kept is True and self._is_asked_again(conn):
            kept = super().handle(conn)
        if kept is False:
            self._part(conn.sock)
        return kept

    def _part(self, connection: socket.socket) -> None:
        """Wait until the other side has closed; who closes this one then need not wait."""
        with suppress(OSError):
            util.close_graceful(connection.dup(), self.parting_s)
            connection.shutdown(socket.SHUT_RDWR)

    def _is_asked_again(self, conn: Any) -> bool:  # noqa: ANN401 - gunicorn's own
        """Wait for the next request where there is a place for that."""
        if not self.alive or not self._places.acquire(blocking=False):
            return False
        try:
            return self._comes_in(conn)
        finally:
            self._places.release()

    def _comes_in(self, conn: Any) -> bool:  # noqa: ANN401 - gunicorn's own
        """Tell whether bytes come; what was read already is found by the poller's thread."""
        if conn.parser.unreader.buf.getvalue():
            return False
        poll = select.poll()
        poll.register(conn.sock, select.POLLIN)
        return bool(poll.poll(self.linger_s * 1000))
