"""Create the maintenance jobs of one data directory, with the intervals at which they run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from entrepot.cleaner.hosted.repositories import HostedRepositories
from entrepot.cleaner.hosted.retention import RetentionRules
from entrepot.cleaner.hosted.snapshot import HostedSnapshot
from entrepot.cleaner.hosted.unlink import Unlinker
from entrepot.cleaner.maintenance.abandoned_uploads import UploadPurging
from entrepot.cleaner.maintenance.collect import Collector
from entrepot.cleaner.maintenance.dangling_links import DanglingLinks
from entrepot.cleaner.maintenance.garbage import Garbage
from entrepot.cleaner.maintenance.jobs import Job
from entrepot.cleaner.maintenance.leftovers import Leftovers
from entrepot.cleaner.maintenance.purge_uploads import PurgeUploads
from entrepot.cleaner.running_transfers import promise_again
from entrepot.cleaner.spool import Spool
from entrepot.cleaner.store import DataDirectory
from entrepot.cleaner.sweep import Sweep
from entrepot.datastore.rebuild import needs_rebuild, rebuild
from entrepot.datastore.refs import Digest
from entrepot.runtime.clock import Ages

if TYPE_CHECKING:
    from entrepot.datastore.snapshot import SnapshotStore

_DAILY_S = 24 * 3600
_USUAL_PURGING = UploadPurging()


class _JobStopped(Exception):  # noqa: N818 - it is no error
    """A `_JobStopped` ends a job, because the process must exit."""


@dataclass(frozen=True, slots=True)
class Tools:
    """A `Tools` has the objects and functions that the jobs use.

    If `stopped` returns True, a job ends before its next step. `wake` starts a round. `room` is the
    cap in bytes, or None without a cap; no reservation in a new index is larger than the cap.

    `snapshots` reads and writes the snapshot of the index in a bucket; it is None without a bucket.
    `examine` verifies content in a bucket whose listed size differs from the size in its row.
    """

    store: DataDirectory
    spool: Spool
    sweep: Sweep
    clock: Ages
    stopped: Callable[[], bool]
    wake: Callable[[], None]
    room: int | None = None
    snapshots: SnapshotStore | None = None
    examine: Callable[[Digest], object] | None = None


class Maintenance:
    """A `Maintenance` creates the jobs.

    The jobs `spool`, `links` and `garbage` run every *every* seconds; other jobs have their own
    intervals.

    Content without references is garbage if it was not used for *garbage* seconds. If *is_shared*
    is set, another program writes to the storage too, and no link or content is removed.
    """

    def __init__(
        self,
        tools: Tools,
        every: float,
        garbage: float,
        purging: UploadPurging = _USUAL_PURGING,
        *,
        is_shared: bool = False,
    ) -> None:
        self._is_shared = is_shared
        self._tools = tools
        self._store = tools.store
        self._every = every
        self._grace = garbage
        self._purging = purging
        self._settled = -math.inf

    def jobs(self) -> Iterator[Job]:
        """Yield the jobs in the order in which they run."""
        every, tools = self._every, self._tools
        leftovers = Leftovers(self._store, tools.clock, tools.stopped)
        yield Job("settle", 0, self.settle)
        yield Job("spool", every, tools.spool.purge)
        if not self._is_shared:
            yield Job("links", every, DanglingLinks(self._store, tools.clock, tools.stopped).sweep)
            yield Job("garbage", every, self._collect_garbage)
        if self._purging.enabled:
            purge = PurgeUploads(self._store, self._purging, tools.clock, tools.stopped)
            yield Job("uploads", self._purging.interval, purge.run)
        yield Job("unfinished files", _DAILY_S, leftovers.purge_unfinished)
        if tools.snapshots is not None:
            from entrepot.cleaner.maintenance.index_snapshot import (  # noqa: PLC0415 - rarely used
                IndexSnapshot,
            )

            snapshot = IndexSnapshot(self._store, tools.snapshots, tools.clock, tools.stopped)
            yield Job("snapshot", 0, snapshot.write_if_due)

    def settle(self) -> None:
        """Rebuild the index from the files, if it was lost or the last rebuild is a day old.

        The first call rebuilds the index too.
        """
        is_due = time.monotonic() - self._settled > _DAILY_S
        if is_due or needs_rebuild(self._store.index.notes):
            with suppress(_JobStopped):
                promise_again(self._store, self._tools.room, self._tools.clock())
                rebuild(
                    self._store.storage,
                    self._store.index,
                    self._tools.clock(),
                    self._check_stopped,
                    snapshots=self._tools.snapshots,
                    examine=self._tools.examine,
                )
                self._settled = time.monotonic()
                self._tools.wake()

    def garbage(self) -> Garbage:
        """Return a planner of garbage collection, which also plans to remove abandoned uploads."""
        return Garbage(self._store, self._grace, self._tools.clock, self._purging)

    def stock(self, rules: RetentionRules) -> HostedSnapshot:
        """Return a snapshot of the hosted images; the plans that use it apply *rules*."""
        return HostedSnapshot(HostedRepositories(self._store), rules, self._tools.clock)

    def collector(self) -> Collector:
        """Return the collector, which removes garbage."""
        unlinker = Unlinker(self._store, HostedRepositories(self._store))
        return Collector(self._store, self._tools.sweep, unlinker, self._tools.stopped)

    def _collect_garbage(self) -> None:
        if not needs_rebuild(self._store.index.notes):
            garbage = Garbage(self._store, self._grace, self._tools.clock)
            self.collector().run(garbage, self.stock(RetentionRules()))

    def _check_stopped(self) -> None:
        if self._tools.stopped():
            raise _JobStopped
