"""What the disk itself has too little."""

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
def test_a_little_is_kept_free(
    monkeypatch: pytest.MonkeyPatch, total: int, free: int, needs: int, lacking: int
) -> None:
    """A hundredth, 64 MiB at most: log and index must go on."""
    assert _disk(monkeypatch, total, free).lacking(needs) == lacking


def test_a_folder_that_is_not_there_lacks_nothing(tmp_path: Path) -> None:
    """It is made with the first blob."""
    assert Disk(tmp_path / "absent").lacking(10**15) == 0
