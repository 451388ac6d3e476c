"""Simulate a blob at an upstream without a network.

The test decides when the bytes of the blob arrive.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from entrepot.registry.download.sources import Limits
from entrepot.registry.errors import Unavailable, Why

QUICK = Limits(silence=0.5, first_pause=0.01, longest_pause=0.05)
"""Short time limits in seconds: a download that receives no byte fails after half a second."""


@dataclass
class FakeBody:
    """A response body that begins at the offset `start` of the blob.

    The connection breaks when the body reaches the offset `breaks_at`, unless that is None.
    """

    remote: FakeRemote
    start: int
    breaks_at: int | None
    end: int | None = None

    @property
    def stop(self) -> int | None:
        """Return the offset in the blob at which the body ends (exclusive)."""
        if self.end is None:
            return self.size
        return min(self.end, len(self.remote.content))

    @property
    def size(self) -> int | None:
        """Return the size of the whole blob, or None if the upstream does not state a length."""
        return len(self.remote.content) if self.remote.tells_size else None

    def chunks(self) -> Iterator[bytes]:
        """Yield the body in pieces; each piece waits until the test permits its first byte."""
        at, end = self.start, self.stop or len(self.remote.content)
        while at < end:
            self.remote.allow(at)
            stop = min(at + self.remote.piece, end)
            if self.breaks_at is not None and stop > self.breaks_at:
                raise Unavailable("fake", "broke off", Why.NONSENSE)
            yield self.remote.content[at:stop]
            at = stop


@dataclass
class FakeRemote:
    """A blob at an upstream; `starts` lists the start offset of each request in order.

    The upstream sends only the bytes before the offset `until`, which the test can raise. `breaks`
    lists the offsets at which the first, second, ... connection breaks. Each request removes the
    first exception of `refusals` and raises it. `most` is the length, in bytes, of the longest
    range that the upstream sends in full. `held` is the number of open connections.
    """

    content: bytes
    piece: int = 1000
    tells_size: bool = True
    takes_ranges: bool = True
    breaks: list[int] = field(default_factory=list)
    refusals: list[Exception] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    until: int | None = None
    most: int | None = None
    held: int = 0
    _news: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def fetch(self, start: int, stop: int | None = None) -> Iterator[FakeBody]:
        """Yield the body of a response with the bytes from *start* to *stop* (exclusive)."""
        self.starts.append(start)
        if self.refusals:
            raise self.refusals.pop(0)
        breaks_at = self.breaks.pop(0) if self.breaks else None
        if not self.takes_ranges:
            start, stop = 0, None
        elif self.most and (start or stop):
            stop = min(stop or len(self.content), start + self.most)
        self.held += 1
        try:
            yield FakeBody(self, start, breaks_at, stop)
        finally:
            self.held -= 1

    def let(self, until: int | None) -> None:
        """Permit the upstream to send the bytes before the offset *until*; None permits all."""
        with self._news:
            self.until = until
            self._news.notify_all()

    def allow(self, at: int) -> None:
        """Wait, for at most 20 s, until the test permits the byte at offset *at*."""
        with self._news:
            if not self._news.wait_for(lambda: self.until is None or at < self.until, 20):
                raise TimeoutError("the test has not permitted the byte within 20 s")
