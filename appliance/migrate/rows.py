"""Fill the target's index: last uses, manifests with their parts, times of links, and pins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, TypeVar

from entrepot.appliance.migrate.copying import target_errors
from entrepot.appliance.migrate.stock import Blob
from entrepot.datastore import layout
from entrepot.datastore.blobs import BlobStore
from entrepot.datastore.errors import DatastoreError, IndexUnavailable, InvalidManifest, NotFound
from entrepot.datastore.index import BORN, REBUILT, ContentKind, Index, IndexEntry, LinkTime
from entrepot.datastore.rebuild import needs_rebuild
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.repositories import Repositories
from entrepot.datastore.storage import Stat, Storage, set_time, time_of

_BATCH: Final = 500
_PIN_S: Final = 3600.0
"""The pins of the source are valid in the target for this many seconds, as after a push."""

T = TypeVar("T")


class LastUses:
    """A `LastUses` has the time of the last use of each blob of the source.

    The time comes from the index of the source. If the index has no row for the blob, the time of
    the blob's file is used. If the driver of the source stores no times of files, *now* is used.
    """

    def __init__(self, index: Index | None, now: float) -> None:
        self._index = index
        self._now = now

    def blobs(self, stats: Iterable[Stat], ignored: Callable[[str], None]) -> Iterator[Blob]:
        """Yield the blobs of the source. Call *ignored* for each file of another program."""
        for stat in stats:
            digest = layout.blob_of(stat.key)
            if digest is None:
                ignored(stat.key)
            else:
                yield Blob(digest, stat.size, min(self._used(digest, stat), self._now))

    def _used(self, digest: Digest, stat: Stat) -> float:
        row = None
        if self._index is not None:
            try:
                row = self._index.entry(digest)
            except IndexUnavailable:
                self._index = None
        if row is not None:
            return row.used
        written = time_of(stat)
        return self._now if written is None else written


class TargetRows:
    """A `TargetRows` writes the rows of the target's index.

    Each method raises MigrationStopped if the target fails.
    """

    def __init__(self, storage: Storage, index: Index, now: float) -> None:
        self._storage = storage
        self._index = index
        self._now = now
        self._blobs = BlobStore(storage)
        self._repositories = Repositories(storage)

    def record(self, blobs: Iterable[Blob]) -> None:
        """Record blobs with their last uses; keep a later last use that the target already has."""
        for batch in _batches(blobs):
            entries = (
                IndexEntry(each.digest, each.size, ContentKind.BLOB, each.used) for each in batch
            )
            with target_errors():
                self._index.restore(entries)
                self._index.touch({each.digest: each.used for each in batch})
                for each in batch:
                    set_time(self._storage, layout.blob(each.digest), each.used)

    def record_manifest(self, name: Repository, digest: Digest) -> None:
        """Record a stored manifest with its parts.

        The method `record` has already created a row for the manifest, but as a blob without parts.
        """
        with target_errors():
            row = self._index.entry(digest)
            if row is None or row.kind is not ContentKind.BLOB:
                return
            try:
                data = self._blobs.read(digest)
                manifest = self._repositories.read_manifest(name, digest, data)
            except (NotFound, InvalidManifest):
                return
            children = manifest.parts()
            self._index.record(digest, row.size, manifest.kind, row.used, children=children)

    def record_links(self, times: Iterable[LinkTime]) -> None:
        """Record the times at which upstreams last confirmed links."""
        with target_errors():
            self._index.link_times.restore(times)

    def finish(self, source: Index | None, *, is_complete: bool) -> None:
        """Copy the pins. If *is_complete* is true, mark the index as complete.

        An index that is not marked as complete is rebuilt when the appliance starts.
        """
        pinned, born = _state(source)
        with target_errors():
            if pinned:
                self._index.pins.pin(pinned, self._now + _PIN_S)
            if is_complete and needs_rebuild(self._index.notes):
                notes = {REBUILT: str(self._now), BORN: born or str(self._now)}
                self._index.notes.put(notes)


def _state(source: Index | None) -> tuple[set[Digest], str | None]:
    """Return the pins of the source, and the time at which its index began to record uses."""
    if source is None:
        return set(), None
    try:
        return source.pins.all(), source.notes.get(BORN)
    except DatastoreError:
        return set(), None


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    left = iter(items)
    while batch := list(islice(left, _BATCH)):
        yield batch
