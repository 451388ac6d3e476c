"""Evict the content that `policy` planned to evict.

If the content was not used since its eviction was planned, the sweep marks its row in the index,
deletes the content, and then deletes the row. If the sweep is interrupted, a later round completes
the eviction. A response that has already opened the file is completed; a later request for the
content is a cache miss.

Only one sweep at a time deletes content, because a deletion needs a lock. Without the lock, a
second sweep could find a mark of the first sweep, and assume that the first cleaner had been
killed. The second sweep would then delete the content, even if the content had been downloaded
again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from entrepot.cleaner.policy import Eviction
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.datastore.accesslog import Event
from entrepot.datastore.errors import StorageBroken, StorageFull
from entrepot.datastore.index import IndexEntry
from entrepot.datastore.locks import holding
from entrepot.datastore.proofs import Proofs

log = logging.getLogger(__name__)

_LOCK_TIMEOUT_S = 5.0

Report = Callable[[Event], None]
"""A `Report` writes an event for the logger; it never raises an exception."""


class Sweep:
    """A `Sweep` evicts content, one blob or manifest at a time.

    *clock* returns the time in seconds since the UTC epoch. The sweep calls *removed* each time it
    has deleted content.
    """

    def __init__(
        self,
        store: DataDirectory,
        report: Report,
        clock: Callable[[], float],
        removed: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._report = report
        self._clock = clock
        self._removed = removed

    def finish(self) -> None:
        """Complete evictions that a kill or an error interrupted; their rows are still marked.

        Raises: IndexUnavailable.
        """
        for entry in self._store.index.marked_for_deletion():
            try:
                self._finish(entry)
            except (StorageFull, StorageBroken) as error:
                log.warning("eviction not finished", extra={"digest": entry.digest, "error": error})

    def evict(self, eviction: Eviction) -> bool:
        """Evict content; return False, and keep it, if it was used or pinned since the plan.

        Return False also if another process keeps the lock of sweeps for 5 s. Raises:
        IndexUnavailable; StorageFull, StorageBroken. After an error of the storage, the row stays
        marked, and `finish` completes the eviction later.
        """
        entry = eviction.entry
        with self._sweep_lock() as is_locked:
            if not is_locked or not self._store.index.mark_for_deletion(entry):
                return False
            self._remove(entry)
        now = self._clock()
        self._report(Event("eviction", now, _fields(eviction, now)))
        log.debug("evicted", extra={"digest": entry.digest, "why": eviction.words})
        return True

    def _finish(self, entry: IndexEntry) -> None:
        with self._sweep_lock() as is_locked:
            if is_locked and entry in self._store.index.marked_for_deletion():
                self._remove(entry)

    @contextmanager
    def _sweep_lock(self) -> Iterator[bool]:
        """Wait up to 5 s for the lock of sweeps; yield whether this process has the lock.

        The lock file is never removed: on a disk without free inodes, it could not be created
        again, and nothing could be evicted.
        """
        path = self._store.state / layout.SWEEP_LOCK
        with holding(path, _LOCK_TIMEOUT_S, is_kept=True) as lock:
            yield lock is not None

    def _remove(self, entry: IndexEntry) -> None:
        self._store.blobs.delete(entry.digest)
        self._removed()
        self._store.repositories.remove_shared_media_type(entry.digest)
        Proofs(self._store.storage).forget(entry.digest)
        self._store.index.forget(entry.digest)
        self._heal(entry)

    def _heal(self, entry: IndexEntry) -> None:
        """Remove a row that has no content.

        A download can commit content while the same content is evicted. The eviction then deletes
        the new file, and the download adds a row afterwards. This method removes the row.
        """
        revived = self._store.index.entry(entry.digest)
        if revived is None or self._store.blobs.stat(entry.digest) is not None:
            return
        if self._store.index.mark_for_deletion(revived):
            self._store.index.forget(entry.digest)


def _fields(eviction: Eviction, now: float) -> dict[str, str | int | float]:
    entry = eviction.entry
    return {
        "digest": str(entry.digest),
        "kind": entry.kind.name.lower(),
        "size": entry.size,
        "idle": round(now - entry.used, 3),
        "reason": eviction.reason.value,
    }
