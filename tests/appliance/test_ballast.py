"""The file that keeps room for a start on a full disk."""

from __future__ import annotations

from pathlib import Path

from entrepot.appliance import ballast
from entrepot.datastore.budget import BALLAST_BYTES


def test_the_ballast_takes_its_room_once(tmp_path: Path) -> None:
    """In blocks of the disk, not only in its length."""
    ballast.create(tmp_path)
    ballast.create(tmp_path)
    (found,) = tmp_path.iterdir()

    assert found.stat().st_size == BALLAST_BYTES
    assert found.stat().st_blocks * 512 >= BALLAST_BYTES


def test_it_is_released_once(tmp_path: Path) -> None:
    """And a start without it goes on."""
    ballast.create(tmp_path)

    assert ballast.release(tmp_path)
    assert not ballast.release(tmp_path)


def test_a_folder_that_takes_nothing_has_none(tmp_path: Path) -> None:
    """The start does not fail for it."""
    ballast.create(tmp_path / "missing")

    assert not ballast.release(tmp_path / "missing")
