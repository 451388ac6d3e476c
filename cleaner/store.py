"""What the cleaner works on: one data directory, its index and its spool folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from entrepot.datastore import layout
from entrepot.datastore.blobs import BlobStore
from entrepot.datastore.index import AccessIndex, Cursor, IndexEntry
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.repositories import Repositories
from entrepot.datastore.storage import Storage

_PAGE = 256


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """The datastore of one appliance; `spool` is the folder of downloads that grow."""

    storage: Storage
    index: AccessIndex
    spool: Path

    @property
    def blobs(self) -> BlobStore:
        """Content by digest."""
        return BlobStore(self.storage)

    @property
    def repositories(self) -> Repositories:
        """Links, tags and origins."""
        return Repositories(self.storage)

    @property
    def state(self) -> Path:
        """The state directory."""
        return self.spool.parent

    def linked_blob(self, name: Repository, digest: Digest) -> float | None:
        """Return when a blob was linked under a name (s, UTC epoch), or None."""
        stat = self.storage.stat(layout.layer_link(name, digest))
        return stat.modified if stat else None

    def oldest(self) -> Iterator[IndexEntry]:
        """Yield the rows in the order of eviction, a page at a time, as far as they are read."""
        after = None
        while page := self.index.oldest(after, _PAGE):
            yield from page
            after = Cursor.after(page[-1])
