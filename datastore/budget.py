"""Split the size limit of the data directory between content, logs and index; pure arithmetic.

The cap bounds the sum of the sizes of all files below the data directory. The index counts only a
part of these bytes (`used_bytes`): the content that has an entry or a reservation. So the limits
for `used_bytes` are lower than the cap, by the bytes that logs and index files take.
"""

from __future__ import annotations

from dataclasses import dataclass

OVERHEAD = 512
"""The bytes that are added to the size of each stored or reserved content: links, index pages."""

WAL_BYTES = 1024 * 1024
"""SQLite's write-ahead log is truncated to this many bytes.

A transaction may grow the write-ahead log beyond this size.
"""

BALLAST_BYTES = 256 * 1024
"""The appliance deletes a file of this many bytes when it starts on a full disk."""

INDEX_BYTES = 2 * WAL_BYTES + 256 * 1024 + BALLAST_BYTES
"""An index without entries has this many bytes: a write-ahead log with one transaction, shared
memory, pages.
"""

STEP = 16 * 1024 * 1024
"""This many bytes are reserved at a time for a transfer whose length is unknown."""

QUEUE_OVERHEAD = WAL_BYTES + 256 * 1024
"""An event queue without events has this many bytes: a write-ahead log with one transaction, shared
memory, pages.
"""

_LEAST_QUEUE_BYTES = 1024 * 1024
_MOST_QUEUE_BYTES = 64 * 1024 * 1024
_LEAST_LOG_BYTES = 64 * 1024
_UNLIMITED_LOG_BYTES = 100 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Budget:
    """A `Budget` has the configured limits of the data directory.

    `maxsize` is in bytes, 0 for none; `threshold` is the percentage by which the cap exceeds
    `maxsize`. `has_events` states that an endpoint of notifications is configured, so events are
    queued on the disk. `spoolsize` bounds the files in the state directory if content is in a
    bucket; None: content and state share a disk, whose files `maxsize` bounds.
    """

    maxsize: int
    threshold: int
    has_events: bool = False
    spoolsize: int | None = None

    @property
    def cap(self) -> int | None:
        """Return the bytes that the data directory never exceeds; None for no limit."""
        return self.maxsize * (100 + self.threshold) // 100 if self.maxsize else None

    @property
    def log_bytes(self) -> int:
        """The bytes for all log files: 1 % of the cap, but at most 10 % of `spoolsize`."""
        bytes_ = _UNLIMITED_LOG_BYTES if self.cap is None else self.cap // 100
        if self.spoolsize is not None:
            bytes_ = min(bytes_, self.spoolsize // 10)
        return max(bytes_, _LEAST_LOG_BYTES)

    @property
    def max_reserved_bytes(self) -> int | None:
        """The bytes of `spoolsize` that remain for transfers; None for no limit."""
        return None if self.spoolsize is None else max(self.spoolsize - self.log_bytes, 0)

    @property
    def queue_bytes(self) -> int:
        """The bytes for the event queue: 1 % of the cap, from 1 to 64 MiB; 0 without endpoints."""
        if not self.has_events:
            return 0
        if self.cap is None:
            return _MOST_QUEUE_BYTES
        return min(max(self.cap // 100, _LEAST_QUEUE_BYTES), _MOST_QUEUE_BYTES)

    @property
    def max_used_bytes(self) -> int | None:
        """Return the largest `used_bytes`, passed to `Index.reserve`; None for no limit."""
        return self._beside(self.cap)

    @property
    def target(self) -> int | None:
        """Return the `used_bytes` at which eviction ends: the data directory has `maxsize` then."""
        return self._beside(self.maxsize or None)

    @property
    def start(self) -> int | None:
        """Return the `used_bytes` above which eviction starts.

        The returned number is halfway from `target` to `max_used_bytes`.
        """
        if self.max_used_bytes is None or self.target is None:
            return None
        return (self.target + self.max_used_bytes) // 2

    def _beside(self, total: int | None) -> int | None:
        """Return the bytes of *total* that remain beside logs, index and queue; at least 0."""
        if total is None:
            return None
        queue = self.queue_bytes + QUEUE_OVERHEAD if self.has_events else 0
        return max(total - self.log_bytes - INDEX_BYTES - queue, 0)
