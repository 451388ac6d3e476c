"""Rebuild the index of content in a bucket, from its snapshot and from lists of the objects.

Each read of an object in a bucket costs a request, so a rebuild reads as few objects as possible:

1. The snapshot has the rows, last uses and edges that the index had at most an hour before it was
   lost. As soon as the snapshot is restored, the appliance stores new downloads, although the used
   bytes do not yet include content that was stored later than the snapshot.
2. The lists of the bucket's objects (1,000 objects in each response) show which objects were stored
   or removed later than the snapshot. The rows of these objects are added or removed.
3. The rows that step 2 added have no edges. If such a row belongs to a linked manifest, the
   manifest is read and its edges are recorded. Other content is read only if its listed size
   differs from the size in its row.

Without a snapshot, the time of the rebuild counts as the last use of all content. The bucket has
the time at which each object was written, but this does not show when the object was last used.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import islice

from entrepot.datastore import layout, manifest
from entrepot.datastore.blobs import BlobStore
from entrepot.datastore.errors import InvalidManifest, InvalidSnapshot, NotFound
from entrepot.datastore.index import (
    BORN,
    REBUILT,
    AccessIndex,
    ContentKind,
    Index,
    IndexEntry,
)
from entrepot.datastore.manifest import Manifest
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.repositories import Repositories
from entrepot.datastore.snapshot import (
    LARGEST_SHARD,
    SHARDS,
    SnapshotOrigin,
    SnapshotRow,
    SnapshotStore,
    born_of,
    parse,
    shard_key,
)
from entrepot.datastore.storage import Storage

log = logging.getLogger(__name__)

Examine = Callable[[Digest], object]
"""An `Examine` reads content, and corrects its row or marks the content as damaged."""

_BATCH = 500
_LISTED = 1000
_YOUNG_S = 3600.0
_MOST_ORIGINS = 100_000
"""The journal of the bucket gets at most this many origins from a snapshot.

