"""Tests of `Progress`: the line about a migration, and its output on a terminal."""

from __future__ import annotations

import io

from entrepot.appliance.migrate.progress import Progress
from entrepot.appliance.migrate.stock import Count
from tests.system.waiting import eventually


class _Terminal(io.StringIO):
    """A stand-in for a terminal, which stores the output."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def test_a_step_with_a_known_total_shows_numbers_bytes_and_rate() -> None:
    """The line about progress has the copied and the expected number of blobs and bytes."""
    progress = Progress(io.StringIO())
    progress.begin("blobs", Count(10, 4 * 1024 * 1024))
    progress.moved(1024 * 1024)
    progress.done()

    line = progress.line()

    assert line.startswith("blobs: 1 of 10, 1.0 MiB of 4.0 MiB, ")
    assert "/s" in line


def test_a_step_without_a_total_shows_a_number() -> None:
    """The line about links has only the number of copied links: their total is unknown."""
    progress = Progress(io.StringIO())
    progress.begin("links, tags and other values")
    for _ in range(3):
        progress.done()

    assert progress.line() == "links, tags and other values: 3"


def test_a_terminal_has_one_line_that_changes_and_is_cleared() -> None:
    """On a terminal each line of progress replaces the previous line; the last line is erased."""
    terminal = _Terminal()
    with Progress(terminal) as progress:
        progress.begin("blobs found")
        eventually(lambda: "blobs found: 0" in terminal.getvalue(), what="a first line", within=60)

    assert "\n" not in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")
