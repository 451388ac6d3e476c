"""The benchmark runs as a plain user, even if root starts it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.plain_user import become, command, may_reach


def test_a_plain_user_has_no_rights_of_root() -> None:
    """If root starts the benchmark, it runs as a plain user without root's supplementary groups."""
    assert command(7, 8, reads_all=False) == [
        "setpriv",
        "--reuid=7",
        "--regid=8",
        "--clear-groups",
    ]


def test_the_right_to_read_all_files_gives_no_other_right() -> None:
    """A plain user that may read all files has no other capability of root."""
    words = command(7, 8, reads_all=True)

    assert "--bounding-set=-all,+dac_read_search" in words
    assert not any("resource" in word or "admin" in word for word in words)


def test_a_path_below_a_closed_folder_cannot_be_reached(tmp_path: Path) -> None:
    """A plain user cannot reach a path if a folder above it is closed to other users."""
    inner = tmp_path / "closed" / "open"
    inner.mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)

    assert not may_reach(inner)


def test_a_path_with_open_folders_can_be_reached() -> None:
    """A plain user can reach a path if all folders above it are open to other users."""
    assert may_reach(Path("/usr/bin"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root would become another user")
def test_a_plain_user_is_not_changed(tmp_path: Path) -> None:
    """If a plain user starts the benchmark, it stays in the started process as this user."""
    become(tmp_path / "out", [])

    assert (tmp_path / "out").is_dir()
