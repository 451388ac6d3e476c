"""Write the snapshot of the index into the bucket (`datastore/snapshot.py` defines the format).

Only the appliance that owns the bucket writes the snapshot. The cleaner of this appliance writes
the snapshot at most once an hour. `entrepot serve` also writes it at a normal exit, after the
logger has committed all last uses.

The snapshot has 256 parts, the shards, and only changed shards are written. A note in the index has
the hash and the entity tag of each shard that this appliance wrote. A shard counts as unchanged
only if its hash is the one in the note, and its object in the bucket has the entity tag in the
note.

The shards are created one at a time, and only a few compressed shards wait to be sent. So the whole
snapshot is never in memory.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.datastore.index import SNAPSHOT_AT, SNAPSHOT_SHARDS, ContentKind, IndexEntry
from entrepot.datastore.rebuild import born, needs_rebuild
from entrepot.datastore.refs import ALGORITHMS, Digest
from entrepot.datastore.snapshot import (
    SHARDS,
    ShardEncoder,
    SnapshotOrigin,
    SnapshotRow,
    SnapshotStore,
    shard_key,
    shard_of,
)

log = logging.getLogger(__name__)

EVERY_S: Final = 3600.0
"""The cleaner writes a snapshot at most once in this time (s)."""

_AT_ONCE: Final = 4
_PAGE: Final = 500
_MOST_ORIGINS: Final = 100_000
_HEX_LENGTH: Final = {"sha256": 64, "sha512": 128}

Written = tuple[str, str]
"""A `Written` is the hash and the entity tag of a shard that was written."""


class IndexSnapshot:
    """An `IndexSnapshot` writes the snapshot of one index.

    `clock` returns the time in seconds since the UTC epoch. If `stopped` returns True, no further
    shard is created.
    """

    def __init__(
        self,
        store: DataDirectory,
        snapshots: SnapshotStore,
        clock: Callable[[], float],
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._snapshots = snapshots
        self._clock = clock
        self._stopped = stopped

    def write_if_due(self) -> None:
        """Write a snapshot if the last one is at least an hour old. Raises: DatastoreError."""
        last = _number(self._store.index.notes.get(SNAPSHOT_AT))
        if not 0 <= self._clock() - last < EVERY_S:
            self.write()

    def write(self) -> int:
        """Write the shards that changed, and return their number.

        Write nothing if this appliance does not own the bucket, or while the index is being
        rebuilt. Raises: DatastoreError.
        """
        if not self._snapshots.holds() or needs_rebuild(self._store.index.notes):
            return 0
        began, now = time.monotonic(), self._clock()
        present = self._snapshots.tags(layout.SNAPSHOT)
        before = self._known(present)
        after = dict(before)
        notes: dict[str, str] = {}
        try:
            after.update(self._written(before, present))
            notes = {} if self._stopped() else {SNAPSHOT_AT: str(now)}
        finally:
            self._store.index.notes.put(notes | {SNAPSHOT_SHARDS: json.dumps(after)})
        count = sum(before.get(shard) != written for shard, written in after.items())
        if count:
            seconds = round(time.monotonic() - began, 3)
            log.info("snapshot of the index written", extra={"shards": count, "seconds": seconds})
        return count

    def _written(
        self, before: Mapping[str, Written], present: Mapping[str, str]
    ) -> Iterator[tuple[str, Written]]:
        """Write the changed shards, four at a time, and yield each with its hash and entity tag."""
        waiting: deque[tuple[str, str, Future[str]]] = deque()
        with ThreadPoolExecutor(_AT_ONCE, "snapshot") as pool:
            for shard, content in self._shards(present):
                digest = hashlib.sha256(content).hexdigest()
                if before.get(shard, ("", ""))[0] == digest:
                    continue
                waiting.append(
                    (shard, digest, pool.submit(self._snapshots.write, shard_key(shard), content))
                )
                if len(waiting) >= _AT_ONCE:
                    yield _outcome(waiting)
            while waiting:
                yield _outcome(waiting)

    def _shards(self, present: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
        """Yield each shard that is not empty, or that the bucket has from an earlier snapshot."""
        origins = self._origins()
        since = born(self._store.index.notes)
        for shard in SHARDS:
            if self._stopped():
                return
            encoder = ShardEncoder(since)
            for origin in origins.get(shard, ()):
                encoder.add_origin(origin)
            for row in self._rows(shard):
                encoder.add_row(row)
            if encoder.count or shard_key(shard) in present:
                yield shard, encoder.finish()

    def _rows(self, shard: str) -> Iterator[SnapshotRow]:
        index = self._store.index
        for algorithm in sorted(ALGORITHMS):
            length = _HEX_LENGTH[algorithm]
            after, until = Digest(algorithm, shard), Digest(algorithm, shard.ljust(length, "f"))
            while page := index.by_digest(after, until, _PAGE):
                after = page[-1].digest
                yield from map(self._row, page)

    def _row(self, entry: IndexEntry) -> SnapshotRow:
        if entry.kind is ContentKind.BLOB:
            return SnapshotRow(entry)
        return SnapshotRow(entry, tuple(self._store.index.children(entry.digest)))

    def _origins(self) -> Mapping[str, list[SnapshotOrigin]]:
        """Return the origins of at most `_MOST_ORIGINS` repositories, by shard."""
        found: defaultdict[str, list[SnapshotOrigin]] = defaultdict(list)
        tags = self._snapshots.tags(layout.ORIGINS)
        for key, tag in sorted(tags.items())[:_MOST_ORIGINS]:
            name = layout.origin_of(key)
            upstream = self._store.repositories.origin(name) if name and tag else None
            if name is not None and upstream is not None:
                found[shard_of(name)].append(SnapshotOrigin(name, upstream, tag))
        return found

    def _known(self, present: Mapping[str, str]) -> dict[str, Written]:
        """Return the shards that this appliance wrote and that are unchanged in the bucket."""
        noted = self._store.index.notes.get(SNAPSHOT_SHARDS)
        written: dict[str, Written] = json.loads(noted) if noted else {}
        return {
            shard: (digest, tag)
            for shard, (digest, tag) in written.items()
            if tag and present.get(shard_key(shard)) == tag
        }


def _outcome(waiting: deque[tuple[str, str, Future[str]]]) -> tuple[str, Written]:
    """Wait for the oldest write; return the shard with its hash and entity tag.

    Raises: DatastoreError.
    """
    shard, digest, writing = waiting.popleft()
    return shard, (digest, writing.result())


def _number(text: str | None) -> float:
    try:
        return float(text or "-inf")
    except ValueError:
        return float("-inf")
