"""Servers of `socketserver` that stop immediately, without a poll interval."""

from __future__ import annotations

import socket
from contextlib import suppress
from socketserver import BaseServer

_NEVER_S = 3600.0


class EndsAtOnce(BaseServer):
    """A mixin for a server on a socket: `shutdown` itself wakes `serve_forever`.

    Without this class, `serve_forever` looks for a shutdown only after each poll interval, and
    `shutdown` waits until the end of the interval. With thousands of small servers, these waits
    take most of the time of some tests.
    """

    socket: socket.socket

    def serve_forever(self, poll_interval: float = _NEVER_S) -> None:
        """Handle requests until `shutdown` is called."""
        super().serve_forever(poll_interval)

    def shutdown(self) -> None:
        """Refuse new connections, and wait until `serve_forever` has returned."""
        # `SSLSocket.shutdown` would also discard the TLS state of the socket.
        with suppress(OSError):
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)
        super().shutdown()
