"""A storage in memory whose values have times of modification, as files have."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from entrepot.datastore.drivers.memory import MemoryStorage
from entrepot.datastore.storage import TimedStat


class TimedMemoryStorage(MemoryStorage):
    """A storage in memory that implements `TimedStorage`.

    *clock* returns seconds since the UTC epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._clock = clock
        self._times: dict[str, float] = {}

    def stat(self, key: str) -> TimedStat | None:
        """Return a value's key, size and time of modification, or None."""
        found = super().stat(key)
        return TimedStat(key, found.size, self._times.get(key, 0.0)) if found else None

    def walk(self, key: str) -> Iterator[TimedStat]:
        """Yield every value below *key*, with its time of modification."""
        for found in super().walk(key):
            yield TimedStat(found.key, found.size, self._times.get(found.key, 0.0))

    def write(self, key: str, data: bytes) -> None:
        """Store a value; its time of modification is the time of the clock."""
        super().write(key, data)
        self._times[key] = self._clock()

    def touch(self, key: str, at: float) -> None:
        """Set a value's time of modification to *at*."""
        if key in self._values:
            self._times[key] = at
