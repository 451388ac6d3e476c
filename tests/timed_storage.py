"""A storage in memory whose values have times that can be set, as files have."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from entrepot.datastore.drivers.memory import MemoryStorage
from entrepot.datastore.storage import TimedStat


class TimedMemoryStorage(MemoryStorage):
    """A MemoryStorage with `TimedStorage`; its `clock` returns the time (s, UTC epoch)."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._clock = clock
        self._times: dict[str, float] = {}

    def stat(self, key: str) -> TimedStat | None:
        """Return key, size and time of a value."""
        found = super().stat(key)
        return TimedStat(key, found.size, self._times.get(key, 0.0)) if found else None

    def walk(self, key: str) -> Iterator[TimedStat]:
        """Yield every value below *key*."""
        for found in super().walk(key):
            yield TimedStat(found.key, found.size, self._times.get(found.key, 0.0))

    def write(self, key: str, data: bytes) -> None:
        """Set a value and its time."""
        super().write(key, data)
        self._times[key] = self._clock()

    def touch(self, key: str, at: float) -> None:
        """Set the time at which a value was modified."""
        if key in self._values:
            self._times[key] = at
