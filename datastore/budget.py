"""Divide the size limit of the data directory among content, logs and index, without I/O.

The cap limits the sum of the sizes of all files in the data directory. The index counts only
content that has a row or a reservation (`used_bytes`). It does not count the logs, the event queue
and the files of an index without rows. So each limit for `used_bytes` is lower than the limit for
the data directory by the size of these files.
"""

from __future__ import annotations

from dataclasses import dataclass

OVERHEAD = 512
"""The index adds this many bytes to the size of each stored or reserved blob or manifest.

These bytes cover the links of the content and its share of the index file.
"""

WAL_BYTES = 1024 * 1024
"""SQLite truncates its write-ahead log to this many bytes after a checkpoint.

A large transaction can make the log longer.
"""

BALLAST_BYTES = 256 * 1024
"""The ballast file in the state directory has this many bytes.

If the disk is full when the appliance starts, it deletes this file, so that the index can be
written.
"""

INDEX_BYTES = 2 * WAL_BYTES + 256 * 1024 + BALLAST_BYTES
"""An index without rows, together with the ballast file, has at most this many bytes.

They are the bytes of a write-ahead log with one transaction, SQLite's shared-memory file, the first
pages of the database, and the ballast file.
"""

STEP = 16 * 1024 * 1024
"""If the length of a download or upload is unknown, space is reserved in steps of this many bytes.
"""

QUEUE_OVERHEAD = WAL_BYTES + 256 * 1024
"""The files of an empty event queue have at most this many bytes.

They are the bytes of a write-ahead log with one transaction, SQLite's shared-memory file, and the
first pages of the database.
"""

_LEAST_QUEUE_BYTES = 1024 * 1024
_MOST_QUEUE_BYTES = 64 * 1024 * 1024
_LEAST_LOG_BYTES = 64 * 1024
_UNLIMITED_LOG_BYTES = 100 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Budget:
    """A `Budget` has the configured limits of the data directory.

    `maxsize` is in bytes; 0 means that there is no limit. `threshold` is the percentage by which
    the cap exceeds `maxsize`. `has_events` is True if an endpoint for notifications is configured,
    so that events are queued on the disk. `spoolsize` (bytes) limits the files in the state
    directory if content is in a bucket. If `spoolsize` is None, content and state share a disk, and
    `maxsize` limits both.
    """

    maxsize: int
    threshold: int
    has_events: bool = False
    spoolsize: int | None = None

    @property
    def cap(self) -> int | None:
        """Return the largest size of the data directory in bytes; None if there is no limit."""
        return self.maxsize * (100 + self.threshold) // 100 if self.maxsize else None

    @property
    def log_bytes(self) -> int:
        """Return the bytes for all log files: 1 % of the cap, or 100 MiB without a cap.

        The result is at most 10 % of `spoolsize`, but at least 64 KiB.
        """
        bytes_ = _UNLIMITED_LOG_BYTES if self.cap is None else self.cap // 100
        if self.spoolsize is not None:
            bytes_ = min(bytes_, self.spoolsize // 10)
        return max(bytes_, _LEAST_LOG_BYTES)

    @property
    def max_reserved_bytes(self) -> int | None:
        """Return the bytes of `spoolsize` that remain for downloads and uploads.

        Return None if there is no limit.
        """
        return None if self.spoolsize is None else max(self.spoolsize - self.log_bytes, 0)

    @property
    def queue_bytes(self) -> int:
        """Return the bytes for the event queue: 1 % of the cap, from 1 MiB to 64 MiB.

        Return 64 MiB without a cap, and 0 if no endpoint for notifications is configured.
        """
        if not self.has_events:
            return 0
        if self.cap is None:
            return _MOST_QUEUE_BYTES
        return min(max(self.cap // 100, _LEAST_QUEUE_BYTES), _MOST_QUEUE_BYTES)

    @property
    def max_used_bytes(self) -> int | None:
        """Return the largest permitted `used_bytes`, up to which `reserve` of the index succeeds.

        Return None if there is no limit.
        """
        return self._beside(self.cap)

    @property
    def target(self) -> int | None:
        """Return the `used_bytes` at which eviction ends.

        The data directory then has `maxsize` bytes. Return None if there is no limit.
        """
        return self._beside(self.maxsize or None)

    @property
    def start(self) -> int | None:
        """Return the `used_bytes` above which eviction starts; None if there is no limit.

        The returned number is halfway between `target` and `max_used_bytes`.
        """
        if self.max_used_bytes is None or self.target is None:
            return None
        return (self.target + self.max_used_bytes) // 2

    def _beside(self, total: int | None) -> int | None:
        """Return *total* minus the bytes for logs, index and event queue; at least 0."""
        if total is None:
            return None
        queue = self.queue_bytes + QUEUE_OVERHEAD if self.has_events else 0
        return max(total - self.log_bytes - INDEX_BYTES - queue, 0)
