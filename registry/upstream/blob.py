"""Read the body of a blob response, and check the body's offset, length and end."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from entrepot.registry.errors import Unavailable, Why
from entrepot.registry.upstream.exchange import Exchange
from entrepot.registry.upstream.headers import content_length, content_range
from entrepot.registry.upstream.wire import ConnectionBroken, Response

_PARTIAL = 206


class HttpBlob:
    """An `HttpBlob` is the open body of a blob; the caller closes the *response*.

    A body with a content coding is decoded if *as_sent* is False; *seen* receives the bytes before
    they are decoded. *named* is the blob's size in bytes according to a manifest.

    Raises: Unavailable (NONSENSE) if the response does not match the requested range.
    """

    def __init__(
        self,
        exchange: Exchange,
        response: Response,
        start: int = 0,
        stop: int | None = None,
        *,
        as_sent: bool = False,
        seen: Callable[[bytes], None] = lambda _: None,
        named: int | None = None,
    ) -> None:
        self._exchange = exchange
        self._response = response
        self._as_sent = as_sent or not response.codings
        self._seen = seen
        self._named = named
        # The length of an encoded body is not the length of the blob.
        self._length = content_length(response.headers) if self._as_sent else None
        self._start, self._size = 0, self._length
        if response.status == _PARTIAL:
            self._start = start
            self._size = self._read_range(start, stop)

    @property
    def start(self) -> int:
        """Return the offset in the blob at which the response's body starts, in bytes."""
        return self._start

    @property
    def size(self) -> int | None:
        """Return the size of the whole blob in bytes, or None if the upstream did not send it."""
        return self._size

    @property
    def stop(self) -> int | None:
        """Return the offset in the blob at which the body ends (exclusive), or None if unknown."""
        return None if self._length is None else self._start + self._length

    def chunks(self) -> Iterator[bytes]:
        """Yield the pieces of the response's body, each as soon as it is received.

        Raises: Unavailable if the body is cut off, or if no byte arrives for `Exchange.stall`
        seconds. This time-out is short because another request can continue the download.
        """
        came = 0
        self._response.limit_read_time(self._exchange.stall)
        pieces = self._response.pieces(as_sent=self._as_sent, seen=self._seen, size=self._named)
        while piece := self._next(pieces):
            came += len(piece)
            yield piece
        if self._length is not None and came != self._length:
            host = self._exchange.host
            message = f"the response was cut off after {came} of {self._length} bytes"
            raise Unavailable(host, message, Why.REFUSED)

    def _next(self, pieces: Iterator[bytes]) -> bytes:
        try:
            return next(pieces, b"")
        except ConnectionBroken as error:
            raise self._exchange.broken(error) from error

    def _read_range(self, start: int, stop: int | None) -> int | None:
        """Compare Content-Range with the requested range; return the size of the blob in bytes.

        Raises: Unavailable (NONSENSE).
        """
        sent = content_range(self._response.headers)
        if sent is None:
            raise self._exchange.nonsense(
                "the upstream sent a part of the blob without a valid Content-Range"
            )
        within = sent.stop <= (sent.stop if stop is None else stop)
        length = sent.stop - sent.start
        if sent.start != start or not within or self._length not in (None, length):
            raise self._exchange.nonsense(
                "the upstream sent a different part of the blob than requested"
            )
        self._length = length
        return sent.size
