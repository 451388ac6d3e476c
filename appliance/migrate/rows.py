"""Copy what the index knows: last uses, manifests with their parts, times of links, pins."""

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
"""A pin of the source becomes a pin of the target for this long (s), as long as a push sets it."""

T = TypeVar("T")


class LastUses:
    """A `LastUses` has the last use of each blob of the source.

    The last use is that in the index of the source. Without a row there, it is the time of the
    file; if the source keeps no times, it is *now*.
    """

    def __init__(self, index: Index | None, now: float) -> None:
        self._index = index
        self._now = now

    def blobs(self, stats: Iterable[Stat], ignored: Callable[[str], None]) -> Iterator[Blob]:
        """Yield the blobs of the source; *ignored* is called with each key of another program."""
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
    """The rows of the target. Each method raises: MigrationStopped."""

    def __init__(self, storage: Storage, index: Index, now: float) -> None:
        self._storage = storage
        self._index = index
        self._now = now
        self._blobs = BlobStore(storage)
        self._repositories = Repositories(storage)

    def record(self, blobs: Iterable[Blob]) -> None:
        """Record content with its last use; a later use that the target knows stays."""
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
        """Record a stored manifest with its parts, in place of the row that `record` has made.

        `record` knows only that the bytes are content, not that they are a manifest.
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
        """Record when links were last confirmed."""
        with target_errors():
            self._index.link_times.restore(times)

    def finish(self, source: Index | None, *, is_complete: bool) -> None:
        """Copy the pins; if all content has rows, state that the index needs no rebuild."""
        pinned, born = _state(source)
        with target_errors():
            if pinned:
                self._index.pins.pin(pinned, self._now + _PIN_S)
            if is_complete and needs_rebuild(self._index.notes):
                notes = {REBUILT: str(self._now), BORN: born or str(self._now)}
                self._index.notes.put(notes)


def _state(source: Index | None) -> tuple[set[Digest], str | None]:
    """Return the pins of the source, and since when it records uses."""
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
