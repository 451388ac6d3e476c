"""Tests of `RareLines`, which writes a repeated log line only once in a period.

The next line that is written states the number of omitted lines.
"""

from __future__ import annotations

from entrepot.runtime.rare_lines import RareLines


def test_the_next_line_has_the_number_of_lines_left_out() -> None:
    """After the period, the next line of a kind states the number of omitted lines.

    Lines of other kinds are counted separately.
    """
    now = 0.0
    lines = RareLines(10.0, lambda: now)

    assert [lines.due("a"), lines.due("a"), lines.due("b"), lines.due("a")] == [0, None, 0, None]
    now = 10.0
    assert [lines.due("a"), lines.due("b")] == [2, 0]
