"""How many bytes each part of the data directory may take, pure arithmetic.

The cap bounds the sum of the sizes of every file below the data directory. What the index counts
(`used_bytes`: rows and reservations) is only a part of it, so the bounds for that part lie lower by
what logs and index take beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

OVERHEAD = 512
"""Bytes that a row or a reservation costs beside its content: links, media type, index pages."""

WAL_BYTES = 1024 * 1024
"""Bytes that the index's log is cut back to; it is written on past that by a transaction."""

BALLAST_BYTES = 256 * 1024
"""Bytes of the file that is removed when the appliance starts on a full disk."""

INDEX_BYTES = 2 * WAL_BYTES + 256 * 1024 + BALLAST_BYTES
"""Bytes of an index without rows: log with a transaction in it, shared memory, first pages."""

STEP = 16 * 1024 * 1024
"""Bytes reserved at a time for a transfer of which nobody tells how long it will be."""

_LEAST_LOG_BYTES = 64 * 1024
_UNLIMITED_LOG_BYTES = 100 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Budget:
    """`maxsize` in bytes, 0 for no limit; `threshold` is the room above it in percent."""

    maxsize: int
    threshold: int

    @property
    def cap(self) -> int | None:
        """Bytes that the data directory never exceeds; None for no limit."""
        return self.maxsize * (100 + self.threshold) // 100 if self.maxsize else None

    @property
    def log_bytes(self) -> int:
        """Bytes for all log files together: 1 % of the cap."""
        if self.cap is None:
            return _UNLIMITED_LOG_BYTES
        return max(self.cap // 100, _LEAST_LOG_BYTES)

    @property
    def room(self) -> int | None:
        """Bytes that the index may hold: what `reserve` takes as its cap; None for no limit."""
        return self._beside(self.cap)

    @property
    def target(self) -> int | None:
        """Bytes held at which a sweep ends: the data directory is at `maxsize` then."""
        return self._beside(self.maxsize or None)

    @property
    def start(self) -> int | None:
        """Bytes held above which a sweep starts: half of the way from `target` to `room`."""
        if self.room is None or self.target is None:
            return None
        return (self.target + self.room) // 2

    def _beside(self, total: int | None) -> int | None:
        """Return what is left of *total* beside logs and index; never less than nothing."""
        return None if total is None else max(total - self.log_bytes - INDEX_BYTES, 0)
