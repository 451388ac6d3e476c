"""Sources and targets of migrations: on a disk, and in memory."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from entrepot.appliance.migrate.migration import Migration, Side
from entrepot.appliance.migrate.progress import Progress
from entrepot.appliance.migrate.report import Report
from entrepot.appliance.migrate.values import TREES
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.datastore.drivers.memory import MemoryIndex, MemoryStorage
from entrepot.datastore.drivers.table import open_index
from entrepot.datastore.storage import Storage, as_timed
from tests.disk_storage import disk_storage

NOW = 1_800_000_000.0


def on_disk(root: Path) -> DataDirectory:
    """Return the data directory at *root* on a disk."""
    state = root / "entrepot"
    state.mkdir(parents=True, exist_ok=True)
    return DataDirectory(disk_storage(root), open_index(state, lambda: NOW), state / "spool")


def in_memory() -> DataDirectory:
    """Return an empty data directory in memory, without file times, whose index must be rebuilt."""
    index = MemoryIndex(clock=lambda: NOW, rebuilt=False)
    return DataDirectory(MemoryStorage(), index, Path("/nonexistent"))


@dataclass
class Run:
    """Runs a migration; *interrupted_by* is called after each read with the number of bytes.

    The migration is interrupted when *interrupted_by* returns True.
    """

    scratch: Path
    interrupted_by: Callable[[int], bool] = lambda _: False
    stop: threading.Event = field(default_factory=threading.Event)

    def __call__(
        self, source: DataDirectory, target: DataDirectory, storage: Storage | None = None
    ) -> Report:
        """Migrate and return the report; *storage* replaces the storage of the target."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        (self.scratch / "stock.sqlite").unlink(missing_ok=True)
        migration = Migration(
            Side("source", source.storage, source.index),
            Side("target", storage or target.storage, target.index),
            self.scratch,
            now=NOW,
            progress=_Watched(self),
            stop=self.stop,
        )
        return migration.run()


class _Watched(Progress):
    """Interrupts the migration when `interrupted_by` returns True."""

    def __init__(self, run: Run) -> None:
        super().__init__(io.StringIO())
        self._run_of_test = run

    def moved(self, count: int) -> None:
        super().moved(count)
        if self._run_of_test.interrupted_by(count):
            self._run_of_test.stop.set()


def contents(store: DataDirectory) -> dict[str, bytes]:
    """Return the values of *store* that a migration copies, by key."""
    trees = ["docker", "scheduler-state.json", layout.TAKEOVER, *TREES[:-1]]
    keys = [stat.key for tree in trees for stat in store.storage.walk(tree)]
    return {key: store.storage.read(key) for key in keys}


def times(store: DataDirectory) -> dict[str, float]:
    """Return the time of each link of *store*, from the storage or from the index."""
    timed = as_timed(store.storage)
    if timed is None:
        return {each.key: each.at for each in store.index.link_times.page("", 1000)}
    found = timed.walk("docker/registry/v2/repositories")
    return {each.key: each.modified for each in found if "/index/" not in each.key}
