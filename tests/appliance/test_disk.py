"""Tests how a start examines whether the disk can be written to."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from entrepot.appliance import disk


def test_a_disk_with_space_and_inodes_can_be_written_to(tmp_path: Path) -> None:
    """For a disk with free space and inodes `condition` returns "" and leaves no file."""
    assert disk.condition(tmp_path) == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("left", [0, 1, 7, 16])
def test_a_disk_with_few_free_inodes_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    """A disk with at most 16 free inodes counts as full.

    A start creates several files, and would fail after the first ones.
    """
    create, created = tempfile.TemporaryFile, list[Any]()

    def limited(*args: Any, **more: Any) -> Any:
        if len(created) == left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        created.append(create(*args, **more))
        return created[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", limited)

    assert disk.condition(tmp_path) == "full"
    assert all(each.closed for each in created)
