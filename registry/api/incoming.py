"""Bodies on their way in: read from the server as they come, never held whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import falcon

from registry.api.ranges import ByteRange
from registry.errors import BodyBroken

_CHUNK = 256 * 1024
_WITH_BODY = frozenset({"PATCH", "POST", "PUT"})
# What is read of a body that is not wanted: bytes, s.
_DRAINED = 256 * 1024 * 1024
_DRAINING_S = 10.0


class Readable(Protocol):
    """What a WSGI server gives to read a body from."""

    def read(self, size: int, /) -> bytes:
        """Return *size* bytes, fewer only at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request's body: `length` bytes, None when the client has not said."""

    stream: Readable
    length: int | None

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it comes. Raises: BodyBroken when it ends too early."""
        left = self.length
        while left is None or left > 0:
            chunk = self._read(_CHUNK if left is None else min(_CHUNK, left))
            if not chunk and left is None:
                return
            if not chunk:
                raise BodyBroken(f"the body ended {left} bytes too early")
            left = None if left is None else left - len(chunk)
            yield chunk

    def _read(self, size: int) -> bytes:
        try:
            return self.stream.read(size)
        except Exception as error:  # each server has its own for a body that breaks
            raise BodyBroken(f"the body broke off: {error}") from error


def body(req: falcon.Request, part: ByteRange | None = None) -> Incoming:
    """Return the body of a request, which is *part* of something if that was said.

    Raises: BodyBroken when that is not as long as the body.
    """
    length = _length(req)
    if part and length and part.length != length:
        raise BodyBroken(f"Content-Range has {part.length} bytes, Content-Length {length}")
    if part and length is None:
        length = part.length
    return Incoming(_stream(req), length)


def small(req: falcon.Request, largest: int) -> bytes | None:
    """Return a body of at most *largest* bytes; None when it is larger. Raises: BodyBroken."""
    incoming = body(req)
    if incoming.length is not None and incoming.length > largest:
        return None
    read = bytearray()
    for chunk in incoming.chunks():
        read += chunk
        if len(read) > largest:
            return None
    return bytes(read)


def awaits_more(req: falcon.Request) -> bool:
    """Whether a client may still be sending."""
    return req.method in _WITH_BODY and _length(req) != 0


def drained(req: falcon.Request, answer: bytes) -> Iterator[bytes]:
    """Yield the answer, then read what the client still sends, for a while.

    It would be cut off in the middle of its body otherwise, and most then read no answer: they
    have to be told why before the connection ends.
    """
    yield answer
    stream, left, deadline = _stream(req), _DRAINED, time.monotonic() + _DRAINING_S
    with suppress(Exception):  # it has gone: so much the better
        while left > 0 and time.monotonic() < deadline and (chunk := stream.read(_CHUNK)):
            left -= len(chunk)


def _stream(req: falcon.Request) -> Readable:
    """Return what to read a body from, and no further than its end."""
    if req.content_length is not None:
        return req.bounded_stream
    stream: Readable = req.env["wsgi.input"]
    return stream


def _length(req: falcon.Request) -> int | None:
    """Return how many bytes there are, None for a body that tells its end by itself."""
    if req.content_length is not None:
        return req.content_length
    ends_itself = req.env.get("wsgi.input_terminated") or "HTTP_TRANSFER_ENCODING" in req.env
    return None if ends_itself else 0
