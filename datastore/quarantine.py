"""Keep damaged files, whose content does not match their digest, in quarantine for the operator.

Each file in quarantine has a reservation, as a download in progress has. So the bytes of a file in
quarantine count against the cap.

In a remote storage, a damaged value is not moved: an object storage cannot move a value, and can
copy only values of up to 5 GB. Therefore the quarantine gets a *mark*: a short JSON object with the
size of the value, and the time at which the damage was found. Content that has a mark and no row in
the index is not served (`datastore/blobs.py`). If the content is stored again, it gets a row and is
served.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from entrepot.datastore import layout
from entrepot.datastore.errors import IndexUnavailable, NotFound
from entrepot.datastore.index import Index
from entrepot.datastore.refs import Digest
from entrepot.datastore.storage import Storage, is_remote, set_time, time_of

log = logging.getLogger(__name__)

_LONGEST_MARK = 4096

Report = Callable[[Digest, int, str], None]
"""A `Report` takes the digest, the size in bytes, and the operation that found the damage."""


@dataclass(frozen=True, slots=True)
class Damaged:
    """A `Damaged` is a file in quarantine.

    `size` is in bytes. `since` is the time at which the damage was found, in seconds since the UTC
    epoch.
    """

    digest: Digest
    size: int
    since: float


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A `Quarantine` is the quarantine of one data directory.

    A `Quarantine` calls `report` for each file that it adds.
    """

    storage: Storage
    index: Index
    clock: Callable[[], float] = time.time
    report: Report = lambda *_: None

    def put(self, digest: Digest, file: BinaryIO, *, size: int, found: str) -> bool:
        """Move damaged content, which is open as *file*, into quarantine.

        Return False if the content was replaced since *file* was opened. *found* names the
        operation that detected the damage. Raises: StorageFull, StorageBroken.
        """
        if is_remote(self.storage):
            return self._mark(digest, size, found)
        key = layout.quarantined(digest)
        if not self.storage.set_aside(layout.blob(digest), key, file):
            return False
        set_time(self.storage, key, self.clock())
        # If the index is unavailable, the cleaner corrects the reservation and the row later.
        with suppress(IndexUnavailable):
            self.settle(digest, size)
            self._forget_row(digest)
        log.error(
            "stored content is damaged, and was moved to the quarantine",
            extra={"digest": digest, "bytes": size, "found": found, "key": key},
        )
        self.report(digest, size, found)
        return True

    def _mark(self, digest: Digest, size: int, found: str) -> bool:
        if self.is_marked(digest):
            return True
        mark = {"size": size, "since": self.clock(), "found": found}
        self.storage.write(layout.quarantined(digest), json.dumps(mark).encode())
        with suppress(IndexUnavailable):
            self.settle(digest, size)
            # A row would show that the content is intact. So the row is removed even if a signed
            # URL or a push has pinned the content.
            self.index.discard(digest)
        log.error(
            "stored content is damaged, and is not served",
            extra={"digest": digest, "bytes": size, "found": found},
        )
        self.report(digest, size, found)
        return True

    def is_marked(self, digest: Digest) -> bool:
        """Return whether content in a remote storage is marked as damaged.

        If the index has a row of the content, the content counts as intact without a request to the
        storage, because `_mark` removes the row of damaged content. Raises: StorageBroken.
        """
        with suppress(IndexUnavailable):
            if self.index.entry(digest) is not None:
                return False
        return self.storage.stat(layout.quarantined(digest)) is not None

    def all(self) -> Iterator[Damaged]:
        """Yield the files in quarantine, ordered by digest.

        Raises: StorageFull, StorageBroken; IndexUnavailable, if the storage stores no times.
        """
        for stat in self.storage.walk(layout.QUARANTINE):
            digest = layout.quarantined_of(stat.key)
            if digest is not None and is_remote(self.storage):
                yield self._marked(digest)
            elif digest is not None:
                written = time_of(stat)
                yield Damaged(
                    digest, stat.size, self._reserved(digest) if written is None else written
                )

    def _marked(self, digest: Digest) -> Damaged:
        """Return the size and the time in a mark.

        If the mark is invalid, return the size 0 and the current time.
        """
        try:
            mark = json.loads(self.storage.read(layout.quarantined(digest), _LONGEST_MARK))
            return Damaged(digest, max(int(mark["size"]), 0), float(mark["since"]))
        except (NotFound, ValueError, TypeError, KeyError, OverflowError):
            return Damaged(digest, 0, self.clock())

    def _reserved(self, digest: Digest) -> float:
        """Return when `put` reserved the bytes of a file, in seconds since the UTC epoch.

        Return the current time if there is no reservation.
        """
        promise = layout.quarantine_reservation(digest)
        reserved = (each.at for each in self.index.reservations.all() if each.digest == promise)
        return next(reserved, self.clock())

    def settle(self, digest: Digest, size: int) -> None:
        """Reserve *size* bytes for a file in quarantine. Raises: IndexUnavailable."""
        promise = layout.quarantine_reservation(digest)
        self.index.reservations.reserve(promise, size, None, self.clock())

    def remove(self, digest: Digest) -> None:
        """Delete a file in quarantine. Raises: StorageFull, StorageBroken, IndexUnavailable."""
        self.storage.delete(layout.quarantined(digest))
        self.index.reservations.release(layout.quarantine_reservation(digest))

    def _forget_row(self, digest: Digest) -> None:
        """Remove the row of a damaged file that is in quarantine.

        If the content is pinned or is being used, the row stays, and the cleaner removes it later.
        """
        row = self.index.entry(digest)
        if row is not None and self.index.mark_for_deletion(row):
            self.index.forget(digest)
