"""A storage in memory whose values have times that can be set, as files have."""

from __future__ import annotations

from entrepot.datastore.drivers.memory import MemoryStorage


class TimedMemoryStorage(MemoryStorage):
    """A MemoryStorage that implements `TimedStorage`."""

    def touch(self, key: str, at: float) -> None:
        """Set when a value was modified."""
        if found := self._values.get(key):
            self._values[key] = (found[0], at)
