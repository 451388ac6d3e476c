"""A stand-in for a registry worker, for tests of HAProxy: an HTTP server on a unix socket.

The path of a request selects the response: `/hang-up` closes the connection, `/html/500` fails with
HTML as gunicorn does, and `/status/401` gets the status 401. `/wait/a/file` creates
`/a/file.waiting`, and gets a response when `/a/file` exists. The body of `/large` has 8 MiB. Any
other path, such as `/echo`, is answered with the headers of the request as JSON.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from types import TracebackType
from typing import Self

from tests.serving import EndsAtOnce


class _Server(EndsAtOnce, ThreadingMixIn, UnixStreamServer):
    """The server of a stand-in; handlers of requests read the stand-in from `worker`."""

    worker: StubWorker
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """Ignore errors: HAProxy closes the connection when it replaces the stub's response."""


class StubWorker:
    """A stand-in for a worker on the socket *path*; `seen` lists all requests except health checks.

    `status` and `headers` are the status and the headers of the responses.
    """

    def __init__(self, path: Path, headers: Mapping[str, str] | None = None) -> None:
        self.seen: list[str] = []
        self.headers = dict(headers or {})
        self.status = 200
        self._server = _Server(str(path), _Handler)
        self._server.worker = self
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        Path(str(self._server.server_address)).unlink(missing_ok=True)


def wait_for(gate: Path) -> bytes:
    """Wait until the file *gate* exists, and return a body."""
    gate.with_name(f"{gate.name}.waiting").touch()
    while not gate.exists():
        time.sleep(0.01)
    return b"opened"


class _Handler(BaseHTTPRequestHandler):
    """Sends the response that the path of the request selects."""

    server: _Server
    protocol_version = "HTTP/1.1"

    def respond(self) -> None:
        if self.path == "/healthz":
            return self.send(200, b"ok")
        self.server.worker.seen.append(f"{self.command} {self.path}")
        if self.path.startswith("/hang-up"):
            self.close_connection = True
            return None
        return self.respond_by_path()

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = respond  # noqa: N815 - http.server's names

    def respond_by_path(self) -> None:
        if self.path.startswith("/html/"):
            status = int(self.path.rpartition("/")[2])
            return self.send(status, b"<html>gunicorn</html>", {"Content-Type": "text/html"})
        if self.path.startswith("/status/"):
            status = int(self.path.rpartition("/")[2])
            return self.send(status, b"{}", self.server.worker.headers)
        if self.path == "/large":
            return self.send(200, bytes(8 * 1024**2))
        if self.path.startswith("/wait/"):
            return self.send(200, wait_for(Path(self.path.removeprefix("/wait"))))
        headers = [[name.lower(), value] for name, value in self.headers.items()]
        worker = self.server.worker
        return self.send(worker.status, json.dumps(headers).encode(), worker.headers)

    def send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def address_string(self) -> str:
        return "haproxy"  # a client on a unix socket has no address

    def log_message(self, *_: object) -> None:
        """Discard the log line of a request."""
