"""The bytes that the file system lacks."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from entrepot.cleaner.disk import Disk

_MIB = 1024 * 1024


def _disk(patch: pytest.MonkeyPatch, total: int, free: int) -> Disk:
    found = SimpleNamespace(f_frsize=4096, f_blocks=total // 4096, f_bavail=free // 4096)
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
    """A hundredth, 64 MiB at most, so that the access log and the index can be written."""
    assert _disk(monkeypatch, total, free).lacking(needs) == lacking


def test_a_missing_data_directory_lacks_no_space(tmp_path: Path) -> None:
    """The first blob creates it."""
    assert Disk(tmp_path / "absent").lacking(10**15) == 0
