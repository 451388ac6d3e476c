"""Combine storage, index and spool folder of one data directory for the cleaner."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from entrepot.datastore.blobs import BlobStore
from entrepot.datastore.index import Cursor, Index, IndexEntry
from entrepot.datastore.repositories import Repositories
from entrepot.datastore.storage import Storage

_PAGE = 256


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """A `DataDirectory` has the content of one appliance; `spool` is the folder of downloads."""

    storage: Storage
    index: Index
    spool: Path

    @property
    def blobs(self) -> BlobStore:
        """Return a `BlobStore`, which opens files without a check of their length or hash."""
        return BlobStore(self.storage)

    @property
    def repositories(self) -> Repositories:
        """Return the links, tags and origins of all repositories."""
        return Repositories(self.storage, self.index.link_times)

    @property
    def state(self) -> Path:
        """Return the path of the state directory."""
        return self.spool.parent

    def oldest(self) -> Iterator[IndexEntry]:
        """Yield the rows of the index in the order of eviction; read 256 rows at a time."""
        after = None
        while page := self.index.oldest(after, _PAGE):
            yield from page
            after = Cursor.after(page[-1])
