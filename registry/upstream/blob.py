"""A blob as it comes in: where it begins, how long it is, and whether all of it came."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from entrepot.registry.errors import Unavailable, Why
from entrepot.registry.upstream.exchange import Exchange
from entrepot.registry.upstream.headers import content_length, content_range
from entrepot.registry.upstream.wire import Answer, ConnectionBroken

_PARTIAL = 206


class HttpBlob:
    """The open body of a blob, over an answer that whoever opened it closes.

    A body with a coding is decoded, unless *as_sent*; *seen* is called with what is decoded;
    *named* is the blob's size in bytes, as a manifest names it.

    Raises: Unavailable (NONSENSE) when the answer is no answer to that range.
    """

    def __init__(
        self,
        exchange: Exchange,
        answer: Answer,
        start: int = 0,
        stop: int | None = None,
        *,
        as_sent: bool = False,
        seen: Callable[[bytes], None] = lambda _: None,
        named: int | None = None,
    ) -> None:
        self._exchange = exchange
        self._answer = answer
        self._as_sent = as_sent or not answer.codings
        self._seen = seen
        self._named = named
        # the length of a coded body is not the blob's
        self._length = content_length(answer.headers) if self._as_sent else None
        self._start, self._size = 0, self._length
        if answer.status == _PARTIAL:
            self._start = start
            self._size = self._read_range(start, stop)

    @property
    def start(self) -> int:
        """Where the body begins in the blob."""
        return self._start

    @property
    def size(self) -> int | None:
        """How long the whole blob is."""
        return self._size

    @property
    def stop(self) -> int | None:
        """Where the body ends in the blob (exclusive)."""
        return None if self._length is None else self._start + self._length

    def chunks(self) -> Iterator[bytes]:
        """Yield what the socket has, as soon as it has it.

        Raises: Unavailable when it breaks off, or stands still while another request may go on.
        """
        came = 0
        self._answer.expect_bytes_within(self._exchange.stall)
        pieces = self._answer.pieces(as_sent=self._as_sent, seen=self._seen, size=self._named)
        while piece := self._next(pieces):
            came += len(piece)
            yield piece
        if self._length is not None and came != self._length:
            host = self._exchange.host
            message = f"it broke off after {came} of {self._length} bytes"
            raise Unavailable(host, message, Why.REFUSED)

    def _next(self, pieces: Iterator[bytes]) -> bytes:
        try:
            return next(pieces, b"")
        except ConnectionBroken as error:
            raise self._exchange.broken(error) from error

    def _read_range(self, start: int, stop: int | None) -> int | None:
        """Hold Content-Range against what was asked for; return the size of the whole."""
        sent = content_range(self._answer.headers)
        if sent is None:
            raise self._exchange.nonsense("a part of a blob without its range")
        within = sent.stop <= (sent.stop if stop is None else stop)
        length = sent.stop - sent.start
        if sent.start != start or not within or self._length not in (None, length):
            raise self._exchange.nonsense("another part of the blob than was asked for")
        self._length = length
        return sent.size
