"""Define fixtures: a data directory on a disk with an index, and a clock that tests set."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.cleaner.store import DataDirectory
from entrepot.datastore.drivers.table import open_index
from entrepot.datastore.index import REBUILT
from tests.clock import Clock
from tests.disk_storage import disk_storage


@pytest.fixture
def clock() -> Clock:
    """Return a clock with a constant time, the start of the test, until the test sets it."""
    return Clock(time.time())


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[DataDirectory]:
    """Return an empty data directory with a rebuilt index."""
    index = open_index(tmp_path / "state", clock)
    index.notes.put({REBUILT: "0"})
    yield DataDirectory(disk_storage(tmp_path / "data"), index, tmp_path / "state" / "spool")
    index.close()
