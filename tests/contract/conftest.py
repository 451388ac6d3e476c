"""The drivers that every contract is tested with: a new driver is one line in a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from entrepot.datastore.drivers.filesystem import Filesystem
from entrepot.datastore.drivers.memory import MemoryIndex, MemoryStorage
from entrepot.datastore.drivers.sqlite import SqliteIndex
from entrepot.datastore.index import REBUILT, AccessIndex
from entrepot.datastore.storage import Storage
from tests.clock import Clock

_STORAGES: dict[str, Callable[[Path], Storage]] = {
    "filesystem": lambda folder: Filesystem(folder / "root"),
    "memory": lambda _: MemoryStorage(),
}
_INDEXES: dict[str, Callable[[Path, Clock], AccessIndex]] = {
    "sqlite": lambda folder, clock: SqliteIndex(folder / "index.sqlite", clock=clock),
    "memory": lambda _, clock: MemoryIndex(clock=clock, rebuilt=False),
}


@pytest.fixture(params=_STORAGES)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """Return the empty storage of one driver."""
    return _STORAGES[request.param](tmp_path)


@pytest.fixture
def clock() -> Clock:
    """Return the clock of the index."""
    return Clock(1000.0)


@pytest.fixture(params=_INDEXES)
def new_index(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock
) -> Iterator[AccessIndex]:
    """Return the index of one driver in the state before its first rebuild, as after a loss."""
    index = _INDEXES[request.param](tmp_path, clock)
    yield index
    if isinstance(index, SqliteIndex):
        index.close()


@pytest.fixture
def index(new_index: AccessIndex) -> AccessIndex:
    """Return the empty index of one driver after its rebuild."""
    new_index.touch({}, {REBUILT: "0"})
    return new_index
