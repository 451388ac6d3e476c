"""The body of an answer on its way into a connection, which may take a part of it at a time.

The thread that answers sends what the client takes at once. When the client has taken nothing for a
moment, the rest is handed over (registry/server/aftercare.py): a slow reader costs no thread.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from entrepot.datastore.errors import DatastoreError
from entrepot.registry.errors import RegistryError
from entrepot.registry.server.fileslice import FileSlice, Piece

log = logging.getLogger(__name__)

CONNECTION = "entrepot.connection"
"""Key of a request's WSGI environment: its connection (`Lent`), to be written to."""
PATIENCE_S = 1.0
"""How long a thread waits for a client that takes nothing, in s, before it hands the rest over."""


class Delivery:
    """The *pieces* of a body of *length* bytes, sent over a *connection* without blocking.

    Without a *length* the pieces are framed already, and each has to be whole.
    Any thread may go on with it, one at a time. The pieces are closed at the end, whatever it is.
    """

    def __init__(
        self, pieces: Iterator[Piece], length: int | None, connection: socket.socket
    ) -> None:
        self.connection = connection
        self.sent = 0
        self._pieces = pieces
        self._length = length
        self._piece: FileSlice | memoryview | None = None
        connection.setblocking(False)

    def send(self, patience: float) -> bool:
        """Send until the end; False when the connection took nothing for *patience* s.

        Raises: ConnectionError, also where the body ended before its length; that is logged once.
        """
        try:
            return self._send(patience)
        except BaseException:
            self.close()
            raise

    def push(self) -> bool:
        """Send what the connection takes now of the current piece; True when all of it has gone.

        Raises: ConnectionError, as `send`.
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
        """Close what the pieces come from. May be repeated."""
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()

    def _send(self, patience: float) -> bool:
        try:
            while self._next():
                while self._piece is not None:
                    if not self._step() and not _is_writable(self.connection, patience):
                        return False
        except (RegistryError, DatastoreError, OSError) as error:
            raise broken(error) from error
        self.close()
        return True

    def _next(self) -> bool:
        """Take the next piece, unless there is one; False at the end. Raises: OSError."""
        if self._piece is None:
            piece = next(self._pieces, None)
            if piece is None:
                if self._length is not None and self.sent < self._length:
                    raise OSError(f"it ended after {self.sent} of {self._length} bytes")
                return False
            self._piece = memoryview(piece) if isinstance(piece, bytes) else piece
        return True

    def _step(self) -> bool:
        """Send a part of the current piece; False when the connection takes nothing now.

        Raises: OSError.
        """
        piece = self._piece
        assert piece is not None  # noqa: S101 - the callers look
        try:
            if isinstance(piece, FileSlice):
                left = piece.stop - piece.start
                sent = left and os.sendfile(
                    self.connection.fileno(), piece.descriptor, piece.start, left
                )
                rest = FileSlice(piece.descriptor, piece.start + sent, piece.stop)
                if left and not sent and self._length is None:
                    raise OSError(f"a file ended {left} bytes early")
                # a file that ends before its stretch ends the piece: the length tells
                self._piece = rest if 0 < sent < left else None
            else:
                sent = self.connection.send(piece) if piece else 0
                self._piece = piece[sent:] if sent < len(piece) else None
        except BlockingIOError:
            return False
        self.sent += sent
        return True


class BodyProgress(Protocol):
    """A body that is read: how many bytes came so far, and whether it was cut as too slow."""

    received: int
    is_cut: bool


class After(Protocol):
    """Looks after connections (registry/server/aftercare.py)."""

    def take(self, delivery: Delivery) -> None:
        """Send the rest of an answer."""
        ...

    def receiving(self, connection: socket.socket) -> AbstractContextManager[BodyProgress]:
        """Watch over a body that a thread reads."""
        ...


@dataclass(slots=True)
class Lent:
    """A request's connection, lent to what answers it; `after` looks after what is handed over.

    Without `after` the thread waits for the client however long it takes. What the client still
    sends is read for `drain_s` seconds after the answer. `patience` is in seconds. `has_chunks`:
    a body of unknown length is sent in chunks.
    """

    socket: socket.socket
    after: After | None = None
    is_handed_over: bool = False
    drain_s: float = 0.0
    patience: float = PATIENCE_S
    has_chunks: bool = True

    def deliver_chunked(self, pieces: Iterator[Piece]) -> None:
        """Send a body of unknown length in chunks, as `deliver` does.

        Raises: ConnectionError, always: the end is sent, and the server is to send nothing more.
        """
        self.deliver(_chunked(pieces), None)
        raise ConnectionResetError(errno.ECONNRESET, "the answer is sent by others")

    def deliver(self, pieces: Iterator[Piece], length: int | None) -> None:
        """Send a body; a client that does not take it has the rest handed over.

        Raises: ConnectionError.
        """
        delivery = Delivery(pieces, length, self.socket)
        while not delivery.send(self.patience):
            if self.after is not None:
                self.is_handed_over = True
                delivery.connection = self.socket.dup()
                self.after.take(delivery)
                return


def _chunked(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Frame a body (RFC 9112, 7.1); what the pieces come from is closed after it."""
    try:
        for piece in pieces:
            size = piece.stop - piece.start if isinstance(piece, FileSlice) else len(piece)
            if size:  # an empty chunk would be the end
                yield b"%x\r\n" % size
                yield piece
                yield b"\r\n"
        yield b"0\r\n\r\n"
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()


def broken(error: Exception) -> ConnectionError:
    """Return what ends an answer: a client that left, as it is; anything else is logged once.

    A reset is the one failure that the server takes for what it is, without a traceback.
    """
    if isinstance(error, ConnectionError):
        return error
    log.warning("answer cut short", extra={"error": error})
    return ConnectionResetError(errno.ECONNRESET, "answer cut short")


def _is_writable(connection: socket.socket, patience: float) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLOUT)
    return bool(poll.poll(patience * 1000))
