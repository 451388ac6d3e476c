"""Send a response body over a connection that may accept only a part of it at a time.

The thread that handles the request sends as much as the client reads at once. If the client reads
nothing for a moment, the thread hands the rest over to the poller
(registry/server/connection_poller.py), so a slow reader does not occupy a thread.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from entrepot.datastore.errors import DatastoreError
from entrepot.registry.errors import RegistryError
from entrepot.registry.server.fileslice import FileSlice, Piece

log = logging.getLogger(__name__)

CONNECTION = "entrepot.connection"
"""The WSGI environment has the request's connection (`LentConnection`) under this key."""
_LARGE = 512 * 1024  # A slice of fewer bytes than this fits into the connection's send buffer.
_MOST_SENT = 16 * 1024 * 1024  # One system call sends at most this many bytes.
PATIENCE_S = 1.0
"""If a client reads nothing for this many seconds, the thread hands the response over to the
poller."""


class Delivery:
    """A `Delivery` sends *pieces* of a body of *length* bytes over a *connection*.

    Only `send` with a *patience* above 0 can block.

    If *length* is None, the pieces already contain chunk framing, so each piece must be sent
    completely. Any thread may continue a delivery, but only one at a time. A delivery closes the
    source of the pieces at the end and after every error.
    """

    def __init__(
        self, pieces: Iterator[Piece], length: int | None, connection: socket.socket
    ) -> None:
        self.connection = connection
        self.sent = 0
        self._pieces = pieces
        self._length = length
        self._piece: FileSlice | memoryview | None = None
        if connection.gettimeout() != 0.0:
            connection.setblocking(False)

    def send(self, patience: float) -> bool:
        """Send the pieces; return False if the connection accepts nothing for *patience* seconds.

        Raises: ConnectionError if the client disconnected or the body ends before its length; a
        body that is too short is logged once.
        """
        try:
            return self._send(patience)
        except BaseException:
            self.close()
            raise

    def push(self) -> bool:
        """Send as much of the current piece as the connection accepts; return True if all is sent.

        Raises: ConnectionError in the cases of `send`.
        """
        try:
            while self._piece is not None:
                if not self._step():
                    return False
        except BaseException as error:
            self.close()
            if isinstance(error, Exception):
                raise broken(error) from error
            raise
        return True

    def close(self) -> None:
        """Close the source of the pieces. `close` may be called repeatedly."""
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()

    def _send(self, patience: float) -> bool:
        try:
            while self._next():
                if patience and self._is_large() and not self._send_large(patience):
                    return False
                while self._piece is not None:
                    if not self._step() and not _is_writable(self.connection, patience):
                        return False
        except (RegistryError, DatastoreError, OSError) as error:
            raise broken(error) from error
        self.close()
        return True

    def _is_large(self) -> bool:
        piece = self._piece
        return isinstance(piece, FileSlice) and piece.stop - piece.start >= _LARGE

    def _send_large(self, patience: float) -> bool:
        """Send the current slice; return False if the client reads nothing for *patience* seconds.

        PERF: the thread waits in the kernel until the slice is sent, so it is not woken each time
        the client has read a part. Raises: OSError.
        """
        descriptor, connection = self.connection.fileno(), self.connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(patience))
        os.set_blocking(descriptor, True)
        try:
            while self._piece is not None:
                if not self._step():
                    return False
        finally:
            os.set_blocking(descriptor, False)
        return True

    def _next(self) -> bool:
        """If there is no current piece, make the next piece current; return False at the end.

        Raises: OSError if the body ended before the announced length.
        """
        if self._piece is None:
            piece = next(self._pieces, None)
            if piece is None:
                if self._length is not None and self.sent < self._length:
                    raise OSError(f"the body ended after {self.sent} of {self._length} bytes")
                return False
            self._piece = memoryview(piece) if isinstance(piece, bytes) else piece
        return True

    def _step(self) -> bool:
        """Send a part of the current piece; return False if the connection accepts nothing now.

        Raises: OSError.
        """
        piece = self._piece
        assert piece is not None  # noqa: S101 - the callers check it
        try:
            if isinstance(piece, FileSlice):
                left = piece.stop - piece.start
                sent = left and os.sendfile(
                    self.connection.fileno(), piece.descriptor, piece.start, min(left, _MOST_SENT)
                )
                rest = FileSlice(piece.descriptor, piece.start + sent, piece.stop)
                if left and not sent and self._length is None:
                    raise OSError(f"the file of the body ended {left} bytes early")
                # If the file is shorter than the slice, the piece ends early. At the end of the
                # body, `_next` raises an error because of the missing bytes.
                self._piece = rest if 0 < sent < left else None
            else:
                sent = self.connection.send(piece) if piece else 0
                self._piece = piece[sent:] if sent < len(piece) else None
        except BlockingIOError:
            return False
        self.sent += sent
        return True


