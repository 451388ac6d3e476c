"""Bodies on their way in: read from the server as they come, never held whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import falcon

from entrepot.registry.api.etags_and_ranges import ByteRange
from entrepot.registry.errors import BodyBroken, BodyTooSlow
from entrepot.registry.server.delivery import CONNECTION, BodyProgress, Lent

_CHUNK = 256 * 1024
# A read waits until it has all it asked for: the first ones ask for less, so that how fast a body
# comes is known soon.
_FIRST_CHUNK = 16 * 1024
_FIRST = 256 * 1024  # bytes
_WITH_BODY = frozenset({"PATCH", "POST", "PUT"})
# How long the rest of a body that is not wanted is read, in s: for clients that are known, others.
_DRAINED_S = 10.0
_DRAINED_OF_STRANGERS_S = 2.0


class Readable(Protocol):
    """What a WSGI server gives to read a body from."""

    def read(self, size: int, /) -> bytes:
        """Return *size* bytes, fewer only at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request's body: `length` bytes, None when the client has not said.

    Where it comes over a `connection` that is lent, it is watched over: while others wait, one that
    is slow is ended.
    """

    stream: Readable
    length: int | None
    connection: Lent | None = None

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it comes.

        Raises: BodyBroken when it ends too early, BodyTooSlow when it was ended.
        """
        with self._watched() as watched:
            yield from self._chunks(watched)

    def _watched(self) -> AbstractContextManager[BodyProgress]:
        if self.connection is None or self.connection.after is None:
            return nullcontext(_Unwatched())
        return self.connection.after.receiving(self.connection.socket)

    def _chunks(self, watched: BodyProgress) -> Iterator[bytes]:
        left = self.length
        while left is None or left > 0:
            most = _FIRST_CHUNK if watched.received < _FIRST else _CHUNK
            chunk = self._read(most if left is None else min(most, left))
            if watched.is_cut:
                raise BodyTooSlow("the body came too slowly while others waited")
            if not chunk and left is None:
                return
            if not chunk:
                raise BodyBroken(f"the body ended {left} bytes too early")
            left = None if left is None else left - len(chunk)
            watched.received += len(chunk)
            yield chunk

    def _read(self, size: int) -> bytes:
        try:
            return self.stream.read(size)
        except Exception as error:  # each server has its own for a body that breaks
            raise BodyBroken(f"the body broke off: {error}") from error


@dataclass(slots=True)
class _Unwatched:
    """A body that nobody watches over."""

    received: int = 0
    is_cut: bool = False


def body(req: falcon.Request, part: ByteRange | None = None) -> Incoming:
    """Return the body of a request, which is *part* of something if that was said.

    Raises: BodyBroken when that is not as long as the body.
    """
    length = _length(req)
    if part and length and part.length != length:
        raise BodyBroken(f"Content-Range has {part.length} bytes, Content-Length {length}")
    if part and length is None:
        length = part.length
    return Incoming(_stream(req), length, req.env.get(CONNECTION))


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


def let_finish(req: falcon.Request) -> None:
    """Have what a client still sends read for a while, after the answer and by no thread.

    It would be cut off in the middle of its body otherwise, and most then read no answer: they
    have to be told why before the connection ends.
    """
    connection: Lent | None = req.env.get(CONNECTION)
    if connection is not None:
        identity = getattr(req.context, "identity", None)
        is_known = identity is not None and "push" in identity.rights
        connection.drain_s = _DRAINED_S if is_known else _DRAINED_OF_STRANGERS_S


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
