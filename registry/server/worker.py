"""gunicorn's worker of threads, but that a thread stays with its connection for a moment.

gunicorn hands each request from the thread that polls to one of the pool and back, although
HAProxy sends the next one over the same connection at once. A thread that waits there itself spares
two wakings, and two turns of the loop that tells the arbiter that this worker lives. Few may
wait, and not for long: idle connections keep no threads.

A thread waits for no slow client: the rest of an answer, and a connection that ends, are handed
over (registry/server/aftercare.py). gunicorn would wait two seconds for the other side to close, in
the thread that polls; HAProxy does not close while a slow client has not taken what came before.
Blobs have threads of their own, so that they never keep a manifest waiting.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterable
from concurrent import futures
from contextlib import suppress
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from gunicorn.workers.gthread import ThreadWorker

from entrepot.registry.server.aftercare import Aftercare, ConnectionLimits
from entrepot.registry.server.delivery import CONNECTION, Lent

MOST_LINGERING = 16
"""Threads of a worker that wait at a connection, beside those that answer."""


class KeepAliveWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """Answers several requests of a connection in one thread, if they come within `linger_s`."""

    linger_s = 0.2
    parting_s = 2.0
    blobs_socket = ""
    """The path of the socket over which blobs are asked for, if it is one of its own."""
    on_the_way = 0
    """Bytes that a connection takes before the other side has read them; 0: the kernel's own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - gunicorn's own
        super().__init__(*args, **kwargs)
        self._places = threading.Semaphore(MOST_LINGERING)
        self._now = threading.local()
        self._blob_threads: futures.Executor | None = None
        self.aftercare = Aftercare(self._run, ConnectionLimits())

    def bear(self, bounds: ConnectionLimits, limited: Callable[[str], None]) -> None:
        """Set what it bears of slow clients, before it serves."""
        self.aftercare = Aftercare(self._run, bounds, limited)

    def init_process(self) -> None:
        """Begin; no setting changes any more.

        PERF: gunicorn looks at some 25 of them a request, and each goes through a `__getattr__`.
        """
        settings = self.cfg.settings
        self.cfg.__dict__.update((name, each.get()) for name, each in settings.items())
        super().init_process()

    def load_wsgi(self) -> None:
        """Load the application, which is lent the connection of each request."""
        super().load_wsgi()
        self.wsgi: WSGIApplication = self.lending(self.wsgi)

    def lending(self, app: WSGIApplication) -> WSGIApplication:
        """Lend each request's connection to *app*, with nothing in between."""

        def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            lent = Lent(environ["gunicorn.socket"], self.aftercare)
            lent.has_chunks = environ.get("SERVER_PROTOCOL") != "HTTP/1.0"
            environ[CONNECTION] = self._now.lent = lent
            return app(environ, start_response)

        return answer

    def enqueue_req(self, conn: Any) -> None:  # noqa: ANN401 - gunicorn's own
        """Submit a connection; one for blobs to the threads for blobs."""
        if self.on_the_way and not conn.initialized:  # its first request
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.on_the_way)
        if not self.blobs_socket or conn.server != self.blobs_socket:
            super().enqueue_req(conn)
            return
        if self._blob_threads is None:
            self._blob_threads = self.get_thread_pool()
        done = self._blob_threads.submit(self.handle, conn)
        done.add_done_callback(
            lambda future: self.method_queue.defer(self.finish_request, conn, future)
        )

    def handle(self, conn: Any) -> Any:  # noqa: ANN401 - gunicorn's own
        """Answer a request, and those that follow soon; True: the poller waits for the next."""
        kept = self._handle_one(conn)
        while kept is True and self._is_asked_again(conn):
            kept = self._handle_one(conn)
        if kept is False:
            self._part(conn)
        return kept

    def _handle_one(self, conn: Any) -> Any:  # noqa: ANN401 - gunicorn's own
        """Answer a request; False where the rest of the answer was handed over, too."""
        self._now.lent = None
        kept = super().handle(conn)
        lent: Lent | None = self._now.lent
        return False if lent and lent.is_handed_over else kept

    def _part(self, conn: Any) -> None:  # noqa: ANN401 - gunicorn's own
        """Hand the connection over, to be closed once the other side has closed it.

        Who closes our end of it then need not wait.
        """
        lent: Lent | None = self._now.lent
        with suppress(OSError):
            if not (lent and lent.is_handed_over):
                self.aftercare.part(conn.sock.dup(), self.parting_s, lent.drain_s if lent else 0.0)
            conn.sock.close()
        conn.close = _nothing

    def _run(self, work: Callable[[], None]) -> None:
        """Have one of the threads for blobs do something; none does any more at the end."""
        with suppress(RuntimeError):
            if self._blob_threads is None:
                self._blob_threads = self.get_thread_pool()
            self._blob_threads.submit(work)

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


def _nothing(*, graceful: bool = False) -> None:
    """Close nothing: it is closed, or somebody else's by now."""
