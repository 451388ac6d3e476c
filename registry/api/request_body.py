"""Read request bodies in chunks as they arrive, without holding a whole body in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import falcon

from entrepot.registry.api.etags_and_ranges import ByteRange
from entrepot.registry.errors import BodyBroken, BodyTooSlow
from entrepot.registry.server.delivery import CONNECTION, BodyProgress, LentConnection

_CHUNK = 256 * 1024
# A read of gunicorn's stream blocks until gunicorn has all requested bytes. The first reads of a
# body are smaller, so that the worker soon knows the rate of a slow body.
_FIRST_CHUNK = 16 * 1024
_FIRST_BYTES = 256 * 1024  # The body is read in small chunks up to this offset.
_WITH_BODY = frozenset({"PATCH", "POST", "PUT"})
# If the worker responds before it has read the whole body, it discards the rest of the body for up
# to this many seconds. `_DRAINED_S` is for clients with the right to push, and
# `_DRAINED_ANONYMOUS_S` is for all other clients.
_DRAINED_S = 10.0
_DRAINED_ANONYMOUS_S = 2.0


class Readable(Protocol):
    """A `Readable` is the stream of a request body in a WSGI server."""

    def read(self, size: int, /) -> bytes:
        """Return *size* bytes, or fewer bytes at the end of the body."""
        ...


@dataclass(frozen=True, slots=True)
class RequestBody:
    """A `RequestBody` has `length` bytes; `length` is None if the client announced none.

    `connection` is the client's connection; if it is None, the connection poller
    (registry/server/connection_poller.py) does not watch the body. If the worker receives more than
    `ConnectionLimits.bodies` bodies at the same time, the connection poller aborts slow bodies.
    """

    stream: Readable
    length: int | None
    connection: LentConnection | None = None

    def chunks(self) -> Iterator[bytes]:
        """Yield the pieces of the request body as they arrive.

        Raises: BodyBroken if the body ends too early, BodyTooSlow if the connection poller aborted
        the body.
        """
        with self._progress() as progress:
            yield from self._chunks(progress)

    def _progress(self) -> AbstractContextManager[BodyProgress]:
        if self.connection is None or self.connection.poller is None:
            return nullcontext(_UnwatchedBody())
        return self.connection.poller.watch_body(self.connection.socket)

    def _chunks(self, progress: BodyProgress) -> Iterator[bytes]:
        left = self.length
        while left is None or left > 0:
            size = _FIRST_CHUNK if progress.received < _FIRST_BYTES else _CHUNK
            chunk = self._read(size if left is None else min(size, left))
            if progress.is_cut:
                raise BodyTooSlow(
                    "the body was sent too slowly while too many other bodies were being received"
                )
            if not chunk and left is None:
                return
            if not chunk:
                raise BodyBroken(f"the body ended {left} bytes too early")
            left = None if left is None else left - len(chunk)
            progress.received += len(chunk)
            yield chunk

    def _read(self, size: int) -> bytes:
        try:
            return self.stream.read(size)
        except Exception as error:  # Each WSGI server raises its own types of exception.
            raise BodyBroken(f"reading the body failed: {error}") from error


@dataclass(slots=True)
class _UnwatchedBody:
    """An `_UnwatchedBody` counts a body's bytes; the connection poller does not watch the body."""

    received: int = 0
    is_cut: bool = False


def body(req: falcon.Request, part: ByteRange | None = None) -> RequestBody:
    """Return the body of a request; *part* is the request's Content-Range, or None.

    Raises: BodyBroken if the length in Content-Range differs from the body's length.
    """
    length = _length(req)
    if part and length and part.length != length:
        raise BodyBroken(f"Content-Range has {part.length} bytes, but Content-Length is {length}")
    if part and length is None:
        length = part.length
    return RequestBody(_stream(req), length, req.env.get(CONNECTION))


def read_small(req: falcon.Request, largest: int) -> bytes | None:
    """Return a body of at most *largest* bytes, or None if the body is larger.

    Raises: BodyBroken.
    """
    received = body(req)
    if received.length is not None and received.length > largest:
        return None
    read = bytearray()
    for chunk in received.chunks():
        read += chunk
        if len(read) > largest:
            return None
    return bytes(read)


def may_still_be_sending(req: falcon.Request) -> bool:
    """Return whether the client may still be sending its request body."""
    return req.method in _WITH_BODY and _length(req) != 0


def drain_after_response(req: falcon.Request) -> None:
    """Let the connection poller read the rest of the request body for a while after the response.

    If the worker closed the connection in the middle of the request body, most clients would not
    read the response, which contains the reason for the rejection.
    """
    connection: LentConnection | None = req.env.get(CONNECTION)
    if connection is not None:
        identity = getattr(req.context, "identity", None)
        is_known = identity is not None and "push" in identity.rights
        connection.drain_s = _DRAINED_S if is_known else _DRAINED_ANONYMOUS_S


def _stream(req: falcon.Request) -> Readable:
    """Return the stream of the request's body; the stream ends where the body ends."""
    if req.content_length is not None:
        return req.bounded_stream
    stream: Readable = req.env["wsgi.input"]
    return stream


def _length(req: falcon.Request) -> int | None:
    """Return the length of a request body in bytes, or None for a chunked body."""
    if req.content_length is not None:
        return req.content_length
    ends_itself = req.env.get("wsgi.input_terminated") or "HTTP_TRANSFER_ENCODING" in req.env
    return None if ends_itself else 0
