"""Tests that `DiskSpace` recognizes a file system without free space or free inodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot.datastore.disk_space import DiskSpace, disk_space


@pytest.mark.parametrize(
    ("space", "problem"),
    [
        (DiskSpace(10**9, 10, is_read_only=False), ""),
        (DiskSpace(10**9, None, is_read_only=False), ""),
        (DiskSpace(10**9, 10, is_read_only=True), "read-only"),
        (DiskSpace(0, 10, is_read_only=False), "full"),
        (DiskSpace(4096, 10, is_read_only=False), "full"),
        (DiskSpace(10**9, 0, is_read_only=False), "out of inodes"),
    ],
    ids=lambda each: str(each)[:40],
)
def test_a_problem_is_named(space: DiskSpace, problem: str) -> None:
    """`problem` names the reason if a file system is full, read-only or without free inodes.

    A file system that does not limit the number of inodes never lacks inodes.
    """
    assert space.problem == problem


def test_a_missing_folder_has_the_space_of_its_parent(tmp_path: Path) -> None:
    """If a folder does not exist, its nearest existing parent is examined."""
    found = disk_space(tmp_path / "a" / "b")

    assert found.free > 0
    assert found.is_read_only is False
