"""Brings the index in line with the storage, while others serve from both.

A lost index comes back from what lies on the disk: file times are last uses (the logger keeps them
so), and the manifests that repositories link tell kinds and names. It heals the small differences
too that a crash leaves between a blob and its row. Every step may be repeated, and a row that a
worker made meanwhile is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from entrepot.datastore import layout
from entrepot.datastore.blobs import BlobStore
from entrepot.datastore.errors import InvalidManifest, NotFound
from entrepot.datastore.index import REBUILT, AccessIndex, ContentKind, Cursor, IndexEntry
from entrepot.datastore.manifest import Manifest
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.repositories import Repositories
from entrepot.datastore.storage import Stat, Storage

BORN = "born"
"""The note that says when the index was made: it knows of no use before."""

_BATCH = 500  # rows a transaction: other writers wait for milliseconds
_YOUNG_S = 3600.0  # between a worker's last sign of a blob and its row lies much less


def needs_rebuild(index: AccessIndex) -> bool:
    """Whether the index is new or was lost. Raises: IndexUnavailable."""
    return index.note(REBUILT) is None


def born(index: AccessIndex) -> float:
    """Return since when the index sees what is used (s, UTC epoch). Raises: IndexUnavailable."""
    return float(index.note(BORN) or 0)


def rebuild(
    storage: Storage, index: AccessIndex, now: float, between: Callable[[], None] = lambda: None
) -> None:
    """Give every blob its row and take the row from what is gone; then note it.

    *between* is called after each batch; what it raises ends the work, to be begun again.
    Raises: IndexUnavailable, StorageFull, StorageBroken.
    """
    for steps in (_restore(storage, index, now), _name(storage, index), _drop(storage, index, now)):
        for _ in steps:
            between()
    notes = {REBUILT: str(now)}
    index.touch({}, notes | {BORN: str(now)} if needs_rebuild(index) else notes)


def _restore(storage: Storage, index: AccessIndex, now: float) -> Iterator[int]:
    """Make the missing rows, each a blob until a manifest's link says more."""
    entries = (_entry(stat, now) for stat in storage.walk(layout.BLOBS))
    known = (entry for entry in entries if entry is not None)
    while batch := list(islice(known, _BATCH)):
        index.restore(batch)
        yield len(batch)


def _entry(stat: Stat, now: float) -> IndexEntry | None:
    """Return the row of a blob, used at the time of its file, but never later than *now*."""
    digest = layout.blob_of(stat.key)
    used = min(stat.modified, now)
    return IndexEntry(digest, stat.size, ContentKind.BLOB, used) if digest else None


def _name(storage: Storage, index: AccessIndex) -> Iterator[int]:
    """Tell the manifests from the blobs, and record what they name."""
    repositories = Repositories(storage)
    for repository in repositories.below(""):
        for digest in repositories.manifests(repository):
            row = index.entry(digest)
            if row is None or row.kind is not ContentKind.BLOB:
                continue
            manifest = _read(storage, repository, digest)
            if manifest is not None:
                index.record(digest, row.size, manifest.kind, row.used, names=manifest.parts())
            yield 1


def _read(storage: Storage, name: Repository, digest: Digest) -> Manifest | None:
    """Read a linked manifest; None when it is gone, or is none that is known here."""
    try:
        data = BlobStore(storage).read(digest)
        return Repositories(storage).read_manifest(name, digest, data)
    except (NotFound, InvalidManifest):
        return None


def _drop(storage: Storage, index: AccessIndex, now: float) -> Iterator[int]:
    """Remove rows whose data is gone; a young one may be a worker's that is coming in."""
    blobs = BlobStore(storage)
    after: Cursor | None = None
    while page := index.oldest(after, _BATCH):
        after = Cursor.after(page[-1])
        for entry in page:
            is_gone = entry.used < now - _YOUNG_S and blobs.stat(entry.digest) is None
            # a worker that stores it now records it after, and so revives or makes the row
            if is_gone and index.mark_for_deletion(entry):
                index.forget(entry.digest)
        yield len(page)
