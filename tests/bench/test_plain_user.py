"""The benchmark runs as a plain user, whoever starts it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.plain_user import become, command, may_reach


def test_a_plain_user_has_no_rights_of_roots() -> None:
    """No groups, no capabilities."""
    assert command(7, 8, reads_all=False) == [
        "setpriv",
        "--reuid=7",
        "--regid=8",
        "--clear-groups",
    ]


def test_who_may_read_all_may_do_nothing_else() -> None:
    """One capability, and no other can come back."""
    words = command(7, 8, reads_all=True)

    assert "--bounding-set=-all,+dac_read_search" in words
    assert not any("resource" in word or "admin" in word for word in words)


def test_a_path_below_a_closed_folder_cannot_be_reached(tmp_path: Path) -> None:
    """Every folder on the way counts, not the last one alone."""
    inner = tmp_path / "closed" / "open"
    inner.mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)

    assert not may_reach(inner)


def test_a_path_that_everybody_may_go_to_can_be_reached() -> None:
    """The system's folders are open."""
    assert may_reach(Path("/usr/bin"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root would become somebody else")
def test_a_plain_user_stays_who_he_is(tmp_path: Path) -> None:
    """Nothing is started anew."""
    become(tmp_path / "out", [])

    assert (tmp_path / "out").is_dir()
