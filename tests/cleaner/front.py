"""Run a server that responds to the requests of the cleaner's log barrier in place of HAProxy."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from tests.serving import EndsAtOnce


class Front(EndsAtOnce, UnixStreamServer):
    """A `Front` responds with *status* to each request on the unix socket *path*.

    After the response it calls *commit* with the id in the request. In a test, *commit* does the
    work of the logger, which commits the log line of the request.
    """

    def __init__(self, path: Path, commit: Callable[[str], None], status: int = 200) -> None:
        super().__init__(str(path), _Handler)
        self.commit = commit
        self.status = status
        self.seen: list[str] = []
        self._thread = threading.Thread(target=self.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    """A handler for one request of the cleaner."""

    server: Front
    protocol_version = "HTTP/1.1"
    request: socket.socket

    def do_GET(self) -> None:
        self.server.seen.append(f"{self.headers['Host']} {self.path}")
        self.send_response(self.server.status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
        self.wfile.flush()
        self.server.commit(parse_qs(urlsplit(self.path).query)["news"][0])

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def address_string(self) -> str:
        """Return an empty string: a unix socket has no client address."""
        return ""
