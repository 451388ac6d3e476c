"""A large blob in several ranges at once, put back in order while it comes in.

One connection to a far registry is slow, several are not. What runs ahead waits in memory, at most
a segment for each lane, so that the spool file stays a growing front of the blob.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from entrepot.registry.download.resume import once, resumed, until
from entrepot.registry.download.sources import Sources
from entrepot.registry.errors import Denied, UpstreamError
from entrepot.registry.upstream.protocol import RemoteBlob

SEGMENT = 8 * 1024 * 1024
"""Bytes that one request asks for, at most."""

_BLOBS = 3  # with all of their lanes at a time: a client asks for so many
_WAIT_S = 0.2


@dataclass(frozen=True, slots=True)
class ConnectionBudget:
    """`lanes` of one blob; all but the first need a permit for each segment that runs ahead."""

    lanes: int
    permits: threading.Semaphore


class ParallelLimits:
    """How many connections a large blob comes in over, and an upstream's in all, in this worker.

    One for each blob, and so many more as are permits, each with a segment in memory.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._permits: dict[str, threading.Semaphore] = {}
        self._lock = threading.Lock()

    def share(self, upstream: str) -> ConnectionBudget:
        """Return what a blob of this upstream may use."""
        with self._lock:
            if upstream not in self._permits:
                self._permits[upstream] = threading.Semaphore(_BLOBS * (self.most - 1))
            return ConnectionBudget(self.most, self._permits[upstream])


@dataclass(frozen=True, slots=True)
class MissingRange:
    """What is missing of a blob: from `start` to its end at `size`, both in bytes."""

    start: int
    size: int

    def division(self, lanes: int) -> PartList:
        """Divide it so that all lanes end at about the same time.

        `size` may be any number that a manifest claims: the cost does not depend on it.
        """
        missing = self.size - self.start
        rounds = -(-missing // (SEGMENT * lanes))
        return PartList(self.start, self.size, -(-missing // (rounds * lanes)))


@dataclass(frozen=True, slots=True)
class PartList:
    """The parts of a span, computed when they are asked for; all but the last of `each` bytes."""

    start: int
    size: int
    each: int

    @property
    def count(self) -> int:
        """How many parts there are."""
        return -(-(self.size - self.start) // self.each)

    def part(self, number: int) -> tuple[int, int]:
        """Return start and stop (exclusive) of a part, of which the first is number 0."""
        start = self.start + number * self.each
        return start, min(start + self.each, self.size)


def in_lanes(
    sources: Sources,
    span: MissingRange,
    share: ConnectionBudget,
    opened: Callable[[RemoteBlob], None],
) -> Iterator[bytes]:
    """Yield what is missing, in order, over as many connections as there are lanes and permits.

    No byte is asked for twice. An upstream that does not do such ranges, or knows another size,
    goes on in one stream. *opened* is told of the first answer. Raises: UpstreamError.
    """
    division = span.division(share.lanes)
    start, stop = division.part(0)
    end: int | None = stop
    begun = b""

    def first(remote: RemoteBlob) -> None:
        nonlocal end
        if not begun and (remote.stop != stop or remote.size not in (None, span.size)):
            end = None  # from now on all the rest, also where the next connection does ranges
        opened(remote)

    head = resumed(sources, start, first, lambda: end)
    begun = next(head, b"")
    if end is None:
        yield begun
        yield from head
        return
    with _Ahead(sources, division, share) as ahead:
        yield begun
        yield from until(head, stop - start - len(begun))
        yield from ahead.chunks()


@dataclass(slots=True, eq=False)
class _Segment:
    """A part that a lane fetches: its chunks as they come in, then None, or what went wrong."""

    start: int
    stop: int
    came: queue.SimpleQueue[bytes | Exception | None] = field(default_factory=queue.SimpleQueue)


class _Ahead:
    """Fetches the parts behind the first, as many at a time as there are lanes, until it is left.

    The reader is one of the lanes: it fetches the first part of each round, and every part that no
    other lane has taken. Without a permit, or without a thread, only speed is lost. What is held in
    memory is one segment for each lane, however many parts there are.
    """

    def __init__(self, sources: Sources, division: PartList, share: ConnectionBudget) -> None:
        self._sources = sources
        self._division = division
        self._count = division.count
        self._round = share.lanes
        self._next = 1  # the first part that neither the reader nor a lane has taken
        self._taken: dict[int, _Segment] = {}
        self._lock = threading.Lock()
        self._lanes = min(share.lanes, self._count) - 1
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
        """Yield all parts but the first, one after the other. Raises: UpstreamError."""
        number = 1
        while number < self._count:
            segment = self._taken_by_a_lane(number)
            if segment is None:
                start, stop = self._division.part(number)
                yield from self._body(start, stop)
            else:
                yield from self._from_lane(segment)
            number += 1

    def _taken_by_a_lane(self, number: int) -> _Segment | None:
        """Return the segment of a part; None, and the reader has it, unless a lane has it."""
        with self._lock:
            segment = self._taken.pop(number, None)
            if segment is None:
                self._next = max(self._next, number + 1)
            return segment

    def _body(self, start: int, stop: int) -> Iterator[bytes]:
        return until(resumed(self._sources, start, bound=lambda: stop), stop - start)

    def _from_lane(self, segment: _Segment) -> Iterator[bytes]:
        """Yield what a lane brings; where the upstream lets it down, fetch the rest ourselves."""
        at = segment.start
        while isinstance(item := segment.came.get(), bytes):
            at += len(item)
            yield item
        with self._lock:
            self._give_back()
        self._window.release()
        if item is not None and not isinstance(item, UpstreamError):
            raise item
        if at < segment.stop:
            yield from self._body(at, segment.stop)

    def _give_back(self) -> None:
        self._permitted -= 1
        self._permits.release()

    # ---- in a lane

    def _lane(self) -> None:
        while self._lanes_next() < self._count and not self._left.is_set():
            if not self._window.acquire(timeout=_WAIT_S):
                continue
            segment = self._take()
            if segment:
                self._fill(segment)
            else:
                self._window.release()

    def _lanes_next(self) -> int:
        """Return the next part that a lane may take: each round's first is the reader's own."""
        return self._next + 1 if self._next % self._round == 0 else self._next

    def _take(self) -> _Segment | None:
        """Take the next part, with a permit; None when there is either none for a while."""
        if not self._permits.acquire(timeout=_WAIT_S):
            return None
        with self._lock:
            self._permitted += 1
            number = self._lanes_next()
            if number >= self._count or self._left.is_set():
                self._give_back()
                return None
            segment = self._taken[number] = _Segment(*self._division.part(number))
            self._next = number + 1
            return segment

    def _fill(self, segment: _Segment) -> None:
        try:
            for chunk in once(self._sources, segment.start, segment.stop):
                if self._left.is_set():
                    return
                segment.came.put(chunk)
            segment.came.put(None)
        except Exception as error:  # noqa: BLE001 - raised where the segment is waited for
            if isinstance(error, Denied):  # the upstream takes no further connection
                with self._lock:
                    self._next = self._count
            segment.came.put(error)
