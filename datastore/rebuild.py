"""Make the index consistent with the storage, while other processes use both.

If the index was lost, it is rebuilt from the stored files. The logger writes access times as the
times of the files (`logger/filetimes.py`), so a new row gets the time of its file as its last use.
In a storage that stores no times, the time of the rebuild counts as the last use of all content.
The linked manifests show whether a row is a manifest or a blob, and which content it references.

If a process crashed after it stored a blob and before it wrote the row, the rebuild also adds this
row. A repetition of a step is harmless, and rows that a worker adds during the rebuild are not
changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from entrepot.datastore import layout
from entrepot.datastore.blobs import BlobStore
from entrepot.datastore.errors import InvalidManifest, NotFound
from entrepot.datastore.index import (
    BORN,
    REBUILT,
    AccessIndex,
    ContentKind,
    Cursor,
    Index,
    IndexEntry,
    KeyValueStore,
)
from entrepot.datastore.manifest import Manifest
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.repositories import Repositories
from entrepot.datastore.storage import Stat, Storage, is_remote, time_of

if TYPE_CHECKING:
    from entrepot.datastore.snapshot import SnapshotStore

# A transaction has this many rows, so that other writers wait only for milliseconds.
_BATCH = 500
# If a last use or a link time is less than this many seconds ago, a worker may be about to store
# the blob.
_YOUNG_S = 3600.0


def needs_rebuild(notes: KeyValueStore) -> bool:
    """Return whether the index is new or was lost. Raises: IndexUnavailable."""
    return notes.get(REBUILT) is None


def born(notes: KeyValueStore) -> float:
    """Return the time at which the index began to record uses, in seconds since the UTC epoch.

    Raises: IndexUnavailable.
    """
    return float(notes.get(BORN) or 0)


def rebuild(
    storage: Storage,
    index: Index,
    now: float,
    between: Callable[[], None] = lambda: None,
    *,
    snapshots: SnapshotStore | None = None,
    examine: Callable[[Digest], object] | None = None,
) -> None:
    """Add a row for every blob, remove the rows of deleted blobs, and set the note `REBUILT`.

    *snapshots* and *examine* are used only if the storage is a bucket. A lost index is first
    restored from *snapshots*. If the index was not lost, *examine* is called for content whose size
    in the list of the bucket differs from the size in its row.

    *between* is called after each batch. If *between* raises an exception, the rebuild ends, and
    the caller can start it again later. Raises: IndexUnavailable, StorageFull, StorageBroken.
    """
    for steps in _steps(storage, index, now, snapshots, examine):
        for _ in steps:
            between()
    notes = {REBUILT: str(now)}
    index.notes.put(notes | {BORN: str(now)} if needs_rebuild(index.notes) else notes)


def _steps(
    storage: Storage,
    index: Index,
    now: float,
    snapshots: SnapshotStore | None,
    examine: Callable[[Digest], object] | None,
) -> Iterator[Iterator[int]]:
    """Yield the steps of a rebuild; each step is an iterator that does one batch at a time."""
    if not is_remote(storage):
        yield _restore(storage, index, now)
        yield _record_manifests(storage, index)
        yield _remove_stale(storage, index, now)
    else:
        from entrepot.datastore import bucket_rebuild  # noqa: PLC0415 - only with a bucket

        is_lost = needs_rebuild(index.notes)
        if snapshots is not None and is_lost:
            yield bucket_rebuild.restore_snapshot(index, snapshots, now)
        examined = None if is_lost else examine
        yield bucket_rebuild.compare_with_lists(storage, index, now, examined)
        yield bucket_rebuild.record_manifests(storage, index)
    yield _forget_link_times(index, now)


def _restore(storage: Storage, index: AccessIndex, now: float) -> Iterator[int]:
    """Add the missing rows with the kind BLOB; `_record_manifests` corrects the kinds later."""
    entries = (_entry(stat, now) for stat in storage.walk(layout.BLOBS))
    known = (entry for entry in entries if entry is not None)
    while batch := list(islice(known, _BATCH)):
        index.restore(batch)
        yield len(batch)


def _entry(stat: Stat, now: float) -> IndexEntry | None:
    """Return the row of a blob; None if *stat* does not describe a blob.

    The last use is the time of the file, but at most *now*. If the storage stores no times, the
    last use is *now*.
    """
    digest = layout.blob_of(stat.key)
    written = time_of(stat)
    used = now if written is None else min(written, now)
    return IndexEntry(digest, stat.size, ContentKind.BLOB, used) if digest else None


def _record_manifests(storage: Storage, index: AccessIndex) -> Iterator[int]:
    """Set the kind of rows that are manifests, and record their edges."""
    repositories = Repositories(storage)
    for repository in repositories.below(""):
        for digest in repositories.manifests(repository):
            row = index.entry(digest)
            if row is None or row.kind is not ContentKind.BLOB:
                continue
            manifest = _read(storage, repository, digest)
            if manifest is not None:
                index.record(digest, row.size, manifest.kind, row.used, children=manifest.parts())
            yield 1


def _read(storage: Storage, name: Repository, digest: Digest) -> Manifest | None:
    """Parse a linked manifest; return None if it is absent or invalid."""
    try:
        data = BlobStore(storage).read(digest)
        return Repositories(storage).read_manifest(name, digest, data)
    except (NotFound, InvalidManifest):
        return None


def _remove_stale(storage: Storage, index: AccessIndex, now: float) -> Iterator[int]:
    """Remove the rows whose last use is over an hour ago and whose blob is not stored.

    If the last use is more recent, a worker may be about to store the blob.
    """
    blobs = BlobStore(storage)
    after: Cursor | None = None
    while page := index.oldest(after, _BATCH):
        after = Cursor.after(page[-1])
        for entry in page:
            is_gone = entry.used < now - _YOUNG_S and blobs.stat(entry.digest) is None
            # A worker may store the blob at this moment. The worker then writes the row after the
            # blob: it adds the row again, or removes the mark of the row. So the blob does not lose
            # its row.
            if is_gone and index.mark_for_deletion(entry):
                index.forget(entry.digest)
        yield len(page)


def _forget_link_times(index: Index, now: float) -> Iterator[int]:
    """Remove the times of links to content that is not stored.

    Another program can remove such a link, but not the time of the link in the index. A time within
    the last hour stays, because a worker may be about to store the content.
    """
    after = ""
    while page := index.link_times.page(after, _BATCH):
        after = page[-1].key
        old = [each for each in page if each.at < now - _YOUNG_S]
        gone = [each.key for each in old if index.entry(each.digest) is None]
        if gone:
            index.link_times.forget(gone)
        yield len(page)
