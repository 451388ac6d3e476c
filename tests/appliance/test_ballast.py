"""The ballast file reserves disk space for a start on a full disk."""

from __future__ import annotations

from pathlib import Path

from entrepot.appliance import ballast
from entrepot.datastore.budget import BALLAST_BYTES


def test_the_ballast_allocates_disk_blocks_once(tmp_path: Path) -> None:
    """The ballast file has all its disk blocks, because a sparse file would reserve nothing.

    A second call of `create` allocates no more blocks.
    """
    ballast.create(tmp_path)
    ballast.create(tmp_path)
    (found,) = tmp_path.iterdir()

    assert found.stat().st_size == BALLAST_BYTES
    assert found.stat().st_blocks * 512 >= BALLAST_BYTES


def test_the_ballast_is_released_once(tmp_path: Path) -> None:
    """The ballast is released once; later starts on the full disk go on without it."""
    ballast.create(tmp_path)

    assert ballast.release(tmp_path)
    assert not ballast.release(tmp_path)


def test_a_folder_without_space_gets_no_ballast(tmp_path: Path) -> None:
    """A folder without space gets no ballast, and the start does not fail because of that."""
    ballast.create(tmp_path / "missing")

    assert not ballast.release(tmp_path / "missing")
