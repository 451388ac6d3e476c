"""`Leftovers` removes unfinished files that killed processes left in the data directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot.cleaner.maintenance.leftovers import Leftovers
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from tests.cleaner.stock import PROXIED, pull, push
from tests.clock import Clock

_HOUR = 3600.0


@pytest.fixture
def leftovers(store: DataDirectory, clock: Clock) -> Leftovers:
    """Return the object with which the cleaner removes unfinished files."""
    return Leftovers(store, clock, stopped=lambda: False)


def test_unfinished_files_are_removed_after_a_day(
    store: DataDirectory, leftovers: Leftovers, clock: Clock, tmp_path: Path
) -> None:
    """After a day, unfinished files in all folders are removed, and finished files stay."""
    pull(store, 1, used=0)
    push(store, 2, used=0)
    values = [stat.key for stat in store.storage.walk("")]
    for key in values:
        (tmp_path / "data" / f"{key}~unfinished").touch()
    clock.now += 23 * _HOUR
    leftovers.purge_unfinished()
    assert len(_unfinished(tmp_path)) == len(values)
    clock.now += 2 * _HOUR

    leftovers.purge_unfinished()

    assert _unfinished(tmp_path) == []
    assert [stat.key for stat in store.storage.walk("")] == values


def test_the_purge_ends_when_stopped(store: DataDirectory, clock: Clock, tmp_path: Path) -> None:
    """If the process must exit, the removal of unfinished files ends before the next folder."""
    pull(store, 1, used=0, name=PROXIED)
    (tmp_path / "data" / f"{layout.origin(PROXIED)}~unfinished").touch()
    clock.now += 1000 * _HOUR
    leftovers = Leftovers(store, clock, stopped=lambda: True)

    leftovers.purge_unfinished()

    assert len(_unfinished(tmp_path)) == 1


def _unfinished(folder: Path) -> list[Path]:
    return list(folder.rglob("*~unfinished"))
