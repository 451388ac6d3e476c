"""A large blob in several ranges at once, put back in order while it comes in.

One connection to a far registry is slow, several are not. What runs ahead waits in memory, at most
a segment for each lane, so that the spool file stays a growing front of the blob.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from registry.errors import Unavailable
from registry.remote import RemoteBlob
from registry.verified import Fetch, resumed, until

SEGMENT = 8 * 1024 * 1024
"""Bytes that one request asks for, at most."""

_BLOBS = 3  # with all of their lanes at a time: a client asks for so many
_WAIT_S = 0.2


@dataclass(frozen=True, slots=True)
class Share:
    """`lanes` of one blob; all but the first need a permit for each segment that runs ahead."""

    lanes: int
    permits: threading.Semaphore


class Lanes:
    """How many connections a large blob comes in over, and an upstream's in all, in this worker.

    One for each blob, and so many more as are permits, each with a segment in memory.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._permits: dict[str, threading.Semaphore] = {}
        self._lock = threading.Lock()

    def share(self, upstream: str) -> Share:
        """Return what a blob of this upstream may use."""
        with self._lock:
            if upstream not in self._permits:
                self._permits[upstream] = threading.Semaphore(_BLOBS * (self.most - 1))
            return Share(self.most, self._permits[upstream])


@dataclass(frozen=True, slots=True)
class Span:
    """What is missing of a blob: from `start` to its end at `size`, both in bytes."""

    start: int
    size: int

    def segments(self, lanes: int) -> list[tuple[int, int]]:
        """Divide it into pairs of start and stop, so that all lanes end at about the same time."""
        missing = self.size - self.start
        rounds = -(-missing // (SEGMENT * lanes))
        each = -(-missing // (rounds * lanes))
        return [(at, min(at + each, self.size)) for at in range(self.start, self.size, each)]


def in_lanes(
    fetch: Fetch, span: Span, share: Share, opened: Callable[[RemoteBlob], None]
) -> Iterator[bytes]:
    """Yield what is missing, in order, over as many connections as there are lanes and permits.

    No byte is asked for twice. An upstream that does not do such ranges, or knows another size,
    goes on in one stream. *opened* is told of the first answer. Raises: UpstreamError.
    """
    (start, stop), *others = span.segments(share.lanes)
    end: int | None = stop
    begun = b""

    def first(remote: RemoteBlob) -> None:
        nonlocal end
        if not begun and (remote.stop != stop or remote.size not in (None, span.size)):
            end = None  # from now on all the rest, also where the next connection does ranges
        opened(remote)

    head = resumed(fetch, start, first, lambda: end)
    begun = next(head, b"")
    if end is None:
        yield begun
        yield from head
        return
    with _Ahead(fetch, others, share) as ahead:
        yield begun
        yield from until(head, stop - start - len(begun))
        yield from ahead.chunks()


@dataclass(slots=True, eq=False)
class _Segment:
    """A part: when it comes in a lane its chunks, then None, or what went wrong."""

    start: int
    stop: int
    is_taken: bool = False
    came: queue.SimpleQueue[bytes | Exception | None] = field(default_factory=queue.SimpleQueue)


class _Ahead:
    """Fetches segments in order, as many at a time as there are lanes, until it is left.

    Whoever reads them is one of the lanes: of each round the first is his. What no other lane has
    taken he fetches too: without a permit, without a thread even, nothing but speed is lost.
    """

    def __init__(self, fetch: Fetch, parts: list[tuple[int, int]], share: Share) -> None:
        self._fetch = fetch
        self._segments = [_Segment(start, stop) for start, stop in parts]
        theirs = [each for at, each in enumerate(self._segments, 1) if at % share.lanes]
        self._waiting = deque(theirs)
        self._lock = threading.Lock()
        self._lanes = min(share.lanes - 1, len(theirs))
        self._window = threading.Semaphore(self._lanes)
        self._permits = share.permits
        self._permitted = 0
        self._left = threading.Event()

    def __enter__(self) -> Self:
        with suppress(RuntimeError):  # no thread is left
            for _ in range(self._lanes):
                threading.Thread(target=self._lane, name="lane", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._left.set()
            while self._permitted:
                self._give_back()

    def chunks(self) -> Iterator[bytes]:
        """Yield all segments, one after the other. Raises: UpstreamError."""
        for segment in self._segments:
            if self._takes(segment):
                yield from self._body(segment.start, segment.stop)
            else:
                yield from self._from_lane(segment)

    def _takes(self, segment: _Segment) -> bool:
        """Take a segment, unless a lane has."""
        with self._lock:
            if segment.is_taken:
                return False
            with suppress(ValueError):
                self._waiting.remove(segment)
            return True

    def _body(self, start: int, stop: int) -> Iterator[bytes]:
        return until(resumed(self._fetch, start, bound=lambda: stop), stop - start)

    def _from_lane(self, segment: _Segment) -> Iterator[bytes]:
        """Yield what a lane brings; where the upstream lets it down, fetch the rest ourselves."""
        at = segment.start
        while isinstance(item := segment.came.get(), bytes):
            at += len(item)
            yield item
        with self._lock:
            self._give_back()
        self._window.release()
        if isinstance(item, Unavailable):
            yield from self._body(at, segment.stop)
        elif item is not None:
            raise item

    def _give_back(self) -> None:
        self._permitted -= 1
        self._permits.release()

    # ---- in a lane

    def _lane(self) -> None:
        while self._waiting and not self._left.is_set():
            if not self._window.acquire(timeout=_WAIT_S):
                continue
            segment = self._next()
            if segment:
                self._fill(segment)
            else:
                self._window.release()

    def _next(self) -> _Segment | None:
        """Take the next segment, with a permit; None when there is either none for a while."""
        if not self._permits.acquire(timeout=_WAIT_S):
            return None
        with self._lock:
            self._permitted += 1
            if not self._waiting or self._left.is_set():
                self._give_back()
                return None
            segment = self._waiting.popleft()
            segment.is_taken = True
            return segment

    def _fill(self, segment: _Segment) -> None:
        try:
            for chunk in self._body(segment.start, segment.stop):
                if self._left.is_set():
                    return
                segment.came.put(chunk)
            segment.came.put(None)
        except Exception as error:  # noqa: BLE001 - raised where the segment is waited for
            with self._lock:
                self._waiting.clear()  # an upstream may not take so many of us at a time
            segment.came.put(error)
