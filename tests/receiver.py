"""A receiver of events on loopback, whose responses a test chooses."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Reply = tuple[int, dict[str, str]]
"""A `Reply` has the status and the headers of the receiver's response."""


@dataclass(frozen=True, slots=True)
class Received:
    """A `Received` is one request that the receiver read; names of headers are in lower case."""

    method: str
    path: str
    headers: Sequence[tuple[str, str]]
    body: bytes = field(repr=False)

    @property
    def events(self) -> list[dict[str, Any]]:
        """Return the events of a request's envelope; a request without a body has none."""
        return list(json.loads(self.body)["events"]) if self.body else []

    def values(self, name: str) -> list[str]:
        """Return the values of a header."""
        return [value for found, value in self.headers if found == name]


class Receiver:
    """A `Receiver` responds to every request with the result of *reply*, by default with 200."""

    def __init__(self, reply: Callable[[Received], Reply] = lambda _: (200, {})) -> None:
        self.reply = reply
        self.requests: list[Received] = []
        self.accepted: list[dict[str, Any]] = []
        self._server = _Server(("127.0.0.1", 0), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Return the URL of an endpoint at this receiver."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/event"

    def take(self, request: Received) -> Reply:
        """Record a request to the receiver; its events are accepted if the response is 2xx."""
        reply = self.reply(request)
        self.requests.append(request)
        if reply[0] < 300:
            self.accepted += request.events
        return reply


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], receiver: Receiver) -> None:
        super().__init__(address, _Handler)
        self.receiver = receiver


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        """Record the request to the receiver, and send the chosen response."""
        length = int(self.headers.get("Content-Length") or 0)
        headers = [(name.lower(), value) for name, value in self.headers.items()]
        request = Received(self.command, self.path, headers, self.rfile.read(length))
        status, sent = self.server.receiver.take(request)
        self.send_response(status)
        for name, value in sent.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST  # noqa: N815 - the name that http.server expects

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - of http.server
        """Print nothing."""
