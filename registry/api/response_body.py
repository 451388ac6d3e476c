"""Bodies on their way out: files that the kernel sends, and what comes in meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import BinaryIO

import falcon

from entrepot.datastore.errors import DatastoreError
from entrepot.registry.api import cache_status
from entrepot.registry.api.etags_and_ranges import ByteRange
from entrepot.registry.errors import RegistryError
from entrepot.registry.server.delivery import CONNECTION, Lent, broken
from entrepot.registry.server.fileslice import Piece, in_bytes, pieces

_CHUNK = 256 * 1024
_BOUNDARY = "entrepot-part"
OCTETS = "application/octet-stream"
SMALL = 64 * 1024
"""Bytes of a body that no client can keep waiting: HAProxy and the kernel take as many at once."""

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


def send_file(
    resp: falcon.Response, file: BinaryIO, part: ByteRange, connection: Lent | None = None
) -> None:
    """Send a part of an open file with sendfile, over the *connection* where there is one.

    Else, and where it is small, the server finds the file's `fileno()` and does it.
    """
    if connection is None or part.length <= SMALL:
        file.seek(part.start)
        resp.set_stream(_Part(file, part.length), part.length)
        return
    resp.stream = unbroken(_Stored(file, part), part.length, connection)
    resp.content_length = part.length


def send_arriving(
    resp: falcon.Response,
    body: Iterator[Piece],
    length: int | None,
    connection: Lent | None = None,
) -> None:
    """Send what comes in; *length* in bytes, None when nobody knows it.

    What lies in a file goes straight to the *connection*, where there is one.
    """
    if length is None:
        resp.stream = unbroken(body, None, connection)
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
    connection: Lent | None = None,
) -> None:
    """Send several ranges as multipart/byteranges (RFC 9110, 14.6); *file* is closed after."""
    heads = [_head(part, size) for part in parts]
    tail = f"\r\n--{_BOUNDARY}--\r\n".encode()
    resp.content_type = f"multipart/byteranges; boundary={_BOUNDARY}"
    length = sum(map(len, heads)) + sum(part.length for part in parts) + len(tail)
    resp.content_length = length
    body = _multipart(read, list(zip(heads, parts, strict=True)), tail)
    resp.stream = unbroken(_closing(body, file) if file else body, length, connection)


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


def send_large(req: falcon.Request, resp: falcon.Response) -> None:
    """Let no client keep the thread that sends a body from memory, if that is large."""
    content = resp.data
    if content is None or len(content) <= SMALL:
        return
    connection: Lent | None = req.env.get(CONNECTION)
    if connection is not None and req.method != "HEAD":
        resp.data = None
        resp.stream = unbroken(iter([content]), len(content), connection)
        resp.content_length = len(content)


def unbroken(
    body: Iterator[Piece], length: int | None, connection: Lent | None = None
) -> Iterator[bytes]:
    """Pass a body on; where it ends before its *length*, drop the connection, and say so once.

    What is sent over the *connection* itself keeps no thread waiting for a slow client. Else the
    server frames what has no length.
    """
    if connection is not None and (length is not None or connection.has_chunks):
        return _Delivered(body, length, connection)
    return _passed(body, length)


class _Delivered(Iterator[bytes]):
    """Has the server send its head, with the first that it is given, and sends the body itself."""

    def __init__(self, body: Iterator[Piece], length: int | None, connection: Lent) -> None:
        self._body = body
        self._length = length
        self._connection = connection
        self._is_begun = self._is_over = False

    def __next__(self) -> bytes:
        if not self._is_begun:
            self._is_begun = True
            return b""
        if not self._is_over:
            self._is_over = True
            if self._length is None:
                self._connection.deliver_chunked(self._body)
            else:
                self._connection.deliver(self._body, self._length)
        raise StopIteration

    def close(self) -> None:
        """Close what the body comes from, unless somebody goes on with it."""
        close = getattr(self._body, "close", None)
        if not self._is_over and close is not None:
            close()


class _Stored(Iterator[Piece]):
    """A part of an open file as one piece; the file is closed after it."""

    def __init__(self, file: BinaryIO, part: ByteRange) -> None:
        self._pieces = pieces(file, part.start, part.stop)
        self.close = file.close

    def __next__(self) -> Piece:
        piece = next(self._pieces, None)
        if piece is None:
            self.close()
            raise StopIteration
        return piece


def _passed(body: Iterator[Piece], length: int | None) -> Generator[bytes, None, None]:
    try:
        yield from _whole(body, length)
    except (RegistryError, DatastoreError, OSError) as error:
        raise broken(error) from error


def _whole(body: Iterator[Piece], length: int | None) -> Generator[bytes, None, None]:
    came = 0
    for piece in in_bytes(body):
        came += len(piece)
        yield piece
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


_MADE_HERE = cache_status.neither()


class ResponseHeaders:
    """Falcon middleware: two headers on every answer, and no open file behind a HEAD's.

    A large body from memory is sent as a file is: no client keeps the thread that sends it.
    """

    def process_response(self, req: falcon.Request, resp: falcon.Response, *_: object) -> None:
        """Add what the resource did not say."""
        # clients take a registry without it for one of the first version
        resp.set_header("Docker-Distribution-Api-Version", "registry/2.0")
        if resp.get_header("Cache-Status") is None:
            resp.set_header("Cache-Status", _MADE_HERE)
        if req.method == "HEAD" and resp.stream is not None:
            _close(resp)
        elif resp.data is not None:
            send_large(req, resp)


def _close(resp: falcon.Response) -> None:
    """Close the body that Falcon will not send; its length stays announced."""
    close = getattr(resp.stream, "close", None)
    resp.stream = ()  # not None: that would announce a length of 0
    if close is not None:
        close()
