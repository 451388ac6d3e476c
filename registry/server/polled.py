"""Define the kinds of connections that a worker's polling thread watches, and their limits."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from entrepot.registry.server.delivery import Delivery

_PIECE = 256 * 1024
LONGEST_READ = 8192  # One read takes at most this many bytes, as in gunicorn.


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """A `ConnectionLimits` defines the limits above which a worker closes its slowest connections.

    `readers` limits the responses that the poller sends to slow clients, and `bodies` limits the
    request bodies that are being received. Only connections with an average rate below `rate`
    (bytes/s) are closed. If the worker responds before it has read the whole request body, it still
    reads up to `drained` bytes of the body.
    """

    readers: int = 1536
    bodies: int = 144
    rate: float = 10 * 1024
    drained: int = 256 * 1024 * 1024


@dataclass(slots=True, eq=False)
class ReceivedBody:
    """A `ReceivedBody` is a request body that a thread is reading.

    `received` bytes have arrived since `began` (seconds on a monotonic clock).
    """

    connection: socket.socket
    began: float
    received: int = 0
    is_cut: bool = False

    def rate(self, now: float) -> float:
        """Return the average rate of the received body in bytes/s; *now* is in seconds."""
        return self.received / max(now - self.began, 1.0)


@dataclass(slots=True, eq=False)
class KeptConnection:
    """A `KeptConnection` is an idle connection, which is closed at `until` (monotonic seconds).

    Until then, the polling thread waits for the next request. If the thread cannot repeat the
    response to that request, it passes the bytes of the request to `handle`, which owns the
    connection from then on. The polling thread calls `closed` after it has closed the connection.
    """

    connection: socket.socket
    handle: Callable[[bytes], None]
    closed: Callable[[], None]
    until: float = 0.0

    def read(self) -> bytes | None:
        """Return bytes of the next request, None if none arrived, or b"" after a disconnect."""
        try:
            return self.connection.recv(LONGEST_READ)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()
        self.closed()


@dataclass(slots=True, eq=False)
class SlowReader:
    """A `SlowReader` is a client that reads a response slowly.

    The poller took the response over at `began`, after `before` bytes of it were sent, and last
    sent bytes of it at `seen`. Times are in seconds. After the response, the poller waits for the
    next request on `kept`, which has the same connection. If `kept` is None, the poller closes the
    connection.
    """

    delivery: Delivery
    began: float
    seen: float
    kept: KeptConnection | None = None
    before: int = field(init=False)

    def __post_init__(self) -> None:
        self.before = self.delivery.sent

    @property
    def connection(self) -> socket.socket:
        """Return the connection over which the response is sent."""
        return self.delivery.connection

    def rate(self, now: float) -> float:
        """Return the average rate since `began` in bytes/s; *now* is in seconds."""
        return (self.delivery.sent - self.before) / max(now - self.began, 1.0)

    def close(self) -> None:
        """Close the connection and the source of the body."""
        self.connection.close()
        self.delivery.close()
        if self.kept is not None:
            self.kept.closed()


@dataclass(slots=True, eq=False)
class LingeringClose:
    """A `LingeringClose` is a connection that the poller closes after the client has closed it.

    At `until` (seconds), the poller closes the connection even if the client has not closed it. If
    the write side is still open at that time, the poller only shuts it down, and sets a later
    `until`. The poller reads and discards at most `left` bytes that the client still sends.
    `is_shut` is true after the write side of the connection was shut down.
    """

    connection: socket.socket
    until: float
    left: int = _PIECE
    is_shut: bool = False

    def shut(self) -> None:
        """Shut down the write side."""
        self.is_shut = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)

    def drain(self) -> bool:
        """Discard pending bytes; return False if the client disconnected or sent too much."""
        try:
            received = len(self.connection.recv(min(_PIECE, self.left + 1)))
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.left -= received
        return received > 0 and self.left >= 0

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


Polled = SlowReader | LingeringClose | KeptConnection
