"""What died half way in the data directory: uploads that nobody goes on with, unfinished files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from cleaner.store import Store
from datastore import layout
from datastore.refs import Repository

log = logging.getLogger(__name__)

# docker distribution's `maintenance.uploadpurging.age`
_UPLOAD_S = 168 * 3600
_UNFINISHED_S = 24 * 3600


class Leftovers:
    """Removes both; `clock` gives s, UTC epoch, `stopped` ends it between two folders."""

    def __init__(
        self, store: Store, clock: Callable[[], float], stopped: Callable[[], bool]
    ) -> None:
        self._store = store
        self._clock = clock
        self._stopped = stopped

    def purge_uploads(self) -> None:
        """Remove uploads to which nothing was added for 168 hours.

        Raises: StorageFull, StorageBroken.
        """
        for name in self._store.repositories.below(""):
            for upload in list(self._store.storage.list(layout.uploads(name))):
                if self._stopped():
                    return
                self._purge_upload(name, upload)

    def purge_unfinished(self) -> None:
        """Remove what died before it became a value: a walk over all there is, a folder a time.

        Raises: StorageFull, StorageBroken.
        """
        before = self._clock() - _UNFINISHED_S
        removed = 0
        for folder in self._folders():
            if self._stopped():
                break
            removed += self._store.storage.tidy(folder, before)
        if removed:
            log.info("unfinished files removed", extra={"files": removed})

    def _purge_upload(self, name: Repository, upload: str) -> None:
        values = list(self._store.storage.walk(f"{layout.uploads(name)}/{upload}"))
        before = self._clock() - _UPLOAD_S
        if not values or max(stat.modified for stat in values) > before:
            return
        for stat in values:
            self._store.storage.delete(stat.key)
        log.info("abandoned upload removed", extra={"repository": name, "upload": upload})

    def _folders(self) -> Iterator[str]:
        """Yield folders that hold it all, none of them too large to be done between two looks."""
        for algorithm in self._store.storage.list(layout.BLOBS):
            for start in self._store.storage.list(f"{layout.BLOBS}/{algorithm}"):
                yield f"{layout.BLOBS}/{algorithm}/{start}"
        for name in self._store.repositories.below(""):
            yield layout.uploads(name)
            yield layout.layers(name)
            yield layout.manifests(name)
        yield from (layout.TYPES, layout.ORIGINS, layout.REFERRERS)
