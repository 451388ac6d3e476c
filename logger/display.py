"""Write the file with the metrics that the workers serve: committed counters, and gauges."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from entrepot.datastore.disk_space import disk_space
from entrepot.datastore.errors import IndexUnavailable
from entrepot.datastore.index import REBUILT, SNAPSHOT_AT, Index
from entrepot.datastore.reservations import unevictable_bytes
from entrepot.logger import exposition
from entrepot.logger.batch import METRICS
from entrepot.logger.exposition import MetricRows
from entrepot.logger.metrics import Metric
from entrepot.runtime.atomic_write import write_atomically
from entrepot.runtime.clock import Clock
from entrepot.runtime.log_once import LogOnce

log = logging.getLogger(__name__)

LAG = Metric(
    "entrepot_log_lag_seconds",
    "gauge",
    "Age of the last log line that was read; 0 if all lines are in the index.",
)
USED = Metric("entrepot_held_bytes", "gauge", "Used bytes, including reservations and overhead.")
RESERVED = Metric(
    "entrepot_reserved_bytes",
    "gauge",
    "Bytes reserved for downloads and uploads in progress and for quarantined files.",
)
BLOBS = Metric("entrepot_blobs", "gauge", "Stored blobs and manifests.")
UNEVICTABLE = Metric(
    "entrepot_unevictable_bytes",
    "gauge",
    "Bytes that the cleaner cannot evict, if eviction frees too little space; else 0.",
)
CAP = Metric(
    "entrepot_cap_bytes",
    "gauge",
    "Largest total size of the data directory in bytes; 0 without a limit.",
)
INDEX = Metric(
    "entrepot_index_available",
    "gauge",
    "1 if the access index is available and not being rebuilt.",
)
CLOCK_OFFSET = Metric(
    "entrepot_clock_offset_seconds",
    "gauge",
    "Error of the wall clock after a jump; 0 while the appliance trusts the wall clock.",
)
CLOCK_JUMPS = Metric("entrepot_clock_jumps", "counter", "Jumps of the wall clock.")

FREE = Metric("entrepot_disk_free_bytes", "gauge", "Bytes free on the disk of the data directory.")
FAILING_CHECKS = Metric(
    "entrepot_health_checks_failing",
    "gauge",
    "Failing checks of `health:`; while the number is not 0, all requests get 503.",
)
WRITABLE = Metric(
    "entrepot_disk_writable",
    "gauge",
    "1 if the data and state directories are writable; 0 on a full or read-only disk.",
)

SNAPSHOT_AGE = Metric(
    "entrepot_snapshot_age_seconds",
    "gauge",
    "Age of the snapshot of the index in the bucket; no value before the first snapshot.",
)
SPOOL = Metric(
    "entrepot_spool_bytes",
    "gauge",
    "Bytes of the unfinished downloads and uploads of an appliance with a bucket.",
)

SPOOL_LIMIT = Metric(
    "entrepot_spool_limit_bytes",
    "gauge",
    "Bytes of `storage.spoolsize` that unfinished downloads and uploads may take.",
)


@dataclass(frozen=True, slots=True)
class SpoolFolder:
    """A `SpoolFolder` is the folder of unfinished transfers.

    `limit` is the limit of its size in bytes, or None.
    """

    path: Path
    limit: int | None


class Display:
    """A `Display` writes the metrics into the file *path*.

    *cap* is the largest size of the data directory in bytes. *build* has the labels of the metric
    `entrepot_build_info`. *clock* is the appliance's clock. *disks* are the data directory and, if
    it is another folder, the state directory. *spool* is the folder of unfinished transfers if
    content is in a bucket. *failing* returns the number of failing health checks; it is None if no
    checks are configured.
    """

    def __init__(
        self,
        path: Path,
        index: Index,
        *,
        cap: int = 0,
        build: Mapping[str, str],
        clock: Clock | None = None,
        disks: Sequence[Path] = (),
        spool: SpoolFolder | None = None,
        failing: Callable[[], int] | None = None,
    ) -> None:
        self._path = path
        self._disks = disks
        self._failing = failing
        self._spool = spool
        self._clock = clock
        self._index = index
        self._build = build
        self._gauges: dict[Metric, float] = {CAP: float(cap)}
        if spool is not None and spool.limit is not None:
            self._gauges[SPOOL_LIMIT] = float(spool.limit)
        self._more: Callable[[], Sequence[MetricRows]] = tuple
        self._complaint = LogOnce(log, "metrics not written", "metrics written again")

    def show_also(self, more: Callable[[], Sequence[MetricRows]]) -> None:
        """Add the metrics that *more* returns to the file, from the next call of `show` on."""
        self._more = more

    def show(self, notes: Mapping[str, str], lag: float) -> None:
        """Write the counters in *notes*, which come from the index, and the gauges.

        *lag* is how many seconds the counters are behind the access log. While the index is
        unavailable, the gauges that come from the index keep their last values.
        """
        self._gauges[LAG] = lag
        if self._clock is not None:
            self._gauges[CLOCK_OFFSET] = round(self._clock.offset(), 3)
            self._gauges[CLOCK_JUMPS] = float(self._clock.jumps())
        if self._failing is not None:
            self._gauges[FAILING_CHECKS] = float(self._failing())
        self._measure_index()
        self._measure_disks()
        if self._spool is not None:
            self._measure_bucket(self._spool.path)
        text = exposition.render(METRICS, notes, self._gauges, build=self._build, more=self._more())
        try:
            # The file needs no fsync: after a crash, the next start writes it again.
            write_atomically(self._path, text)
        except OSError as error:
            self._complaint.failed(error)
            return
        self._complaint.worked()

    def _measure_disks(self) -> None:
        with suppress(OSError):
            found = [disk_space(each) for each in self._disks]
            if found:
                self._gauges[FREE] = float(found[0].free)
                self._gauges[WRITABLE] = float(not any(each.problem for each in found))

    def _measure_bucket(self, spool: Path) -> None:
        self._gauges[SPOOL] = float(sum(map(_bytes_in, (spool, spool / "uploads"))))
        with suppress(IndexUnavailable, ValueError):
            at = self._index.notes.get(SNAPSHOT_AT)
            if at is not None and self._clock is not None:
                self._gauges[SNAPSHOT_AGE] = max(round(self._clock() - float(at), 1), 0.0)

    def _measure_index(self) -> None:
        self._gauges[INDEX] = 0.0
        try:
            reserved = sum(each.size for each in self._index.reservations.all())
            is_rebuilt = self._index.notes.get(REBUILT) is not None
            sizes = {
                USED: self._index.reservations.used_bytes(),
                RESERVED: reserved,
                BLOBS: self._index.count(),
                UNEVICTABLE: unevictable_bytes(self._index.notes),
            }
        except IndexUnavailable as error:
            log.debug("sizes unknown", extra={"error": error})
            return
        self._gauges[INDEX] = float(is_rebuilt)
        self._gauges.update({metric: float(value) for metric, value in sizes.items()})


def _bytes_in(folder: Path) -> int:
    """Return the sum of the lengths of the files in a folder; 0 if it cannot be read."""
    try:
        with os.scandir(folder) as found:
            return sum(_length(each) for each in found)
    except OSError:
        return 0


def _length(entry: os.DirEntry[str]) -> int:
    with suppress(OSError):  # The download may have ended, and its file been renamed.
        if entry.is_file(follow_symlinks=False):
            return entry.stat(follow_symlinks=False).st_size
    return 0
