"""Tests of lines that are logged rarely: the next one says how many were left out."""

from __future__ import annotations

from entrepot.runtime.rare_lines import RareLines


def test_the_next_line_has_the_number_of_lines_left_out() -> None:
    """The next line of a kind has the number of its lines left out; other kinds do not count."""
    now = 0.0
    lines = RareLines(10.0, lambda: now)

    assert [lines.due("a"), lines.due("a"), lines.due("b"), lines.due("a")] == [0, None, 0, None]
    now = 10.0
    assert [lines.due("a"), lines.due("b")] == [2, 0]
