"""Keep reservations, pins, notes and link times in the memory of one process, for tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping

from entrepot.datastore.budget import OVERHEAD
from entrepot.datastore.index import REBUILT, KeyValueStore, LinkTime, Reservation
from entrepot.datastore.refs import Digest


class MemoryNotes:
    """A `MemoryNotes` stores the notes in a dictionary."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = dict(values or {})

    def get(self, key: str) -> str | None:
        """Return the value of *key*; None if there is none."""
        return self._values.get(key)

    def put(self, values: Mapping[str, str]) -> None:
        """Set the value of each key in *values*."""
        self._values.update(values)


class MemoryReservations:
    """A `MemoryReservations` stores the reservations in a dictionary.

    *row_bytes* returns the bytes of all rows of the index, including `OVERHEAD` for each row.
    """

    def __init__(self, row_bytes: Callable[[], int], notes: KeyValueStore) -> None:
        self._row_bytes = row_bytes
        self._notes = notes
        self._lock = threading.RLock()
        self._reservations: dict[Digest, Reservation] = {}

    def reserve(
        self,
        digest: Digest,
        size: int,
        max_bytes: int | None,
        at: float,
        max_reserved: int | None = None,
    ) -> bool:
        """Reserve *size* bytes if the limits permit it; return whether they are reserved.

        If *max_bytes* is given, return False until the index is rebuilt.
        """
        with self._lock:
            others = sum(each.size for key, each in self._reservations.items() if key != digest)
            if max_reserved is not None and others + size > max_reserved:
                return False
            own = self._reservations.get(digest)
            more = size - own.size if own else size + OVERHEAD
            if max_bytes is not None and (
                self._notes.get(REBUILT) is None or self.used_bytes() + more > max_bytes
            ):
                return False
            self._reservations[digest] = Reservation(digest, size, at)
        return True

    def release(self, digest: Digest) -> None:
        """Remove a reservation."""
        with self._lock:
            self._reservations.pop(digest, None)

    def all(self) -> list[Reservation]:
        """Return all reservations, the oldest first."""
        with self._lock:
            return sorted(self._reservations.values(), key=lambda each: (each.at, each.digest))

    def used_bytes(self) -> int:
        """Return the bytes of reservations and rows, including `OVERHEAD` for each."""
        with self._lock:
            reserved = sum(each.size + OVERHEAD for each in self._reservations.values())
            return reserved + self._row_bytes()


class MemoryPins:
    """A `MemoryPins` stores the pins in a dictionary.

    `clock` returns the time in seconds since the UTC epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._pins: dict[Digest, set[float]] = {}

    def pin(self, digests: Iterable[Digest], until: float) -> None:
        """Exclude *digests* from `mark_for_deletion` until the time *until*."""
        with self._lock:
            for digest in digests:
                self._pins.setdefault(digest, set()).add(until)

    def unpin(self, digests: Iterable[Digest], until: float) -> None:
        """Remove those pins of *digests* that end at *until*."""
        with self._lock:
            for digest in digests:
                self._pins.get(digest, set()).discard(until)

    def pinned(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those of *digests* that are pinned now."""
        with self._lock:
            ends = {each: max(self._pins.get(each, ()), default=0.0) for each in digests}
            return {each for each, until in ends.items() if until > self._clock()}

    def all(self) -> set[Digest]:
        """Return all digests that are pinned now."""
        with self._lock:
            return self.pinned(self._pins)


class MemoryLinkTimes:
    """A `MemoryLinkTimes` stores the link times in a dictionary.

    `clock` returns the time in seconds since the UTC epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._times: dict[str, LinkTime] = {}

    def get(self, key: str) -> LinkTime | None:
        """Return when the link *key* was last confirmed; None if that is not recorded."""
        return self._times.get(key)

    def confirm(self, key: str, digest: Digest) -> None:
        """Record that the link *key* names *digest* at the current time."""
        self._times[key] = LinkTime(key, digest, self._clock())

    def restore(self, times: Iterable[LinkTime]) -> None:
        """Record confirmations with their times.

        A confirmation that is already recorded stays if it has the same digest and a later time.
        """
        for each in times:
            known = self._times.get(each.key)
            if known is None or known.digest != each.digest or known.at < each.at:
                self._times[each.key] = each

    def page(self, after: str, limit: int) -> list[LinkTime]:
        """Return a page of link times in the order of the keys."""
        later = sorted(key for key in tuple(self._times) if key > after)
        return [self._times[key] for key in later[:limit]]

    def forget(self, keys: Iterable[str]) -> None:
        """Remove the times of links."""
        for key in keys:
            self._times.pop(key, None)
