"""A real data directory, its index and its spool folder, at a time that the test sets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cleaner.store import Store
from datastore.filesystem import Filesystem
from datastore.index import REBUILT
from datastore.sqlite import SqliteIndex
from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    """Tell the time at which the test began: files that it makes are new."""
    return Clock(time.time())


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    """Return an empty store whose index knows all that is here."""
    index = SqliteIndex(tmp_path / "state" / "index.sqlite", clock=clock)
    index.touch({}, {REBUILT: "0"})
    yield Store(Filesystem(tmp_path / "data"), index, tmp_path / "state" / "spool")
    index.close()