The remaining origins are read from the bucket when they are needed.
"""


def restore_snapshot(index: Index, snapshots: SnapshotStore, now: float) -> Iterator[int]:
    """Add the rows of the snapshot that the index lacks; remember the origins of repositories.

    The snapshot consists of 256 objects, its shards; a corrupt shard is ignored. If every stored
    shard is intact, the index counts as rebuilt as soon as all rows are added. Yield the number of
    lines in each batch. Raises: IndexUnavailable, StorageFull, StorageBroken.
    """
    births: list[float] = []
    origins: dict[str, tuple[bytes, str]] = {}
    listed = snapshots.tags(layout.SNAPSHOT)
    shards = [shard for shard in SHARDS if shard_key(shard) in listed]
    for shard in shards:
        content = snapshots.read(shard_key(shard), LARGEST_SHARD)
        if content is not None and _is_sound(content, shard):
            births.append(born_of(content))
            yield from _restore_shard(index, content, shard, now, origins)
    if births and len(births) == len(shards):
        index.notes.put({REBUILT: str(now), BORN: str(min(now, *births))})
    if births:
        log.info("the snapshot of the index was read", extra={"rows": index.count()})
    if origins:
        snapshots.remember(layout.ORIGINS, origins)
    yield len(origins)


def _is_sound(content: bytes, shard: str) -> bool:
    """Return whether each line of a shard is valid; log a warning if one is not."""
    try:
        for _ in parse(content, shard):
            pass
    except InvalidSnapshot as error:
        log.warning(
            "a part of the snapshot of the index is damaged, and is not used",
            extra={"key": shard_key(shard), "error": error},
        )
        return False
    return True


def _restore_shard(
    index: AccessIndex,
    content: bytes,
    shard: str,
    now: float,
    origins: dict[str, tuple[bytes, str]],
) -> Iterator[int]:
    found = parse(content, shard)
    while batch := list(islice(found, _BATCH)):
        rows = [each for each in batch if isinstance(each, SnapshotRow)]
        index.restore(
            (_used_before(row.entry, now) for row in rows),
            {row.entry.digest: row.children for row in rows if row.children},
        )
        for each in batch:
            if isinstance(each, SnapshotOrigin) and len(origins) < _MOST_ORIGINS:
                origins[layout.origin(each.name)] = each.upstream.encode(), each.entity_tag
        yield len(batch)


def _used_before(entry: IndexEntry, now: float) -> IndexEntry:
    return IndexEntry(entry.digest, entry.size, entry.kind, min(entry.used, now))


def compare_with_lists(
    storage: Storage, index: AccessIndex, now: float, examine: Examine | None
) -> Iterator[int]:
    """Add rows for the listed blobs, and remove the rows of blobs that are gone.

    A bucket lists its objects in the byte order of their keys, which is also the order of digests.
    Each batch of listed digests is compared with the rows after the last digest of the previous
    batch, up to the last digest of this batch. If a service lists objects in another order, the
    blob of a row can be missing from the batch. A HEAD request then finds the blob, and the row
    stays.

    *examine* is called for content whose listed size differs from the size in its row. The function
    reads the content, and finds out whether the content is damaged. After the index was lost,
    *examine* is None, and such rows get the listed sizes. Yield the number of rows in each batch.
    """
    marked = {layout.quarantined_of(stat.key) for stat in storage.walk(layout.QUARANTINE)}
    listed = (
        IndexEntry(digest, stat.size, ContentKind.BLOB, now)
        for stat in storage.walk(layout.BLOBS)
        if (digest := layout.blob_of(stat.key)) is not None and digest not in marked
    )
    rows = _Rows(storage, index, now, examine)
    after: Digest | None = None
    while batch := list(islice(listed, _LISTED)):
        index.restore(batch)
        until = max(each.digest for each in batch)
        yield from rows.settle({each.digest: each.size for each in batch}, after, until)
        after = until
    yield from rows.settle({}, after, None)


class _Rows:
    """A `_Rows` compares rows of the index with the listed objects, and corrects them."""

    def __init__(
        self, storage: Storage, index: AccessIndex, now: float, examine: Examine | None
    ) -> None:
        self._storage = storage
        self._index = index
        self._now = now
        self._examine = examine

    def settle(
        self, sizes: Mapping[Digest, int], after: Digest | None, until: Digest | None
    ) -> Iterator[int]:
        """Compare the rows after *after*, up to and including *until*, with *sizes*.

        *sizes* has the size in bytes of each listed blob in this range.
        """
        while page := self._index.by_digest(after, until, _BATCH):
            after = page[-1].digest
            for row in page:
                size = sizes.get(row.digest)
                if size is None:
                    self._forget_if_gone(row)
                elif size != row.size:
                    self._correct(row, size)
            yield len(page)

    def _forget_if_gone(self, row: IndexEntry) -> None:
        """Remove the row of a blob that is not stored, if its last use is over an hour ago.

        If the last use is more recent, a worker may be about to store the blob.
        """
        if row.used >= self._now - _YOUNG_S or BlobStore(self._storage).stat(row.digest):
            return
        if self._index.mark_for_deletion(row):
            self._index.forget(row.digest)

    def _correct(self, row: IndexEntry, size: int) -> None:
        if self._examine is not None:
            self._examine(row.digest)
            return
        children = self._index.children(row.digest)
        self._index.record(row.digest, size, row.kind, row.used, children=children)


def record_manifests(storage: Storage, index: AccessIndex) -> Iterator[int]:
    """Set the kind and the edges of each linked manifest whose row still has the kind BLOB.

    Yield 1 after each link, so that the caller can do other work in between.
    """
    for stat in storage.walk(layout.REPOSITORIES):
        linked = layout.revision_of(stat.key)
        if linked is None:
            continue
        name, digest = linked
        row = index.entry(digest)
        if row is not None and row.kind is ContentKind.BLOB:
            read = _read(storage, name, digest)
            if read is not None:
                index.record(digest, row.size, read.kind, row.used, children=read.parts())
        yield 1


def _read(storage: Storage, name: Repository, digest: Digest) -> Manifest | None:
    """Read and parse a linked manifest; return None if it is absent or invalid.

    If the manifest does not state its media type, a second request reads the stored type.
    """
    try:
        content = BlobStore(storage).read(digest)
    except NotFound:
        return None
    with suppress(InvalidManifest):
        return manifest.parse(content)
    with suppress(InvalidManifest):
        return Repositories(storage).read_manifest(name, digest, content)
    return None
