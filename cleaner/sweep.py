"""Does what `policy` decided, so that it may die at any moment and be repeated.

An entry is marked in the index if nobody used it meanwhile, then its data goes, then its row.
Readers that hold the data open finish undisturbed; links to it are misses from then on.
One at a time does it: else the second could take for left behind what the first has just marked,
and remove what came back meanwhile.
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

_PATIENCE_S = 5.0

Report = Callable[[Event], None]
"""Takes an event for the logger; never raises."""


class Sweep:
    """Removes entries, one by one; `clock` gives s, UTC epoch; `removed` is called after each."""

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
        """Remove what a cleaner had marked when it died. Raises: IndexUnavailable."""
        for entry in self._store.index.leaving():
            try:
                self._finish(entry)
            except (StorageFull, StorageBroken) as error:
                log.warning("not removed", extra={"digest": entry.digest, "error": error})

    def evict(self, eviction: Eviction) -> bool:
        """Remove an entry; False when it was used or pinned meanwhile, and stays.

        Raises: StorageFull, StorageBroken: the row stays marked, for `finish`; IndexUnavailable.
        """
        entry = eviction.entry
        with self._alone() as mine:
            if not mine or not self._store.index.leave(entry):
                return False
            self._remove(entry)
        now = self._clock()
        self._report(Event("eviction", now, _fields(eviction, now)))
        log.debug("evicted", extra={"digest": entry.digest, "why": eviction.words})
        return True

    def _finish(self, entry: IndexEntry) -> None:
        with self._alone() as mine:
            if mine and entry in self._store.index.leaving():
                self._remove(entry)

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Wait for the turn to remove content, and tell whether it was given."""
        with holding(self._store.state / layout.SWEEPING, _PATIENCE_S) as held:
            yield held is not None

    def _remove(self, entry: IndexEntry) -> None:
        self._store.blobs.delete(entry.digest)
        self._removed()
        self._store.repositories.forget_shared_media_type(entry.digest)
        Proofs(self._store.storage).forget(entry.digest)
        self._store.index.forget(entry.digest)
        self._heal(entry)

    def _heal(self, entry: IndexEntry) -> None:
        """Remove a row that came back while its data went: a download had landed in between."""
        revived = self._store.index.entry(entry.digest)
        if revived is None or self._store.blobs.stat(entry.digest) is not None:
            return
        if self._store.index.leave(revived):
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
