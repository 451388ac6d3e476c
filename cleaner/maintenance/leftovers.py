"""Remove unfinished files, which remain if a process dies during a write to the storage."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.runtime.clock import Ages

log = logging.getLogger(__name__)

_UNFINISHED_S = 24 * 3600


class Leftovers:
    """A `Leftovers` removes unfinished files.

    *clock* returns the time in seconds since the UTC epoch. If *stopped* returns True, the removal
    ends before the next folder.
    """

    def __init__(self, store: DataDirectory, clock: Ages, stopped: Callable[[], bool]) -> None:
        self._store = store
        self._clock = clock
        self._stopped = stopped

    def purge_unfinished(self) -> None:
        """Remove unfinished files older than 24 h from all folders.

        Raises: StorageFull, StorageBroken.
        """
        before = self._clock.before(_UNFINISHED_S)
        removed = 0
        for folder in self._folders():
            if self._stopped():
                break
            removed += self._store.storage.remove_unfinished(folder, before)
        if removed:
            log.info("unfinished files removed", extra={"files": removed})

    def _folders(self) -> Iterator[str]:
        """Yield folders that together contain all files.

        The folders are small, because the job can be interrupted only between two folders.
        """
        for algorithm in self._store.storage.list(layout.BLOBS):
            for start in self._store.storage.list(f"{layout.BLOBS}/{algorithm}"):
                yield f"{layout.BLOBS}/{algorithm}/{start}"
        for name in self._store.repositories.below(""):
            yield layout.uploads(name)
            yield layout.layers(name)
            yield layout.manifests(name)
        yield from (
            layout.TYPES,
            layout.MEDIA_TYPES,
            layout.PROOFS,
            layout.ORIGINS,
            layout.REFERRERS,
        )