def _timeval(seconds: float) -> bytes:
    """Return the value of SO_SNDTIMEO: whole seconds, and microseconds."""
    return struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000))


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A `Repeatable` permits the server to repeat a response when an equal request arrives.

    `open` returns a file with the body of `size` bytes if the application would still send this
    response, else None. The function `open` waits for nothing but the disk.
    """

    size: int
    open: Callable[[], BinaryIO | None]


@dataclass(frozen=True, slots=True)
class RepeatableBytes:
    """A `RepeatableBytes` permits the server to repeat a response whose body is in memory.

    The body of the response is `content`. `is_permitted` returns whether the application would
    still send this response, and does so without waiting.
    """

    content: bytes
    is_permitted: Callable[[], bool]


class BodyProgress(Protocol):
    """A `BodyProgress` is a request body of which `received` bytes have been read.

    `is_cut` is True if the poller cut the body off because it arrived too slowly.
    """

    received: int
    is_cut: bool


class Poller(Protocol):
    """A `Poller` continues slow connections (registry/server/connection_poller.py)."""

    def finish_response(self, delivery: Delivery) -> None:
        """Send the rest of a response in the polling thread."""
        ...

    def watch_body(self, connection: socket.socket) -> AbstractContextManager[BodyProgress]:
        """Register a request body that the calling thread is reading."""
        ...


@dataclass(slots=True)
class LentConnection:
    """A `LentConnection` is the client's connection, which the server lends to the application.

    `poller` takes slow connections over; without a poller, the thread waits for the client without
    a time limit. `is_handed_over` is True if the poller owns the connection. If the client still
    sends bytes after the response, the server reads and discards them for `drain_s` seconds. A
    thread waits for a slow client for `patience` seconds.

    `has_chunks` is True if a body of unknown length is sent with chunked coding, which HTTP/1.0
    does not have. The application sets `repeatable` before it starts a response that the server may
    repeat to equal requests. `is_frequent` returns whether it was called for an equal request
    within the last second.
    """

    socket: socket.socket
    poller: Poller | None = None
    is_handed_over: bool = False
    drain_s: float = 0.0
    patience: float = PATIENCE_S
    has_chunks: bool = True
    repeatable: Repeatable | RepeatableBytes | None = None
    is_frequent: Callable[[], bool] = lambda: False

    def deliver_chunked(self, pieces: Iterator[Piece]) -> None:
        """Frame a body of unknown length with chunked coding (RFC 9112, 7.1), and `deliver` it.

        Raises: ConnectionError, always, so that the server sends nothing after the last chunk.
        """
        self.deliver(_chunked(pieces), None)
        raise ConnectionResetError(errno.ECONNRESET, "the response is already sent completely")

    def deliver(self, pieces: Iterator[Piece], length: int | None) -> None:
        """Send a body; hand the rest over to the poller if the client reads too slowly.

        Raises: ConnectionError.
        """
        delivery = Delivery(pieces, length, self.socket)
        while not delivery.send(self.patience):
            if self.poller is not None:
                self.is_handed_over = True
                delivery.connection = self.socket.dup()
                self.poller.finish_response(delivery)
                return


def _chunked(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Frame *pieces* with chunked coding (RFC 9112, 7.1); close the iterator at the end."""
    try:
        for piece in pieces:
            size = piece.stop - piece.start if isinstance(piece, FileSlice) else len(piece)
            if size:  # An empty chunk would end the body.
                yield b"%x\r\n" % size
                yield piece
                yield b"\r\n"
        yield b"0\r\n\r\n"
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()


def broken(error: Exception) -> ConnectionError:
    """Return the error that ends a response after *error*.

    A ConnectionError means that the client disconnected, and is returned unchanged. Any other error
    is logged here, and a connection reset is returned instead, because gunicorn logs a traceback
    for every other exception.
    """
    if isinstance(error, ConnectionError):
        return error
    log.warning("the response was cut short", extra={"error": error})
    return ConnectionResetError(errno.ECONNRESET, "the response was cut short")


def _is_writable(connection: socket.socket, patience: float) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLOUT)
    return bool(poll.poll(patience * 1000))
