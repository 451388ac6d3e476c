"""Tests of the number of log lines that HAProxy could not write."""

from __future__ import annotations

from pathlib import Path

import pytest

from logger.haproxy import Dropped, read_dropped
from tests.logger.haproxy import Admin


def test_the_count_is_read_from_the_admin_socket(tmp_path: Path) -> None:
    """It is read again with each call."""
    with Admin(tmp_path / "s") as admin:
        first = read_dropped(tmp_path / "s", Dropped())
        admin.dropped = 3
        second = read_dropped(tmp_path / "s", Dropped())

    assert first == Dropped(100, 0, 0)
    assert second == Dropped(100, 3, 3)


def test_without_a_response_the_count_is_none(tmp_path: Path) -> None:
    """HAProxy never ran, or has ended."""
    with Admin(tmp_path / "s"):
        pass

    assert read_dropped(tmp_path / "s", Dropped()) is None
    assert read_dropped(tmp_path / "never", Dropped()) is None


@pytest.mark.parametrize(
    ("pid", "raw", "total"),
    [(1, 5, 10), (1, 7, 12), (1, 4, 14), (2, 7, 17), (2, 0, 10)],
    ids=["as before", "more", "reset", "another process", "another process, nothing yet"],
)
def test_the_total_grows_across_restarts_and_resets_of_haproxy(
    pid: int, raw: int, total: int
) -> None:
    """HAProxy's own counters start at 0 again."""
    assert Dropped(1, 5, 10).then(pid, raw) == Dropped(pid, raw, total)


@pytest.mark.parametrize("text", [None, "", "7", "{", '{"x": 1}'])
def test_an_invalid_note_loads_as_0(text: str | None) -> None:
    """A dumped count is loaded unchanged."""
    assert Dropped.load(text) == Dropped()
    assert Dropped.load(Dropped(1, 2, 3).dump()) == Dropped(1, 2, 3)
