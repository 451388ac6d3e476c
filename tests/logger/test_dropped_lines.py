"""Tests of `read_dropped`, which reads how many log lines HAProxy could not write."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot.logger.dropped_lines import DroppedLines, read_dropped
from tests.logger.haproxy import Admin


def test_the_count_is_read_from_the_admin_socket(tmp_path: Path) -> None:
    """Each call reads the number of dropped lines from HAProxy's admin socket."""
    with Admin(tmp_path / "s") as admin:
        first = read_dropped(tmp_path / "s", DroppedLines())
        admin.dropped = 3
        second = read_dropped(tmp_path / "s", DroppedLines())

    assert first == DroppedLines(100, 0, 0)
    assert second == DroppedLines(100, 3, 3)


def test_without_a_response_the_count_is_none(tmp_path: Path) -> None:
    """If HAProxy does not respond, the number of dropped lines is None."""
    with Admin(tmp_path / "s"):
        pass

    assert read_dropped(tmp_path / "s", DroppedLines()) is None
    assert read_dropped(tmp_path / "never", DroppedLines()) is None


@pytest.mark.parametrize(
    ("pid", "raw", "total"),
    [(1, 5, 10), (1, 7, 12), (1, 4, 14), (2, 7, 17), (2, 0, 10)],
    ids=["as before", "more", "reset", "another process", "another process, nothing yet"],
)
def test_the_total_grows_across_restarts_and_resets_of_haproxy(
    pid: int, raw: int, total: int
) -> None:
    """The total of dropped lines never decreases, although a restarted HAProxy counts from 0."""
    assert DroppedLines(1, 5, 10).then(pid, raw) == DroppedLines(pid, raw, total)


@pytest.mark.parametrize("text", [None, "", "7", "{", '{"x": 1}'])
def test_an_invalid_note_loads_as_0(text: str | None) -> None:
    """If the stored number of dropped lines is unreadable, the logger starts from 0."""
    assert DroppedLines.load(text) == DroppedLines()
    assert DroppedLines.load(DroppedLines(1, 2, 3).dump()) == DroppedLines(1, 2, 3)
