"""The drivers that every contract is tested with: the rows of the table, and those in memory.

A new driver is a row of the table, and here its parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from entrepot.datastore.drivers.memory import MemoryIndex, MemoryStorage
from entrepot.datastore.drivers.table import INDEXES, STORAGES, Parameters
from entrepot.datastore.index import REBUILT, AccessIndex
from entrepot.datastore.storage import Storage
from tests.clock import Clock

_MEMORY = "memory"
_PARAMETERS: dict[str, Callable[[Path], Parameters]] = {
    "filesystem": lambda folder: {"rootdirectory": folder / "root"},
}


@pytest.fixture(params=[*STORAGES, _MEMORY])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """Return the empty storage of one driver."""
    if request.param == _MEMORY:
        return MemoryStorage()
    return STORAGES[request.param](_PARAMETERS[request.param](tmp_path), None)


@pytest.fixture
def clock() -> Clock:
    """Return the clock of the index."""
    return Clock(1000.0)


@pytest.fixture(params=[*INDEXES, _MEMORY])
def new_index(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock
) -> Iterator[AccessIndex]:
    """Return the index of one driver in the state before its first rebuild, as after a loss."""
    if request.param == _MEMORY:
        index: AccessIndex = MemoryIndex(clock=clock, rebuilt=False)
    else:
        index = INDEXES[request.param](tmp_path, clock)
    yield index
    index.close()


@pytest.fixture
def index(new_index: AccessIndex) -> AccessIndex:
    """Return the empty index of one driver after its rebuild."""
    new_index.touch({}, {REBUILT: "0"})
    return new_index
