"""The benchmark runs as a plain user, even if root starts it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.plain_user import become, command, may_reach


def test_a_plain_user_has_no_rights_of_root() -> None:
    """A benchmark that root started runs as a plain user without groups, capabilities or rights."""
    assert command(7, 8, reads_all=False) == [
        "setpriv",
        "--reuid=7",
        "--regid=8",
        "--clear-groups",
    ]


def test_the_right_to_read_all_files_gives_no_other_right() -> None:
    """A plain user that may read all files gets no other right of root back."""
    words = command(7, 8, reads_all=True)

    assert "--bounding-set=-all,+dac_read_search" in words
    assert not any("resource" in word or "admin" in word for word in words)


def test_a_path_below_a_closed_folder_cannot_be_reached(tmp_path: Path) -> None:
    """A plain user cannot reach a path if any of its parent folders is closed to others."""
    inner = tmp_path / "closed" / "open"
    inner.mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)

    assert not may_reach(inner)


def test_a_path_with_open_folders_can_be_reached() -> None:
    """A plain user can reach a path whose parent folders are all open to others."""
    assert may_reach(Path("/usr/bin"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root would become another user")
def test_a_plain_user_is_not_changed(tmp_path: Path) -> None:
    """A benchmark that a plain user started goes on in the same process, without a new user."""
    become(tmp_path / "out", [])

    assert (tmp_path / "out").is_dir()
