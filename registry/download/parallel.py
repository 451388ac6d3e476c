"""Fetch a large blob as several ranges at once, and yield its bytes in order as they arrive.

One connection to a distant registry is slow, and several connections are faster. Parts that arrive
before an earlier part is complete wait in memory, at most one part per connection. So the spool
file always holds a prefix of the blob.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from entrepot.registry.download.resume import fetch_part, limited, resumed
from entrepot.registry.download.sources import Sources
from entrepot.registry.errors import Denied, UpstreamError
from entrepot.registry.upstream.protocol import RemoteBlob

PART_SIZE = 8 * 1024 * 1024
"""A part of a blob has at most this size in bytes; one request fetches one part."""

# Every connection except the first one of a blob needs a permit. An upstream has enough permits to
# download this many blobs with all connections, because clients fetch 3 layers at once.
_BLOBS = 3
_WAIT_S = 0.2


@dataclass(frozen=True, slots=True)
class ConnectionBudget:
    """A `ConnectionBudget` limits the connections that one blob may use.

    `connections` is the largest number of connections for one blob. Every connection but the first
    needs a permit for each part that it fetches.
    """

    connections: int
    permits: threading.Semaphore


class ParallelLimits:
    """A `ParallelLimits` limits this worker's connections: per blob, and per upstream in total.

    The first connection of each blob needs no permit. The permits of an upstream limit all further
    connections, each of which keeps at most one part in memory.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._permits: dict[str, threading.Semaphore] = {}
        self._lock = threading.Lock()

    def budget(self, upstream: str) -> ConnectionBudget:
        """Return the connection budget of a blob from this upstream."""
        with self._lock:
            if upstream not in self._permits:
                self._permits[upstream] = threading.Semaphore(_BLOBS * (self.most - 1))
            return ConnectionBudget(self.most, self._permits[upstream])


