"""The file of metrics that the workers serve: what is committed, and how large things are now."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from datastore import shortage
from datastore.disk_space import disk_space
from datastore.errors import IndexUnavailable
from datastore.index import REBUILT, AccessIndex
from logger import exposition
from logger.complaint import Complaint
from logger.ledger import METRICS
from logger.metrics import Metric
from runtime.clock import Clock

log = logging.getLogger(__name__)

LAG = Metric(
    "entrepot_log_lag_seconds", "gauge", "Age of the last answer that was read, while more wait."
)
HELD = Metric("entrepot_held_bytes", "gauge", "Bytes held, reservations and overhead included.")
RESERVED = Metric("entrepot_reserved_bytes", "gauge", "Bytes that running downloads reserved.")
BLOBS = Metric("entrepot_blobs", "gauge", "Blobs and manifests held.")
UNEVICTABLE = Metric(
    "entrepot_unevictable_bytes",
    "gauge",
    "Bytes that eviction could not free although room was short; 0 while it frees enough.",
)
CAP = Metric("entrepot_cap_bytes", "gauge", "Bytes that are never exceeded; 0 without a limit.")
INDEX = Metric(
    "entrepot_index_available",
    "gauge",
    "Whether the access index answers and is not being rebuilt.",
)
CLOCK_OFFSET = Metric(
    "entrepot_clock_offset_seconds", "gauge", "By how much the wall clock has jumped; 0: believed."
)
CLOCK_JUMPS = Metric("entrepot_clock_jumps", "counter", "Times that the wall clock has jumped.")

FREE = Metric("entrepot_disk_free_bytes", "gauge", "Bytes free on the disk of the data directory.")
WRITABLE = Metric(
    "entrepot_disk_writable",
    "gauge",
    "1 while data and state directory can be written to; 0 on a full or read-only disk.",
)


class Display:
    """Writes *path*; `cap` is in bytes, *build* labels what runs, *clock* is the appliance's.

    *disks* are the data directory and, where it is another, the state directory.
    """

    def __init__(
        self,
        path: Path,
        index: AccessIndex,
        *,
        cap: int = 0,
        build: Mapping[str, str],
        clock: Clock | None = None,
        disks: Sequence[Path] = (),
    ) -> None:
        self._path = path
        self._disks = disks
        self._clock = clock
        self._index = index
        self._build = build
        self._gauges: dict[Metric, float] = {CAP: float(cap)}
        self._complaint = Complaint(log, "metrics not written", "metrics written again")

    def show(self, notes: Mapping[str, str], lag: float) -> None:
        """Write what the *notes* hold; sizes stay as they were while the index does not answer."""
        self._gauges[LAG] = lag
        if self._clock is not None:
            self._gauges[CLOCK_OFFSET] = round(self._clock.offset(), 3)
            self._gauges[CLOCK_JUMPS] = float(self._clock.jumps())
        self._measure()
        self._look_at_disks()
        text = exposition.render(METRICS, notes, self._gauges, build=self._build)
        try:
            exposition.write(self._path, text)
        except OSError as error:
            self._complaint.failed(error)
            return
        self._complaint.worked()

    def _look_at_disks(self) -> None:
        with suppress(OSError):
            found = [disk_space(each) for each in self._disks]
            if found:
                self._gauges[FREE] = float(found[0].free)
                self._gauges[WRITABLE] = float(not any(each.problem for each in found))

    def _measure(self) -> None:
        self._gauges[INDEX] = 0.0
        try:
            reserved = sum(each.size for each in self._index.reservations())
            is_rebuilt = self._index.note(REBUILT) is not None
            sizes = {
                HELD: self._index.held(),
                RESERVED: reserved,
                BLOBS: self._index.count(),
                UNEVICTABLE: shortage.unevictable(self._index),
            }
        except IndexUnavailable as error:
            log.debug("sizes unknown", extra={"error": error})
            return
        self._gauges[INDEX] = float(is_rebuilt)
        self._gauges.update({metric: float(value) for metric, value in sizes.items()})
