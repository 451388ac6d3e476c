"""Looks after the files in quarantine: counts them, and removes what need not be kept.

A damaged file of a pushed repository stays until the content was pushed again or the operator
deletes it: there is no other copy. All others are kept for a while, and go first when room is
short.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.datastore.errors import DatastoreError
from entrepot.datastore.quarantine import Damaged, Quarantine
from entrepot.datastore.refs import Digest, Repository

log = logging.getLogger(__name__)

KEPT_S = 7 * 24 * 3600.0
"""How long a damaged file is kept whose content came back, or can come back from an upstream."""


@dataclass(frozen=True, slots=True)
class QuarantinedFile:
    """A file in quarantine, the repositories that name it, and which of these were pushed to.

    `is_repaired`: right content is stored under its digest again.
    """

    damaged: Damaged
    repositories: tuple[str, ...]
    pushed: tuple[str, ...]
    is_repaired: bool

    @property
    def is_lost(self) -> bool:
        """Whether only the damaged file is left of something that was pushed."""
        return bool(self.pushed) and not self.is_repaired


class QuarantineMetrics:
    """Tells how much lies in quarantine whenever that has changed; *tell* takes files and bytes."""

    def __init__(self, keeper: QuarantineKeeper, tell: Callable[[int, int], None]) -> None:
        self._keeper = keeper
        self._tell = tell
        self._told: tuple[int, int] | None = None

    def look(self) -> None:
        """Count, and tell a change; a disk that fails is asked again later."""
        with suppress(DatastoreError):
            now = self._keeper.census()
            if now != self._told:
                self._told = now
                self._tell(*now)


class QuarantineKeeper:
    """Looks after the quarantine of one store; `clock` gives s, UTC epoch."""

    def __init__(self, store: DataDirectory, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._quarantine = Quarantine(store.storage, store.index, clock)

    def cases(self) -> Iterator[QuarantinedFile]:
        """Yield all files, by digest. Raises: StorageFull, StorageBroken."""
        for damaged in self._quarantine.all():
            yield self._case(damaged)

    def settle(self) -> set[Digest]:
        """Count every file; return the digests under which they are counted.

        Raises: StorageFull, StorageBroken, IndexUnavailable.
        """
        counted = {each.digest: each.size for each in self._store.index.reservations()}
        promises = set()
        for damaged in self._quarantine.all():
            promise = layout.quarantine_promise(damaged.digest)
            if counted.get(promise) != damaged.size:
                self._quarantine.settle(damaged.digest, damaged.size)
            promises.add(promise)
        return promises

    def purge(self) -> None:
        """Remove what was kept long enough. Raises: DatastoreError."""
        for case in self.cases():
            if not case.is_lost and self._clock() - case.damaged.since > KEPT_S:
                self._remove(case)

    def make_room(self, is_enough: Callable[[], bool]) -> None:
        """Remove what need not be kept until there is enough room. Raises: DatastoreError."""
        for case in self.cases():
            if is_enough():
                return
            if not case.is_lost:
                self._remove(case)

    def census(self) -> tuple[int, int]:
        """Return how many files there are, and their bytes. Raises: StorageFull, StorageBroken."""
        sizes = [each.size for each in self._quarantine.all()]
        return len(sizes), sum(sizes)

    def _remove(self, case: QuarantinedFile) -> None:
        self._quarantine.remove(case.damaged.digest)
        fields = {"digest": case.damaged.digest, "bytes": case.damaged.size}
        log.info("damaged file removed", extra=fields)

    def _case(self, damaged: Damaged) -> QuarantinedFile:
        links = self._store.repositories
        named = [name for name in links.below("") if self._names(name, damaged.digest)]
        pushed = [name for name in named if links.origin(name) is None]
        is_repaired = self._store.blobs.stat(damaged.digest) is not None
        return QuarantinedFile(
            damaged, tuple(map(str, named)), tuple(map(str, pushed)), is_repaired
        )

    def _names(self, name: Repository, digest: Digest) -> bool:
        links = self._store.repositories
        return links.links_blob(name, digest) or links.linked_manifest(name, digest) is not None
