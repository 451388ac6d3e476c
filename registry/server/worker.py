"""Define a gunicorn worker whose threads wait a moment for the next request of a connection.

gunicorn's own worker passes each request from the polling thread to a pool thread and back, but
HAProxy often sends the next request over the same connection right after the response. A thread
that waits at the connection saves two wake-ups and two rounds of gunicorn's main loop. Only a few
threads may wait, and only for a moment, so idle connections do not use up the threads.

A thread waits only a moment for a slow client; then the connection poller
(registry/server/connection_poller.py) sends the rest of the response. The poller also closes
connections: gunicorn would wait in its main loop, for up to two seconds, until HAProxy closes the
connection, which HAProxy does only after a slow client has read the response. Requests for blobs
have separate threads, so they cannot use up the threads for other requests. After a blob response
that may be repeated, the poller waits for the next request of the connection. If that request
equals an earlier one, the poller repeats the response (registry/server/repeats.py).
"""

from __future__ import annotations

import errno
import select
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent import futures
from contextlib import suppress
from typing import Any, Self
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from gunicorn.workers.gthread import ThreadWorker

from entrepot.registry.server.connection_poller import ConnectionPoller
from entrepot.registry.server.delivery import (
    CONNECTION,
    LentConnection,
    Repeatable,
    RepeatableBytes,
)
from entrepot.registry.server.polled import LONGEST_READ, ConnectionLimits, KeptConnection

MAX_WAITING_THREADS = 16
"""This many threads of a worker may wait at a connection, in addition to threads that handle
requests.
"""

_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""After one of these errors, accept(2) succeeds again once other connections are closed."""
_SHORTAGE_PAUSE_S = 0.05
_KEPT_BY_POLLER = "kept by the poller"
"""`handle` returns this value if the poller owns the connection."""

_SWITCH_S = 0.001
"""The switch interval of the interpreter lock in seconds; Python's default is 5 ms.

