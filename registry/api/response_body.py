"""Send response bodies: files with sendfile, downloads in progress, and multipart ranges.

The middleware `ResponseHeaders` adds the headers that all responses have.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import BinaryIO

import falcon

from entrepot.datastore.errors import DatastoreError
from entrepot.registry.api import cache_status
from entrepot.registry.api.etags_and_ranges import ByteRange
from entrepot.registry.errors import RegistryError
from entrepot.registry.server.delivery import CONNECTION, LentConnection, broken
from entrepot.registry.server.fileslice import Piece, in_bytes, pieces

_CHUNK = 256 * 1024
_BOUNDARY = "entrepot-part"
OCTETS = "application/octet-stream"
SMALL = 64 * 1024
"""HAProxy and the kernel buffer a whole body up to this size in bytes, even for a slow client.

So a thread that sends such a body never waits for the client.
"""

Read = Callable[[int, int | None], Iterator[bytes]]


class _FilePart:
    """A `_FilePart` is the next *length* bytes of an open file.

    The WSGI server sends these bytes with sendfile and `fileno()`, or reads them.
    """

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file = file
        self._left = length
        self.fileno = file.fileno
        self.close = file.close

    def read(self, size: int | None = -1, /) -> bytes:
        """Return at most *size* bytes of the file; a negative *size* means all remaining bytes."""
        length = self._left if size is None or size < 0 else min(size, self._left)
        chunk = self._file.read(length)
        self._left -= len(chunk)
        return chunk


def send_file(
    resp: falcon.Response, file: BinaryIO, part: ByteRange, connection: LentConnection | None = None
) -> None:
    """Send a part of an open file with sendfile.

    A large part is sent directly over *connection*, the client's connection, which the WSGI server
    lends to the application. Without a connection, or for a small part, the WSGI server sends the
    file.
    """
    if connection is None or part.length <= SMALL:
        file.seek(part.start)
        resp.set_stream(_FilePart(file, part.length), part.length)
        return
    resp.stream = checked_stream(_FileBody(file, part), part.length, connection)
    resp.content_length = part.length


def send_stream(
    resp: falcon.Response,
    body: Iterator[Piece],
    length: int | None,
    connection: LentConnection | None = None,
) -> None:
    """Send a body that is still arriving; *length* is in bytes, or None if unknown.

    If *connection* is given, the body is sent directly over that connection.
    """
    if length is None:
        resp.stream = checked_stream(body, None, connection)
    else:
        resp.stream = checked_stream(body, length, connection)
        resp.content_length = length


def send_parts(
    resp: falcon.Response,
    read: Read,
    parts: list[ByteRange],
    size: int,
    *,
    file: BinaryIO | None = None,
    connection: LentConnection | None = None,
) -> None:
    """Send several ranges as multipart/byteranges (RFC 9110, 14.6), then close *file*."""
    heads = [_head(part, size) for part in parts]
    tail = f"\r\n--{_BOUNDARY}--\r\n".encode()
    resp.content_type = f"multipart/byteranges; boundary={_BOUNDARY}"
    length = sum(map(len, heads)) + sum(part.length for part in parts) + len(tail)
    resp.content_length = length
    body = _multipart(read, list(zip(heads, parts, strict=True)), tail)
    resp.stream = checked_stream(_closing_file(body, file) if file else body, length, connection)


def read_file(file: BinaryIO) -> Read:
    """Return a function that reads parts of an open file."""

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


def send_large_body(req: falcon.Request, resp: falcon.Response) -> None:
    """Send a large body from memory over the connection, so that a slow client blocks no thread."""
    content = resp.data
    if content is None or len(content) <= SMALL:
        return
    connection: LentConnection | None = req.env.get(CONNECTION)
    if connection is not None and req.method != "HEAD":
        resp.data = None
        resp.stream = checked_stream(iter([content]), len(content), connection)
        resp.content_length = len(content)


def checked_stream(
    body: Iterator[Piece], length: int | None, connection: LentConnection | None = None
) -> Iterator[bytes]:
    """Return the body as a stream that drops the connection if the body is shorter than *length*.

    The worker writes one log line about a body that is too short. If *connection* is given, the
    body is sent directly over that connection, so that a slow client blocks no thread. Without a
    *connection*, the WSGI server sends the body, in chunks if *length* is None.
    """
    if connection is not None and (length is not None or connection.has_chunks):
        return _DeliveredBody(body, length, connection)
    return _passed_on(body, length)


class _DeliveredBody(Iterator[bytes]):
    """A `_DeliveredBody` is sent over the client's connection directly, not by the WSGI server.

    The body's first item is empty, which makes the WSGI server send the header section. When the
    server requests the next item, the iterator sends the body.
    """

    def __init__(
        self, body: Iterator[Piece], length: int | None, connection: LentConnection
    ) -> None:
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
        """Close the body if it has not been sent; otherwise the connection closes the body."""
        close = getattr(self._body, "close", None)
        if not self._is_over and close is not None:
            close()


class _FileBody(Iterator[Piece]):
    """A `_FileBody` yields a part of an open file as one piece, then closes the file."""

    def __init__(self, file: BinaryIO, part: ByteRange) -> None:
        self._pieces = pieces(file, part.start, part.stop)
        self.close = file.close

    def __next__(self) -> Piece:
        piece = next(self._pieces, None)
        if piece is None:
            self.close()
            raise StopIteration
        return piece


def _passed_on(body: Iterator[Piece], length: int | None) -> Generator[bytes, None, None]:
    try:
        yield from _length_checked(body, length)
    except (RegistryError, DatastoreError, OSError) as error:
        raise broken(error) from error


def _length_checked(body: Iterator[Piece], length: int | None) -> Generator[bytes, None, None]:
    sent = 0
    for piece in in_bytes(body):
        sent += len(piece)
        yield piece
    if length is not None and sent < length:
        raise OSError(f"the body ended after {sent} of {length} bytes")


def _closing_file(body: Iterator[bytes], file: BinaryIO) -> Iterator[bytes]:
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


_GENERATED = cache_status.neither()


class ResponseHeaders:
    """A `ResponseHeaders` is Falcon middleware that adds two headers to each response.

    It closes the file of a response to HEAD, which has no body. It sends a large body from memory
    directly over the connection, so that a slow client blocks no thread.
    """

    def process_response(self, req: falcon.Request, resp: falcon.Response, *_: object) -> None:
        """Add the common headers that the resource did not set."""
        # Without the header Docker-Distribution-Api-Version, clients assume version 1 of the
        # registry API.
        resp.set_header("Docker-Distribution-Api-Version", "registry/2.0")
        if resp.get_header("Cache-Status") is None:
            resp.set_header("Cache-Status", _GENERATED)
        if req.method == "HEAD" and resp.stream is not None:
            _close_stream(resp)
        elif resp.data is not None:
            send_large_body(req, resp)


def _close_stream(resp: falcon.Response) -> None:
    """Close a response body that Falcon will not send; Content-Length keeps its value."""
    close = getattr(resp.stream, "close", None)
    resp.stream = ()  # The value None for the body would make Falcon set Content-Length to 0.
    if close is not None:
        close()
