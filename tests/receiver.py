"""A receiver of event notifications on loopback; a test chooses its responses."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.serving import EndsAtOnce

Reply = tuple[int, dict[str, str]]
"""The status and the headers of the receiver's response."""


@dataclass(frozen=True, slots=True)
class Received:
    """A request that the receiver has read; header names are in lower case."""

    method: str
    path: str
    headers: Sequence[tuple[str, str]]
    body: bytes = field(repr=False)

    @property
    def events(self) -> list[dict[str, Any]]:
        """Return the events in the body of this request; none without a body."""
        return list(json.loads(self.body)["events"]) if self.body else []

    def values(self, name: str) -> list[str]:
        """Return all values of a header of this request."""
        return [value for found, value in self.headers if found == name]


class Receiver:
    """A receiver that responds to each request with the result of *reply*, by default with 200.

    `requests` has all requests, and `accepted` has the events of requests with a 2xx response.
    """

    def __init__(self, reply: Callable[[Received], Reply] = lambda _: (200, {})) -> None:
        self.reply = reply
        self.requests: list[Received] = []
        self.accepted: list[dict[str, Any]] = []
        self._server = _Server(("127.0.0.1", 0), self)
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Return the URL at which an endpoint reaches this receiver."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/event"

    def take(self, request: Received) -> Reply:
        """Record the request, and return the response; after a 2xx its events count as accepted."""
        reply = self.reply(request)
        self.requests.append(request)
        if reply[0] < 300:
            self.accepted += request.events
        return reply


class _Server(EndsAtOnce, ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], receiver: Receiver) -> None:
        super().__init__(address, _Handler)
        self.receiver = receiver


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        """Read the request, and send the response that the test has chosen."""
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
        """Print nothing, because tests read `requests`."""
