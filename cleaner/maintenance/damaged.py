"""Count the files in quarantine, and remove those that need not be kept.

A damaged file of a hosted repository is the only copy of its content. So it is kept until the
content is pushed again or the operator deletes the file. All other files in quarantine are kept for
7 days, or until space is short.

In a bucket (`datastore/quarantine.py`), damaged content is only marked. If no hosted repository
links the content, the next call of `purge` deletes it. Damaged content of a hosted repository stays
in the bucket.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.datastore.errors import DatastoreError
from entrepot.datastore.quarantine import Damaged, Quarantine
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.storage import is_remote

log = logging.getLogger(__name__)

KEPT_S = 7 * 24 * 3600.0
"""A damaged file is kept for this time (s) if it is not the only copy of hosted content."""


@dataclass(frozen=True, slots=True)
class QuarantinedFile:
    """A `QuarantinedFile` is a file in quarantine with the repositories that it affects.

    `repositories` are all repositories that link the digest of the file; `pushed` are only the
    hosted ones. `is_repaired` is True if intact content of this digest is stored again.
    """

    damaged: Damaged
    repositories: tuple[str, ...]
    pushed: tuple[str, ...]
    is_repaired: bool

    @property
    def is_lost(self) -> bool:
        """Return whether the damaged file is the only copy of hosted content."""
        return bool(self.pushed) and not self.is_repaired


class QuarantineMetrics:
    """A `QuarantineMetrics` reports the number of files in quarantine and their bytes.

    It calls *report* only when one of these numbers has changed.
    """

    def __init__(self, keeper: QuarantineKeeper, report: Callable[[int, int], None]) -> None:
        self._keeper = keeper
        self._report = report
        self._reported: tuple[int, int] | None = None

    def look(self) -> None:
        """Count the files in quarantine, and report a change; an error is ignored."""
        with suppress(DatastoreError):
            now = self._keeper.census()
            if now != self._reported:
                self._reported = now
                self._report(*now)


class QuarantineKeeper:
    """A `QuarantineKeeper` lists and removes files in quarantine.

    *clock* returns the time in seconds since the UTC epoch.
    """

    def __init__(self, store: DataDirectory, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._quarantine = Quarantine(store.storage, store.index, clock)
        self._is_remote = is_remote(store.storage)

    def cases(self) -> Iterator[QuarantinedFile]:
        """Yield all files in quarantine in the order of their digests.

        Raises: StorageFull, StorageBroken.
        """
        for damaged in self._quarantine.all():
            yield self._case(damaged)

    def settle(self) -> set[Digest]:
        """Reserve the bytes of each file in quarantine.

        Return the digests that identify these reservations.

        Raises: StorageFull, StorageBroken, IndexUnavailable.
        """
        counted = {each.digest: each.size for each in self._store.index.reservations.all()}
        reservations = set()
        for damaged in self._quarantine.all():
            reservation = layout.quarantine_reservation(damaged.digest)
            if counted.get(reservation) != damaged.size:
                self._quarantine.settle(damaged.digest, damaged.size)
            reservations.add(reservation)
        return reservations

    def purge(self) -> None:
        """Remove files that were in quarantine for 7 days and are not the only copy of content.

        Raises: DatastoreError.
        """
        for case in self.cases():
            if not case.is_lost and self._clock() - case.damaged.since > self._kept_s:
                self._remove(case)

    def make_room(self, is_enough: Callable[[], bool]) -> None:
        """Remove files that are not the only copy of content, until *is_enough* returns True.

        Raises: DatastoreError.
        """
        for case in self.cases():
            if is_enough():
                return
            if not case.is_lost:
                self._remove(case)

    def census(self) -> tuple[int, int]:
        """Return the number of files in quarantine and their bytes.

        Raises: StorageFull, StorageBroken.
        """
        sizes = [each.size for each in self._quarantine.all()]
        return len(sizes), sum(sizes)

    @property
    def _kept_s(self) -> float:
        """Return how long damaged content is kept (s), if it is not the only copy."""
        return -math.inf if self._is_remote else KEPT_S

    def _remove(self, case: QuarantinedFile) -> None:
        if self._is_remote and not case.is_repaired:
            self._store.blobs.delete(case.damaged.digest)
        self._quarantine.remove(case.damaged.digest)
        fields = {"digest": case.damaged.digest, "bytes": case.damaged.size}
        log.info("damaged file removed", extra=fields)

    def _case(self, damaged: Damaged) -> QuarantinedFile:
        links = self._store.repositories
        named = [name for name in links.below("") if self._names(name, damaged.digest)]
        pushed = [name for name in named if links.origin(name) is None]
        is_repaired = self._is_stored_again(damaged.digest)
        return QuarantinedFile(
            damaged, tuple(map(str, named)), tuple(map(str, pushed)), is_repaired
        )

    def _is_stored_again(self, digest: Digest) -> bool:
        """Return whether intact content of *digest* is stored again.

        In a bucket, damaged content has no row in the index. So content with a row is intact.
        """
        if self._is_remote:
            return self._store.index.entry(digest) is not None
        return self._store.blobs.stat(digest) is not None

    def _names(self, name: Repository, digest: Digest) -> bool:
        links = self._store.repositories
        return links.links_blob(name, digest) or links.links_manifest(name, digest)
