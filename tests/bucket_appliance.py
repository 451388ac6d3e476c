"""The parts of an appliance with a bucket, in one process and without clients."""

from __future__ import annotations

from pathlib import Path

from entrepot.cleaner.maintenance.index_snapshot import IndexSnapshot
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.datastore.drivers.objects.setup import parts_of
from entrepot.datastore.drivers.objects.snapshots import BucketSnapshots
from entrepot.datastore.drivers.objects.storage import ObjectStorage
from entrepot.datastore.drivers.table import open_index
from entrepot.datastore.index import Index, IndexEntry
from entrepot.datastore.rebuild import rebuild
from tests.clock import Clock
from tests.s3_front import S3Front
from tests.s3_storage import parameters

NOW = 1_700_000_000.0
DAY = 86_400.0


class Appliance:
    """An appliance that owns the bucket; its state directory is empty at first."""

    def __init__(self, s3: S3Front, state: Path) -> None:
        self.clock = Clock(NOW)
        parts = parts_of("s3", parameters(s3, state), self.clock)
        self.is_owner = True
        self.journal = parts.journal
        self.snapshots = BucketSnapshots(parts.client, parts.journal, self)
        self.index: Index = open_index(state, self.clock)
        storage = ObjectStorage(parts.client, parts.journal, self)
        self.store = DataDirectory(storage, self.index, state / layout.SPOOL)

    def holds(self) -> bool:
        """Return True if the bucket belongs to this appliance."""
        return self.is_owner

    def rebuild(self) -> None:
        """Rebuild the index as the cleaner does at its start."""
        rebuild(self.store.storage, self.index, self.clock(), snapshots=self.snapshots)

    def write(self) -> int:
        """Write the snapshot of the index, and return how many of its shards were written."""
        return IndexSnapshot(self.store, self.snapshots, self.clock).write()

    def rows(self) -> list[IndexEntry]:
        """Return all rows of the index, in the order of eviction."""
        return self.index.oldest(None, 1000)
