"""How many lines HAProxy could not write."""

from __future__ import annotations

from pathlib import Path

import pytest

from logger.haproxy import Dropped, ask
from tests.logger.haproxy import Admin


def test_haproxy_says_how_many_lines_it_dropped(tmp_path: Path) -> None:
    """On its admin socket, as often as it is asked."""
    with Admin(tmp_path / "s") as admin:
        first = ask(tmp_path / "s", Dropped())
        admin.dropped = 3
        second = ask(tmp_path / "s", Dropped())

    assert first == Dropped(100, 0, 0)
    assert second == Dropped(100, 3, 3)


def test_nobody_answers(tmp_path: Path) -> None:
    """HAProxy is not there, or was: nothing is known."""
    with Admin(tmp_path / "s"):
        pass

    assert ask(tmp_path / "s", Dropped()) is None
    assert ask(tmp_path / "never", Dropped()) is None


@pytest.mark.parametrize(
    ("pid", "raw", "total"),
    [(1, 5, 10), (1, 7, 12), (1, 4, 14), (2, 7, 17), (2, 0, 10)],
    ids=["as before", "more", "reset", "another process", "another process, nothing yet"],
)
def test_the_total_goes_on_when_haproxy_begins_anew(pid: int, raw: int, total: int) -> None:
    """A counter that only grows, of counters that begin at 0."""
    assert Dropped(1, 5, 10).then(pid, raw) == Dropped(pid, raw, total)


@pytest.mark.parametrize("text", [None, "", "7", "{", '{"x": 1}'])
def test_what_never_was_a_note_is_a_beginning(text: str | None) -> None:
    """And what was dumped comes back."""
    assert Dropped.load(text) == Dropped()
    assert Dropped.load(Dropped(1, 2, 3).dump()) == Dropped(1, 2, 3)
