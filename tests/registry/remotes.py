"""Simulate a blob at an upstream without a network.

The test decides when the bytes of the blob's body arrive.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from entrepot.registry.download.sources import Limits
from entrepot.registry.errors import Unavailable, Why

QUICK = Limits(silence=0.5, first_pause=0.01, longest_pause=0.05)
"""Tests can wait for the end of this short patience of a download."""


@dataclass
class FakeBody:
    """A `FakeBody` is an open body from `start` on, which breaks off at `breaks_at`."""

    remote: FakeRemote
    start: int
    breaks_at: int | None
    end: int | None = None

    @property
    def stop(self) -> int | None:
        """Return the end of the body in the blob."""
        if self.end is None:
            return self.size
        return min(self.end, len(self.remote.content))

    @property
    def size(self) -> int | None:
        """Return the size of the whole blob at the upstream."""
        return len(self.remote.content) if self.remote.tells_size else None

    def chunks(self) -> Iterator[bytes]:
        """Yield the body in pieces, each when the test permits it."""
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
    """A blob at an upstream; `starts` has the start of each request, in order.

    `until` holds back the bytes of the blob from that offset on. `breaks` are the offsets at which
    the first, second, ... connection breaks off. `refusals` are raised in place of a body, one per
    request. `most` is the longest range that is sent in full. `held` is the number of open
    connections to the blob.
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
        """Open the blob at the upstream from *start* to *stop*."""
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
        """Permit the bytes of the body up to *until*; None permits all."""
        with self._news:
            self.until = until
            self._news.notify_all()

    def allow(self, at: int) -> None:
        """Wait until the test permits the byte at *at*."""
        with self._news:
            if not self._news.wait_for(lambda: self.until is None or at < self.until, 20):
                raise TimeoutError("the test never let the body through")