@dataclass(frozen=True, slots=True)
class MissingRange:
    """A `MissingRange` is the rest of a blob: from `start` to its end at `size`, in bytes."""

    start: int
    size: int

    def parts(self, connections: int) -> PartList:
        """Divide the missing range so that all connections finish at about the same time.

        The cost of this method does not depend on `size`, which may be any number that a manifest
        states.
        """
        missing = self.size - self.start
        rounds = -(-missing // (PART_SIZE * connections))
        return PartList(self.start, self.size, -(-missing // (rounds * connections)))


@dataclass(frozen=True, slots=True)
class PartList:
    """A `PartList` computes the parts of a missing range on demand.

    Each part except the last one has `each` bytes.
    """

    start: int
    size: int
    each: int

    @property
    def count(self) -> int:
        """Return the number of parts."""
        return -(-(self.size - self.start) // self.each)

    def part(self, number: int) -> tuple[int, int]:
        """Return start and stop (exclusive) of a part; the first part has the number 0."""
        start = self.start + number * self.each
        return start, min(start + self.each, self.size)


def in_parallel(
    sources: Sources,
    missing: MissingRange,
    budget: ConnectionBudget,
    opened: Callable[[RemoteBlob], None],
) -> Iterator[bytes]:
    """Yield the bytes of a missing range in order, over as many connections as permitted.

    The function requests no byte of the blob twice. The function fetches the rest of the blob as
    one stream in two cases: the upstream does not support ranges, or its response states a size of
    the blob other than `missing.size`. The function calls *opened* with each response for the first
    part or for the one stream. Raises: UpstreamError.
    """
    parts = missing.parts(budget.connections)
    start, stop = parts.part(0)
    end: int | None = stop
    first_chunk = b""

    def first(remote: RemoteBlob) -> None:
        nonlocal end
        if not first_chunk and (remote.stop != stop or remote.size not in (None, missing.size)):
            # From now on, one stream fetches the rest, even if a later connection supports ranges.
            end = None
        opened(remote)

    head = resumed(sources, start, first, lambda: end)
    first_chunk = next(head, b"")
    if end is None:
        yield first_chunk
        yield from head
        return
    with _Helpers(sources, parts, budget) as helpers:
        yield first_chunk
        yield from limited(head, stop - start - len(first_chunk))
        yield from helpers.chunks()


@dataclass(slots=True, eq=False)
class _FetchedPart:
    """A `_FetchedPart` is a part of a blob that a helper thread fetches.

    `chunks` receives the part's chunks as they arrive, then None or the exception that ended the
    part.
    """

    start: int
    stop: int
    chunks: queue.SimpleQueue[bytes | Exception | None] = field(default_factory=queue.SimpleQueue)


class _Helpers:
    """A `_Helpers` manages the threads that fetch the parts after the first part.

    The threads exit when the context of the `_Helpers` ends. The caller of `chunks` fetches parts
    too: the first part of every round (a round has one part for each connection), and every part
    that no thread has taken. If no permit or no thread is available for a connection, the download
    continues with fewer connections. Memory is limited to one part per connection, however many
    parts there are.
    """

    def __init__(self, sources: Sources, parts: PartList, budget: ConnectionBudget) -> None:
        self._sources = sources
        self._parts = parts
        self._count = parts.count
        self._round = budget.connections
        # This is the number of the first part that neither the caller nor a thread has taken.
        self._next = 1
        self._taken: dict[int, _FetchedPart] = {}
        self._lock = threading.Lock()
        self._thread_count = min(budget.connections, self._count) - 1
        self._window = threading.Semaphore(self._thread_count)
        self._permits = budget.permits
        self._permitted = 0
        self._is_over = threading.Event()

    def __enter__(self) -> Self:
        # If the process can start no thread (RuntimeError), the caller of `chunks` fetches the
        # parts itself.
        with suppress(RuntimeError):
            for _ in range(self._thread_count):
                threading.Thread(target=self._run_thread, name="lane", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._is_over.set()
            while self._permitted:
                self._return_permit()

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes of all parts but the first, in order. Raises: UpstreamError."""
        number = 1
        while number < self._count:
            part = self._claim(number)
            if part is None:
                start, stop = self._parts.part(number)
                yield from self._body(start, stop)
            else:
                yield from self._from_thread(part)
            number += 1

    def _claim(self, number: int) -> _FetchedPart | None:
        """Return the part *number* if a thread fetches it, or None if the caller must fetch it."""
        with self._lock:
            part = self._taken.pop(number, None)
            if part is None:
                self._next = max(self._next, number + 1)
            return part

    def _body(self, start: int, stop: int) -> Iterator[bytes]:
        return limited(resumed(self._sources, start, bound=lambda: stop), stop - start)

    def _from_thread(self, part: _FetchedPart) -> Iterator[bytes]:
        """Yield the bytes of a part that a thread fetches.

        If the thread's connection fails, this method fetches the rest of the part.
        """
        at = part.start
        while isinstance(item := part.chunks.get(), bytes):
            at += len(item)
            yield item
        with self._lock:
            self._return_permit()
        self._window.release()
        if item is not None and not isinstance(item, UpstreamError):
            raise item
        if at < part.stop:
            yield from self._body(at, part.stop)

    def _return_permit(self) -> None:
        self._permitted -= 1
        self._permits.release()

    # ---- only helper threads call these methods

    def _run_thread(self) -> None:
        while self._next_for_thread() < self._count and not self._is_over.is_set():
            if not self._window.acquire(timeout=_WAIT_S):
                continue
            part = self._take()
            if part:
                self._fetch(part)
            else:
                self._window.release()

    def _next_for_thread(self) -> int:
        """Return the number of the next part that a thread may take.

        The caller of `chunks` fetches the first part of each round.
        """
        return self._next + 1 if self._next % self._round == 0 else self._next

    def _take(self) -> _FetchedPart | None:
        """Take the next part and a permit; return None if no permit or no part is left."""
        if not self._permits.acquire(timeout=_WAIT_S):
            return None
        with self._lock:
            self._permitted += 1
            number = self._next_for_thread()
            if number >= self._count or self._is_over.is_set():
                self._return_permit()
                return None
            part = self._taken[number] = _FetchedPart(*self._parts.part(number))
            self._next = number + 1
            return part

    def _fetch(self, part: _FetchedPart) -> None:
        try:
            for chunk in fetch_part(self._sources, part.start, part.stop):
                if self._is_over.is_set():
                    return
                part.chunks.put(chunk)
            part.chunks.put(None)
        except Exception as error:  # noqa: BLE001 - raised in the thread that calls `chunks`
            if isinstance(error, Denied):  # The upstream permits no more connections.
                with self._lock:
                    self._next = self._count
            part.chunks.put(error)