A request acquires the interpreter lock about ten times. While another thread parses a large
document, each of these acquisitions waits for one switch interval.
"""


class KeepAliveWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """A `KeepAliveWorker` handles several requests of a connection in one thread.

    The thread of a connection waits up to `keepalive_wait_s` seconds for the next request. After
    `close_wait_s` seconds the worker closes a connection even if the peer has not closed it.
    """

    keepalive_wait_s = 0.2
    close_wait_s = 2.0
    idle_s = 10.0
    """An idle worker reports at this interval (in seconds) that it is alive: a sixth of
    gunicorn's time-out."""
    blobs_socket = ""
    """This is the path of the worker's socket for blob requests; it is empty without a separate
    socket."""
    send_buffer = 0
    """This is SO_SNDBUF of each connection in bytes; 0 means the operating system's default."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as in gunicorn
        super().__init__(*args, **kwargs)
        # PERF: pop and append of a deque are atomic; acquire and release of a semaphore would run
        # 30 lines of Python each.
        self._waiting_slots = deque(range(MAX_WAITING_THREADS))
        self._local = threading.local()
        self._blob_threads: futures.Executor | None = None
        self._reads_requests = False
        self.connection_poller = ConnectionPoller(self._run, ConnectionLimits())

    def set_limits(self, limits: ConnectionLimits, on_limit: Callable[[str], None]) -> None:
        """Set the limits for slow connections before the worker serves requests."""
        self.connection_poller = ConnectionPoller(self._run, limits, on_limit)

    def init_process(self) -> None:
        """Start the worker with gunicorn's settings as plain attributes.

        PERF: gunicorn reads about 25 settings for each request through `__getattr__`. The settings
        do not change after this call.
        """
        sys.setswitchinterval(_SWITCH_S)
        settings = self.cfg.settings
        self.cfg.__dict__.update((name, each.get()) for name, each in settings.items())
        super().init_process()

    def load_wsgi(self) -> None:
        """Load the WSGI application, wrapped by `lend_connections`."""
        super().load_wsgi()
        self.wsgi: WSGIApplication = self.lend_connections(self.wsgi)

    def lend_connections(self, app: WSGIApplication) -> WSGIApplication:
        """Return a WSGI application that calls *app* with the connection in the environment."""

        def respond(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            connection = LentConnection(environ["gunicorn.socket"], self.connection_poller)
            connection.has_chunks = environ.get("SERVER_PROTOCOL") != "HTTP/1.0"
            connection.is_frequent = self._is_frequent
            environ[CONNECTION] = self._local.connection = connection

            def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:  # noqa: ANN401 - as in WSGI
                if connection.repeatable is not None:
                    self._remember(environ, headers, connection.repeatable)
                return start_response(status, headers, *error)

            return app(environ, start)

        return respond

    def _is_frequent(self) -> bool:
        """Return whether this method was called for an equal request within the last second.

        The comparison needs the bytes of requests, so the first call makes the worker read and keep
        the bytes of all later requests.
        """
        self._reads_requests = True
        request: bytes | None = getattr(getattr(self._local, "conn", None), "request", None)
        return request is not None and self.connection_poller.repeats.is_frequent(request)

    def _remember(
        self,
        environ: WSGIEnvironment,
        headers: list[tuple[str, str]],
        repeatable: Repeatable | RepeatableBytes,
    ) -> None:
        """Let the worker repeat a response, if it has the bytes of the request."""
        conn = self._local.conn
        request = getattr(conn, "request", None)
        if request and not _has_read_ahead(conn):
            self.connection_poller.repeats.keep(request, environ, headers, repeatable)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait for events, up to `idle_s` seconds.

        gunicorn itself would wake up every second, to close connections that were idle too long.
        The worker needs this only while it has a new connection without any request, because
        HAProxy closes all other idle connections before the worker would.
        """
        may_wait = self.alive and not self.pending_conns
        super().wait_for_and_dispatch_events(self.idle_s if may_wait else timeout)

    def handle_exit(self, sig: int, frame: Any) -> None:  # noqa: ANN401 - as in gunicorn
        """Stop gracefully: the next response of each connection has `Connection: close`."""
        self.connection_poller.repeats.end()
        super().handle_exit(sig, frame)

    def accept(self, listener: Any) -> None:  # noqa: ANN401 - as in gunicorn
        """Accept a connection.

        If the process has no free descriptor, this method leaves the connection in the queue of the
        listening socket.

        gunicorn's own method would raise the error, which would end the worker and cut off the
        responses to all of its clients.
        """
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in _SHORTAGES:
                raise
            # Without this pause, gunicorn's main loop would call this method again at once.
            time.sleep(_SHORTAGE_PAUSE_S)

    def enqueue_req(self, conn: Any) -> None:  # noqa: ANN401 - as in gunicorn
        """Submit a blob connection to the pool for blobs, and any other to gunicorn's pool."""
        # The size of the send buffer is set once, before the first request of a connection.
        if not conn.initialized and type(conn.sock) is socket.socket:
            conn.sock = _Connection.taken_over(conn.sock)
            if self.send_buffer:
                conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer)
        if not self._is_for_blobs(conn):
            super().enqueue_req(conn)
            return
        if self._blob_threads is None:
            self._blob_threads = self.get_thread_pool()
        done = self._blob_threads.submit(self.handle, conn)
        done.add_done_callback(
            lambda future: self.method_queue.defer(self.finish_request, conn, future)
        )

    def handle(self, conn: Any) -> Any:  # noqa: ANN401 - as in gunicorn
        """Handle a request of a connection, and the requests that follow soon.

        Return True if gunicorn must wait for the next request, `_KEPT_BY_POLLER` if the poller
        waits for it, and False if the worker does not read a further request from the connection.
        """
        is_kept = self._handle_one(conn)
        while is_kept is True and not self._may_repeat(conn) and self._next_request_follows(conn):
            is_kept = self._repeat(conn) or self._handle_one(conn)
        if is_kept is True and self._is_for_blobs(conn) and not _has_read_ahead(conn):
            self._let_poller_keep(conn)
            return _KEPT_BY_POLLER
        if is_kept is False:
            self._hand_over_close(conn)
        return is_kept

    def _repeat(self, conn: Any) -> bool:  # noqa: ANN401 - as in gunicorn
        """Repeat the response to the next request if its body is in memory; return False if not.

        If no response is repeated, the bytes of the request are passed to gunicorn's parser.
        """
        if not self._reads_requests:
            return False
        try:
            request = conn.sock.recv(LONGEST_READ, socket.MSG_DONTWAIT)
        except OSError:  # gunicorn then reads the connection itself.
            return False
        try:
            conn.sock.setblocking(True)
            if self.connection_poller.repeats.answer_from_memory(request, conn.sock):
                return True
        except OSError:  # HAProxy has disconnected; gunicorn closes the connection
            with suppress(OSError):
                conn.sock.shutdown(socket.SHUT_RDWR)
            return True
        conn.request = request
        conn.parser.unreader.unread(request)
        return False

    def _handle_one(self, conn: Any) -> Any:  # noqa: ANN401 - as in gunicorn
        """Handle one request, and return gunicorn's result: whether the connection stays open.

        Return False if the poller has taken over the connection to send the rest of the response.
        """
        self._local.connection, self._local.conn = None, conn
        is_kept = super().handle(conn)
        conn.request = None
        connection: LentConnection | None = self._local.connection
        return False if connection and connection.is_handed_over else is_kept

    def _keepalive_after(self, conn: Any, keepalive: Any) -> bool:  # noqa: ANN401 - as in gunicorn
        """Read the rest of the body; return whether the connection can have another request.

        PERF: after a request without a body, this method does not call gunicorn's method, which
        would set the socket's time-out three times. The thread would acquire the interpreter lock
        again each time.
        """
        parser = conn.parser
        if keepalive and getattr(parser.mesg.body.reader, "length", None) == 0:
            # If `mesg` is None, gunicorn does not read the rest of this body before the next
            # request.
            parser.mesg = None
            return True
        return bool(super()._keepalive_after(conn, keepalive))

    def _may_repeat(self, conn: Any) -> bool:  # noqa: ANN401 - as in gunicorn
        """Return whether the poller waits for the next request of the connection.

        The poller waits after a response that it may repeat. After any other response, such as that
        of a download, the thread itself waits a moment, because a client that downloads an image
        soon requests the next blob.
        """
        connection: LentConnection | None = self._local.connection
        is_repeatable = connection is not None and connection.repeatable is not None
        return is_repeatable and self._is_for_blobs(conn)

    def _is_for_blobs(self, conn: Any) -> bool:  # noqa: ANN401 - as in gunicorn
        return bool(self.blobs_socket) and conn.server == self.blobs_socket

    def _let_poller_keep(self, conn: Any) -> None:  # noqa: ANN401 - as in gunicorn
        """Hand an idle connection over to the poller, which waits for the next request."""

        def handle(request: bytes) -> None:
            conn.request = request
            conn.parser.unreader.unread(request)
            with suppress(RuntimeError):  # The worker is stopping.
                self.enqueue_req(conn)

        self.connection_poller.keep(KeptConnection(conn.sock, handle, self._count_closed))

    def _count_closed(self) -> None:
        """Let gunicorn's main thread count one connection less: the poller has closed it."""

        def closed() -> None:
            self.nr_conns -= 1

        self.method_queue.defer(closed)

    def finish_request(self, conn: Any, fs: futures.Future[Any]) -> None:  # noqa: ANN401 - as in gunicorn
        """Complete a request in gunicorn's main thread, unless the poller keeps the connection."""
        if not fs.cancelled() and fs.exception() is None and fs.result() == _KEPT_BY_POLLER:
            return
        super().finish_request(conn, fs)

    def _hand_over_close(self, conn: Any) -> None:  # noqa: ANN401 - as in gunicorn
        """Hand the connection over to the poller, which closes it after the peer has closed it.

        gunicorn itself would wait for the peer in its main loop.
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

    def _next_request_follows(self, conn: Any) -> bool:  # noqa: ANN401 - as in gunicorn
        """Wait for the next request if fewer threads are waiting than the limit allows."""
        if not self.alive:
            return False
        try:
            slot = self._waiting_slots.pop()
        except IndexError:
            return False
        try:
            return self._has_data_soon(conn)
        finally:
            self._waiting_slots.append(slot)

    def _has_data_soon(self, conn: Any) -> bool:  # noqa: ANN401 - as in gunicorn
        """Return whether bytes of the next request arrive within `keepalive_wait_s`.

        Return False if gunicorn has read such bytes already: its main loop handles pipelined
        requests.
        """
        if _has_read_ahead(conn):
            return False
        poll = select.poll()
        poll.register(conn.sock, select.POLLIN)
        return bool(poll.poll(self.keepalive_wait_s * 1000))


class _Connection(socket.socket):
    """A `_Connection` makes a system call for its blocking mode only if the mode changes.

    PERF: gunicorn sets the mode before each request, and a thread acquires the interpreter lock
    again after each system call.
    """

    @classmethod
    def taken_over(cls, accepted: socket.socket) -> Self:
        """Take over an accepted connection and make it non-blocking.

        `dup` calls the constructor with the arguments of `socket.socket`, so this class has no
        constructor of its own.
        """
        family, kind, protocol = accepted.family, accepted.type, accepted.proto
        connection = cls(family, kind, protocol, accepted.detach())
        connection.setblocking(False)
        return connection

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - the signature of a socket
        """Make the connection blocking or non-blocking."""
        if self.gettimeout() != (None if flag else 0.0):
            super().setblocking(flag)


def _has_read_ahead(conn: Any) -> bool:  # noqa: ANN401 - as in gunicorn
    """Return whether bytes of the next request were already read."""
    return bool(conn.parser.unreader.buf.getvalue())


def _close_nothing(*, graceful: bool = False) -> None:
    """Do nothing, because the connection is closed or belongs to the poller."""
