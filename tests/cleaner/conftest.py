"""A real data directory, its index and its spool folder, at a time that the test sets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.cleaner.store import DataDirectory
from entrepot.datastore.drivers.filesystem import Filesystem
from entrepot.datastore.drivers.sqlite import SqliteIndex
from entrepot.datastore.index import REBUILT
from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    """Tell the time at which the test began: files that it makes are new."""
    return Clock(time.time())


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[DataDirectory]:
    """Return an empty store whose index knows all that is here."""
    index = SqliteIndex(tmp_path / "state" / "index.sqlite", clock=clock)
    index.touch({}, {REBUILT: "0"})
    yield DataDirectory(Filesystem(tmp_path / "data"), index, tmp_path / "state" / "spool")
    index.close()
