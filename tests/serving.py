"""Servers of `socketserver` that end at once, without a poll interval."""

from __future__ import annotations

import socket
from contextlib import suppress
from socketserver import BaseServer

_NEVER_S = 3600.0


class EndsAtOnce(BaseServer):
    """A mixin for a server on a socket: `shutdown` itself wakes `serve_forever`.

    Otherwise `serve_forever` wakes up in each poll interval, and a shutdown waits for the next one.
    With thousands of small servers, these waits take most of the time of some tests.
    """

    socket: socket.socket

    def serve_forever(self, poll_interval: float = _NEVER_S) -> None:
        """Handle requests until `shutdown`."""
        super().serve_forever(poll_interval)

    def shutdown(self) -> None:
        """Refuse new connections, and wait until `serve_forever` has returned."""
        with suppress(OSError):  # the method of the class, because `self.socket` may be one of TLS
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)
        super().shutdown()
