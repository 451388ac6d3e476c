"""Bodies on their way out: files that the kernel sends, and what comes in meanwhile."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable, Generator, Iterator
from typing import BinaryIO

import falcon

from datastore.errors import DatastoreError
from registry.api.ranges import ByteRange
from registry.errors import RegistryError
from registry.stretch import Piece, in_bytes

log = logging.getLogger(__name__)

_CHUNK = 256 * 1024
_BOUNDARY = "entrepot-part"
OCTETS = "application/octet-stream"
CONNECTION = "entrepot.connection"
"""In the environment of a request: the socket behind it, where a body may be written to it."""

Read = Callable[[int, int | None], Iterator[bytes]]


class _Part:
    """The next *length* bytes of an open file, for a server that finds `fileno()` or reads."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file = file
        self._left = length
        self.fileno = file.fileno
        self.close = file.close

    def read(self, size: int | None = -1, /) -> bytes:
        """Return at most *size* bytes; negative: all that is left."""
        wanted = self._left if size is None or size < 0 else min(size, self._left)
        chunk = self._file.read(wanted)
        self._left -= len(chunk)
        return chunk


def send_file(resp: falcon.Response, file: BinaryIO, part: ByteRange) -> None:
    """Send a part of an open file: the server finds its `fileno()` and uses sendfile."""
    file.seek(part.start)
    resp.set_stream(_Part(file, part.length), part.length)


def send_arriving(
    resp: falcon.Response,
    body: Iterator[Piece],
    length: int | None,
    connection: socket.socket | None = None,
) -> None:
    """Send what comes in; *length* in bytes, None when nobody knows it.

    What lies in a file goes straight to the *connection*, where there is one.
    """
    if length is None:
        resp.stream = unbroken(body, None)  # the server frames each chunk
    else:
        resp.stream = unbroken(body, length, connection)
        resp.content_length = length


def send_parts(
    resp: falcon.Response,
    read: Read,
    parts: list[ByteRange],
    size: int,
    *,
    file: BinaryIO | None = None,
) -> None:
    """Send several ranges as multipart/byteranges (RFC 9110, 14.6); *file* is closed after."""
    heads = [_head(part, size) for part in parts]
    tail = f"\r\n--{_BOUNDARY}--\r\n".encode()
    resp.content_type = f"multipart/byteranges; boundary={_BOUNDARY}"
    length = sum(map(len, heads)) + sum(part.length for part in parts) + len(tail)
    resp.content_length = length
    body = _multipart(read, list(zip(heads, parts, strict=True)), tail)
    resp.stream = unbroken(_closing(body, file) if file else body, length)


def read_file(file: BinaryIO) -> Read:
    """Return how to read parts of an open file."""

    def read(start: int, stop: int | None) -> Iterator[bytes]:
        file.seek(start)
        left = stop - start if stop is not None else None
        while left is None or left > 0:
            chunk = file.read(_CHUNK if left is None else min(_CHUNK, left))
            if not chunk:
                return
            left = None if left is None else left - len(chunk)
            yield chunk

    return read


def unbroken(
    body: Iterator[Piece], length: int | None, connection: socket.socket | None = None
) -> Generator[bytes, None, None]:
    """Pass a body on; where it ends before its *length*, drop the connection, and say so once.

    A reset is the one failure that the server takes for what it is, without a traceback.
    """
    try:
        yield from _whole(body, length, connection)
    except ConnectionError:
        raise  # the client has left
    except (RegistryError, DatastoreError, OSError) as error:
        log.warning("answer cut short", extra={"error": error})
        raise ConnectionResetError(errno.ECONNRESET, "answer cut short") from error


def _whole(
    body: Iterator[Piece], length: int | None, connection: socket.socket | None
) -> Generator[bytes, None, None]:
    came = 0
    for piece in body if connection else in_bytes(body):
        if isinstance(piece, bytes):
            came += len(piece)
            yield piece
        elif connection:
            yield b""  # with the first that it is given, the server sends its head
            came += piece.send(connection)
    if length is not None and came < length:
        raise OSError(f"it ended after {came} of {length} bytes")


def _closing(body: Iterator[bytes], file: BinaryIO) -> Iterator[bytes]:
    with file:
        yield from body


def _head(part: ByteRange, size: int) -> bytes:
    return (
        f"\r\n--{_BOUNDARY}\r\nContent-Type: {OCTETS}\r\n"
        f"Content-Range: {part.content_range(size)}\r\n\r\n"
    ).encode()


def _multipart(read: Read, parts: list[tuple[bytes, ByteRange]], tail: bytes) -> Iterator[bytes]:
    for head, part in parts:
        yield head
        yield from read(part.start, part.stop)
    yield tail
