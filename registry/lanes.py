"""A large blob in several ranges at once, put back in order while it comes in.

One connection to a far registry is slow, several are not. What runs ahead waits in memory, at most
a segment for each lane, so that the spool file stays a growing front of the blob.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Self

from registry.remote import RemoteBlob
from registry.verified import Fetch, resumed, until

SEGMENT = 8 * 1024 * 1024
"""Bytes that one request asks for."""

_WAIT_S = 0.2


@dataclass(frozen=True, slots=True)
class Span:
    """What is missing of a blob: from `start` to its end at `size`, both in bytes."""

    start: int
    size: int

    def segments(self) -> list[tuple[int, int]]:
        """Divide it into pairs of start and stop."""
        return [(at, min(at + SEGMENT, self.size)) for at in range(self.start, self.size, SEGMENT)]


def in_lanes(
    fetch: Fetch, span: Span, lanes: int, opened: Callable[[RemoteBlob], None]
) -> Iterator[bytes]:
    """Yield what is missing, in order, over at most *lanes* connections.

    No byte is asked for twice. An upstream that does not do ranges goes on in the one stream that
    it began. *opened* is told of the first answer. Raises: UpstreamError.
    """
    (start, stop), *others = span.segments()
    end: int | None = stop

    def first(remote: RemoteBlob) -> None:
        nonlocal end
        if remote.stop != stop:
            end = None  # from now on all the rest, also where the next connection does ranges
        opened(remote)

    head = resumed(lambda at, _=None: fetch(at, end), start, first)
    begun = next(head, b"")
    if end is None:
        yield begun
        yield from head
        return
    with _Ahead(fetch, others, lanes - 1) as ahead:
        yield begun
        yield from until(head, stop - start - len(begun))
        yield from ahead.chunks()


@dataclass(slots=True, eq=False)
class _Segment:
    """A part on its way: its chunks, then None, or what went wrong."""

    start: int
    stop: int
    came: queue.SimpleQueue[bytes | Exception | None] = field(default_factory=queue.SimpleQueue)


class _Ahead:
    """Fetches segments in order, as many at a time as there are lanes, until it is left."""

    def __init__(self, fetch: Fetch, parts: list[tuple[int, int]], lanes: int) -> None:
        self._fetch = fetch
        self._segments = [_Segment(start, stop) for start, stop in parts]
        self._waiting = iter(self._segments)
        self._choice = threading.Lock()
        self._window = threading.Semaphore(lanes)
        self._left = threading.Event()
        self._lanes = min(lanes, len(parts))

    def __enter__(self) -> Self:
        for _ in range(self._lanes):
            threading.Thread(target=self._lane, name="lane", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()

    def chunks(self) -> Iterator[bytes]:
        """Yield all segments, one after the other. Raises: UpstreamError."""
        for segment in self._segments:
            while (item := segment.came.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
            self._window.release()

    def _lane(self) -> None:
        while not self._left.is_set():
            if not self._window.acquire(timeout=_WAIT_S):
                continue
            with self._choice:
                segment = next(self._waiting, None)
            if segment is None:
                return
            self._fill(segment)

    def _fill(self, segment: _Segment) -> None:
        body = resumed(lambda at, _=None: self._fetch(at, segment.stop), segment.start)
        try:
            for chunk in until(body, segment.stop - segment.start):
                if self._left.is_set():
                    return
                segment.came.put(chunk)
            segment.came.put(None)
        except Exception as error:  # noqa: BLE001 - raised where the segment is waited for
            segment.came.put(error)
