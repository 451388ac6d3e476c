"""A threaded gunicorn worker whose threads wait a moment for the next request of a connection.

gunicorn's own worker passes each request from the polling thread to a pool thread and back, but
HAProxy sends the next request over the same connection at once. A thread that waits at the
connection saves two wake-ups, and two rounds of gunicorn's main loop. Only a few threads may wait,
and only for a moment, so idle connections do not use up the threads.

No thread waits for a slow client: registry/server/connection_poller.py sends the rest of its
response and closes connections. gunicorn would wait up to two seconds in its polling thread for the
peer to close the connection. HAProxy does not close it until a slow client has read the response.
Requests for blobs have separate threads, so they never delay manifests.
"""

from __future__ import annotations

import errno
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent import futures
from contextlib import suppress
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from gunicorn.workers.gthread import ThreadWorker

from entrepot.registry.server.connection_poller import ConnectionLimits, ConnectionPoller
from entrepot.registry.server.delivery import CONNECTION, LentConnection

MAX_WAITING_THREADS = 16
"""So many threads of a worker may wait at a connection, in addition to threads that handle
requests.
"""

_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors of accept(2) that end when other connections are closed."""
_SHORTAGE_PAUSE_S = 0.05


_SWITCH_S = 0.001
"""How long a thread that computes may keep the interpreter from others; Python's default is 5 ms.

A request acquires the interpreter about ten times. Beside one thread that parses a large document,
each of them waits this long.
"""


class KeepAliveWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """A `KeepAliveWorker` handles several requests of a connection in one thread.

    The thread waits up to `keepalive_wait_s` seconds for the next request. After `close_wait_s`
    seconds a connection is closed even if the peer has not closed it.
    """

    keepalive_wait_s = 0.2
    close_wait_s = 2.0
    blobs_socket = ""
    """Path of the socket for blob requests; empty if the worker has no separate one."""
    send_buffer = 0
    """This is SO_SNDBUF of a connection in bytes; 0 means the operating system's default."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - gunicorn's own
        super().__init__(*args, **kwargs)
        self._waiting_slots = threading.Semaphore(MAX_WAITING_THREADS)
        self._local = threading.local()
        self._blob_threads: futures.Executor | None = None
        self.connection_poller = ConnectionPoller(self._run, ConnectionLimits())

    def set_limits(self, limits: ConnectionLimits, on_limit: Callable[[str], None]) -> None:
        """Set the limits for slow connections; called before the worker serves."""
        self.connection_poller = ConnectionPoller(self._run, limits, on_limit)

    def init_process(self) -> None:
        """Start the worker; its settings no longer change from here on.

        PERF: gunicorn reads about 25 settings for each request through `__getattr__`; plain
        attributes replace them.
        """
        sys.setswitchinterval(_SWITCH_S)
        settings = self.cfg.settings
        self.cfg.__dict__.update((name, each.get()) for name, each in settings.items())
        super().init_process()

    def load_wsgi(self) -> None:
        """Load the application, wrapped by `lend_connections`."""
        super().load_wsgi()
        self.wsgi: WSGIApplication = self.lend_connections(self.wsgi)

    def lend_connections(self, app: WSGIApplication) -> WSGIApplication:
        """Return a WSGI application that calls *app* with the connection in the environment."""

        def respond(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            connection = LentConnection(environ["gunicorn.socket"], self.connection_poller)
            connection.has_chunks = environ.get("SERVER_PROTOCOL") != "HTTP/1.0"
            environ[CONNECTION] = self._local.connection = connection
            return app(environ, start_response)

        return respond

    def accept(self, listener: Any) -> None:  # noqa: ANN401 - gunicorn's own
        """Accept a connection.

        Without a free descriptor the connection stays in the queue of the listener.

        gunicorn's own method would end the worker, and cut the responses to all of its clients.
        """
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in _SHORTAGES:
                raise
            time.sleep(_SHORTAGE_PAUSE_S)  # the poller reports the listener again at once

    def enqueue_req(self, conn: Any) -> None:  # noqa: ANN401 - gunicorn's own
        """Submit a connection to the thread pool; use the second pool for the blobs' socket."""
        if self.send_buffer and not conn.initialized:  # this is the first request of the connection
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer)
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
        """Handle a request and the requests that follow soon.

        Return True if the poller waits for the next request.
        """
        is_kept = self._handle_one(conn)
        while is_kept is True and self._next_request_follows(conn):
            is_kept = self._handle_one(conn)
        if is_kept is False:
            self._hand_over_close(conn)
        return is_kept

    def _handle_one(self, conn: Any) -> Any:  # noqa: ANN401 - gunicorn's own
        """Handle one request; return False also if the rest of the response was handed over."""
        self._local.connection = None
        is_kept = super().handle(conn)
        connection: LentConnection | None = self._local.connection
        return False if connection and connection.is_handed_over else is_kept

    def _hand_over_close(self, conn: Any) -> None:  # noqa: ANN401 - gunicorn's own
        """Hand the connection over to the poller, which closes it after the peer has closed it.

        gunicorn's own close then need not wait.
        """
        connection: LentConnection | None = self._local.connection
        with suppress(OSError):
            if not (connection and connection.is_handed_over):
                self.connection_poller.close_later(
                    conn.sock.dup(), self.close_wait_s, connection.drain_s if connection else 0.0
                )
            conn.sock.close()
        conn.close = _close_nothing

    def _run(self, work: Callable[[], None]) -> None:
        """Run *work* in one of the threads for blobs; do nothing if the worker is stopping."""
        with suppress(RuntimeError):
            if self._blob_threads is None:
                self._blob_threads = self.get_thread_pool()
            self._blob_threads.submit(work)

    def _next_request_follows(self, conn: Any) -> bool:  # noqa: ANN401 - gunicorn's own
        """Wait for the next request if fewer threads wait than may."""
        if not self.alive or not self._waiting_slots.acquire(blocking=False):
            return False
        try:
            return self._has_data_soon(conn)
        finally:
            self._waiting_slots.release()

    def _has_data_soon(self, conn: Any) -> bool:  # noqa: ANN401 - gunicorn's own
        """Return whether bytes arrive in time; pipelined bytes are left to the polling thread."""
        if conn.parser.unreader.buf.getvalue():
            return False
        poll = select.poll()
        poll.register(conn.sock, select.POLLIN)
        return bool(poll.poll(self.keepalive_wait_s * 1000))


def _close_nothing(*, graceful: bool = False) -> None:
    """Do nothing: the connection is closed or belongs to the poller."""
