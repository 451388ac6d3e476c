"""A real HTTP/1.1 server on loopback, to whose responses a test can add faults."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.ports import free_port
from tests.serving import EndsAtOnce

_PIECE = 64 * 1024


@dataclass(slots=True, eq=False)
class Seen:
    """A received request; `sent` counts the bytes of the response's body that were sent.

    `started` is set after the first piece of the body, `done` at the end of the response.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""
    status: int = 0
    sent: int = 0
    started: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete response, before any fault is applied to it."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Fault:
    """The faults of a response of the server; by default there are none.

    delay           seconds before the status line
    hold            event to wait for before the status line, or after `hold_after` bytes of body
    rate            bytes of the body in each second
    cut             bytes of the body after which the connection is closed
    drop            close the connection without a response
    corrupt         change the last byte of the body
    status, headers, body, media_type   replacements (a header whose value is None is removed)
    ignore_range    respond 200 with the whole body
    redirect        respond 307 to this URL; `{path}`, `{digest}` and `{query}` are replaced
    chunked         send the body in chunks, without Content-Length
    """

    delay: float = 0
    hold: threading.Event | None = None
    hold_after: int | None = None
    rate: float | None = None
    cut: int | None = None
    drop: bool = False
    corrupt: bool = False
    status: int | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: bytes | None = None
    media_type: str | None = None
    ignore_range: bool = False
    redirect: str | None = None
    chunked: bool = False


HONEST = Fault()
Answer = Callable[[Seen], tuple[Reply, Fault]]


class HttpServer:
    """A server on 127.0.0.1 that runs from `start` to `stop`, always on the same port.

    `accepted` counts its connections.
    """

    def __init__(self, answer: Answer, tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self._tls = tls
        self._port = 0
        self._server: _Listener | None = None
        self._thread: threading.Thread | None = None
        self.accepted = 0

    @property
    def host(self) -> str:
        """Return the address and port of this server."""
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """Return the URL of the server without a trailing slash."""
        return f"{'https' if self._tls else 'http'}://{self.host}"

    def start(self) -> None:
        """Accept connections; a start after a stop uses the same port."""
        self._port = self._port or free_port()
        self._server = _Listener(self._port, self, self._tls)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close all connections, and refuse new ones; a second stop does nothing."""
        if self._server is None or self._thread is None:
            return
        self._server.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._server.break_off()
        self._thread.join()
        self._server = None

    def break_off(self) -> None:
        """Close all connections, idle ones too, but accept new ones."""
        if self._server is not None:
            self._server.break_off()


class _Listener(EndsAtOnce, ThreadingHTTPServer):
    """The listening socket of the server; `connections` has the connections to close at a stop."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(self, port: int, owner: HttpServer, tls: ssl.SSLContext | None) -> None:
        self.owner = owner
        self.stopping = threading.Event()
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )

    def server_bind(self) -> None:
        """Bind without a look-up of this host's name, which could take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Record a new connection before its thread starts."""
        self.connections.add(request)
        self.owner.accepted += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Remove a connection whose thread has ended from the list."""
        self.connections.discard(request)
        super().shutdown_request(request)

    def break_off(self) -> None:
        """Shut down every connection, even if a thread is using it."""
        for connection in list(self.connections):
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore the errors of connections that a client has closed; print others."""
        if not isinstance(sys.exception(), OSError | ValueError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Reads a request, calls the server's `answer`, and sends the response with the fault."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def do_GET(self) -> None:
        """Answer a request of any method."""
        seen = self._seen()
        reply, fault = self.server.owner.answer(seen)
        try:
            self._respond(seen, reply, fault)
        finally:
            seen.done.set()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - http.server's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Log nothing, because the servers of the tests record their requests."""

    def _seen(self) -> Seen:
        target = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        query = dict(parse_qsl(target.query, keep_blank_values=True))
        return Seen(self.command, target.path, query, headers, body)

    def _respond(self, seen: Seen, reply: Reply, fault: Fault) -> None:
        self._wait(fault.delay)
        if fault.hold is not None and fault.hold_after is None:
            self._hold(fault.hold)
        if fault.drop or self.server.stopping.is_set():
            self.close_connection = True
            return
        seen.status = reply.status
        self._send_head(reply, fault)
        if self.command != "HEAD":
            self._send_body(seen, reply.body, fault)

    def _send_head(self, reply: Reply, fault: Fault) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if fault.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif "Content-Length" not in reply.headers:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()

    def _send_body(self, seen: Seen, body: bytes, fault: Fault) -> None:
        stops = sorted({at for at in (fault.hold_after, fault.cut) if at is not None})
        for start, stop in _pieces(len(body), fault.rate, stops):
            if start == fault.hold_after and fault.hold is not None:
                self._hold(fault.hold)
            if start == fault.cut:
                break
            seen.sent += stop - start  # counted before the client can have received the bytes
            self._send(body[start:stop], chunked=fault.chunked)
            seen.started.set()
            self._wait((stop - start) / fault.rate if fault.rate else 0)
        if fault.cut is not None and fault.cut < len(body):
            self.close_connection = True
        elif fault.chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _send(self, piece: bytes, *, chunked: bool) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)

    def _wait(self, span: float) -> None:
        if span and self.server.stopping.wait(span):
            raise ConnectionAbortedError

    def _hold(self, gate: threading.Event) -> None:
        while not gate.wait(0.02):
            if self.server.stopping.is_set():
                raise ConnectionAbortedError


def _pieces(length: int, rate: float | None, stops: list[int]) -> list[tuple[int, int]]:
    """Return the pieces (start, stop) in which a body is sent: 50 pieces a second at *rate*.

    A piece also ends at each of *stops*.
    """
    step = max(1, int(rate / 50)) if rate else _PIECE
    marks = {*range(0, length, step), *(at for at in stops if at < length), length}
    ordered = sorted(marks)
    return list(pairwise(ordered))
