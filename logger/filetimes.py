"""Write access times as modification times of the stored files, at long intervals.

If the index is lost, the order of eviction is restored from these times. In a bucket, modification
times cannot be set, so a lost index is restored from its snapshot in the bucket. Content that the
snapshot lacks counts as used at the time of the rebuild.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from entrepot.datastore import layout
from entrepot.datastore.errors import IndexUnavailable, StorageBroken, StorageFull
from entrepot.datastore.index import AccessIndex
from entrepot.datastore.refs import Digest
from entrepot.datastore.storage import Storage, as_timed
from entrepot.runtime.log_once import LogOnce

_T = TypeVar("_T")
log = logging.getLogger(__name__)

STEP_S = 3600.0
"""The time of a file is written only if the access time is at least this many seconds later."""


class FileTimes:
    """A `FileTimes` writes access times to files, and has two tables for this purpose.

    One table has the known modification times of files, and the other table the access times that
    are not written yet. Each table has at most *limit* digests. If a table is full, its oldest
    entry is removed. A removed modification time is read from the file again when it is needed; a
    removed access time is written at once.
    """

    def __init__(self, storage: Storage, index: AccessIndex, *, limit: int = 20_000) -> None:
        self._storage = as_timed(storage)
        self._index = index
        self._limit = limit
        self._written: dict[Digest, float] = {}
        self._waiting: dict[Digest, float] = {}
        self._complaint = LogOnce(
            log,
            "access times cannot be written to the files",
            "access times are written to the files again",
        )

    def follow(self, stamps: Mapping[Digest, float]) -> None:
        """Write each access time that is at least STEP_S later than the time of its file.

        Other access times are kept until `flush` writes them.
        """
        for digest, at in stamps.items():
            known = self._known(digest)
            if known is None:
                continue
            if at - known >= STEP_S:
                self._write(digest, at)
            elif at > known:
                self._waiting[digest] = max(at, self._waiting.get(digest, at))
        while len(self._waiting) > self._limit:
            self._write(*next(iter(self._waiting.items())))

    def flush(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Write the access times that `follow` kept, the latest first, for at most *seconds*."""
        end = clock() + seconds
        for digest, at in sorted(self._waiting.items(), key=lambda item: item[1], reverse=True):
            if clock() >= end:
                break
            if digest in self._waiting:
                self._write(digest, at)

    def _known(self, digest: Digest) -> float | None:
        """Return the modification time of a blob's file; None if the file does not exist."""
        storage = self._storage
        if storage is None:
            return None
        if digest not in self._written:
            stat = self._attempt(lambda: storage.stat(layout.blob(digest)))
            if stat is None:
                return None
            self._remember(digest, stat.modified)
        return self._written[digest]

    def _write(self, digest: Digest, at: float) -> None:
        """Write the access time to the file of *digest*, and to its parts if their times are older.

        If a part had an older time than its manifest, it would be evicted before the manifest.
        """
        at = max(at, self._waiting.pop(digest, at))
        storage = self._storage
        if storage is not None:
            self._attempt(lambda: storage.touch(layout.blob(digest), at))
        self._remember(digest, at)
        for part in self._parts(digest):
            known = self._known(part)
            if known is not None and known < at:
                self._write(part, at)

    def _remember(self, digest: Digest, at: float) -> None:
        self._written.pop(digest, None)
        self._written[digest] = at
        if len(self._written) > self._limit:
            del self._written[next(iter(self._written))]

    def _parts(self, digest: Digest) -> list[Digest]:
        try:
            return self._index.children(digest)
        except IndexUnavailable as error:
            log.debug("parts unknown", extra={"digest": digest, "error": error})
            return []

    def _attempt(self, act: Callable[[], _T]) -> _T | None:
        """Return the result of *act*; if the storage fails, log the error and return None."""
        try:
            result = act()
        except (StorageFull, StorageBroken) as error:
            self._complaint.failed(error)
            return None
        self._complaint.worked()
        return result
