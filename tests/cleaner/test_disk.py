"""`Disk` computes how many bytes the cleaner must free on the file system."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from entrepot.cleaner.disk import Disk

_MIB = 1024 * 1024


def _disk(patch: pytest.MonkeyPatch, total: int, free: int) -> Disk:
    return _disk_of_files(patch, 0, 0, total=total, free=free)


def _disk_of_files(
    patch: pytest.MonkeyPatch,
    files: int,
    free_files: int,
    *,
    total: int = 1000 * _MIB,
    free: int = 500 * _MIB,
) -> Disk:
    found = SimpleNamespace(
        f_frsize=4096,
        f_blocks=total // 4096,
        f_bfree=free // 4096,
        f_bavail=free // 4096,
        f_files=files,
        f_ffree=free_files,
        f_favail=free_files,
    )
    patch.setattr(os, "statvfs", lambda _: found)
    return Disk(Path("/data"))


@pytest.mark.parametrize(
    ("total", "free", "needs", "lacking"),
    [
        (1000 * _MIB, 100 * _MIB, 0, 0),
        (1000 * _MIB, 100 * _MIB, 90 * _MIB, 0),
        (1000 * _MIB, 100 * _MIB, 91 * _MIB, _MIB),
        (1000 * _MIB, 0, 0, 10 * _MIB),
        (1000_000 * _MIB, 0, 0, 64 * _MIB),
    ],
    ids=["roomy", "fits", "too large", "full", "a large one"],
)
def test_a_small_part_of_the_disk_is_kept_free(
    monkeypatch: pytest.MonkeyPatch, total: int, free: int, needs: int, lacking: int
) -> None:
    """The cleaner keeps a hundredth of the disk free, but at most 64 MiB."""
    assert _disk(monkeypatch, total, free).lacking(needs) == lacking


@pytest.mark.parametrize(
    ("files", "free", "lacking"),
    [(0, 0, 0), (10_000, 100, 0), (10_000, 0, 100), (10_000, 90, 10), (10_000_000, 0, 4096)],
    ids=["without a limit", "enough", "none", "a few", "a large one"],
)
def test_a_small_part_of_the_inodes_is_kept_free(
    monkeypatch: pytest.MonkeyPatch, files: int, free: int, lacking: int
) -> None:
    """The cleaner keeps a hundredth of the inodes free, but at most 4096.

    `lacking` returns bytes: the number of missing inodes times the average size of a file.
    """
    average = 500 * _MIB // max(files - free, 1) + 1

    assert _disk_of_files(monkeypatch, files, free).lacking(0) == lacking * average


def test_a_file_system_that_counts_no_inodes_lacks_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """If a file system reports 0 free inodes, but a file can be created, no inodes are lacking."""
    _disk_of_files(monkeypatch, 10_000, 0)

    assert Disk(tmp_path).lacking(0) == 0


def test_a_missing_data_directory_lacks_no_space(tmp_path: Path) -> None:
    """If the data directory does not exist yet, the cleaner has no bytes to free."""
    assert Disk(tmp_path / "absent").lacking(10**15) == 0
