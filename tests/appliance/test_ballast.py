"""The file that reserves disk space for a start on a full disk."""

from __future__ import annotations

from pathlib import Path

from entrepot.appliance import ballast
from entrepot.datastore.budget import BALLAST_BYTES


def test_the_ballast_allocates_disk_blocks_once(tmp_path: Path) -> None:
    """A sparse file of the same length would reserve nothing."""
    ballast.create(tmp_path)
    ballast.create(tmp_path)
    (found,) = tmp_path.iterdir()

    assert found.stat().st_size == BALLAST_BYTES
    assert found.stat().st_blocks * 512 >= BALLAST_BYTES


def test_the_ballast_is_released_once(tmp_path: Path) -> None:
    """Every later start on the full disk goes on without it."""
    ballast.create(tmp_path)

    assert ballast.release(tmp_path)
    assert not ballast.release(tmp_path)


def test_a_folder_without_space_gets_no_ballast(tmp_path: Path) -> None:
    """The start does not fail because of it."""
    ballast.create(tmp_path / "missing")

    assert not ballast.release(tmp_path / "missing")
