"""A registry worker that stands in behind a real HAProxy: an HTTP server on a unix socket.

The path says what it does: `/hang-up` closes before the first byte, `/html/500` fails as a worker
does before our code is reached, `/status/401` answers so, `/wait/a/file` answers once that file is
there (and makes `/a/file.waiting` meanwhile), `/large` answers with 8 MiB, `/echo` with the headers
that it got.
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


class _Server(ThreadingMixIn, UnixStreamServer):
    """Knows its worker, for the handler."""

    worker: Worker
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """Say nothing: HAProxy hangs up on an answer that it has replaced."""


class Worker:
    """Answers on *path*; `seen` holds the method and target of each request but the checks."""

    def __init__(self, path: Path, headers: Mapping[str, str] | None = None) -> None:
        self.seen: list[str] = []
        self.headers = dict(headers or {})
        self._server = _Server(str(path), _Handler)
        self._server.worker = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

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
    """Wait until *gate* is there."""
    gate.with_name(f"{gate.name}.waiting").touch()
    while not gate.exists():
        time.sleep(0.01)
    return b"opened"


class _Handler(BaseHTTPRequestHandler):
    """Says what the path asks for."""

    server: _Server
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        if self.path == "/healthz":
            return self.say(200, b"ok")
        self.server.worker.seen.append(f"{self.command} {self.path}")
        if self.path.startswith("/hang-up"):
            self.close_connection = True
            return None
        return self.told()

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 - http.server's names

    def told(self) -> None:
        if self.path.startswith("/html/"):
            status = int(self.path.rpartition("/")[2])
            return self.say(status, b"<html>gunicorn</html>", {"Content-Type": "text/html"})
        if self.path.startswith("/status/"):
            status = int(self.path.rpartition("/")[2])
            return self.say(status, b"{}", self.server.worker.headers)
        if self.path == "/large":
            return self.say(200, bytes(8 * 1024**2))
        if self.path.startswith("/wait/"):
            return self.say(200, wait_for(Path(self.path.removeprefix("/wait"))))
        headers = [[name.lower(), value] for name, value in self.headers.items()]
        return self.say(200, json.dumps(headers).encode(), self.server.worker.headers)

    def say(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def address_string(self) -> str:
        return "haproxy"  # a unix socket has no address

    def log_message(self, *_: object) -> None:
        """Say nothing."""
