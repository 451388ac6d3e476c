"""`python -m bench hits` prints a table that compares two checkouts."""

from __future__ import annotations

from bench.hit_cost import Comparison, table


def test_the_difference_is_the_median_of_the_rounds_differences() -> None:
    """The difference of two checkouts is the median of the differences in the single rounds.

    In a round, other programs slow down both checkouts alike, so a slow round does not change the
    result.
    """
    comparison = Comparison("blob, GET", (100.0, 300.0, 104.0), (99.0, 297.0, 110.0))

    assert comparison.difference == 1.0


def test_the_table_has_a_line_for_each_kind_of_hit() -> None:
    """The printed table has a line for each kind of request: both medians and the difference."""
    printed = table([Comparison("blob, GET", (100.0,), (90.0,))])

    assert printed.splitlines()[1].split() == ["blob,", "GET", "100.0", "90.0", "+10.0"]
