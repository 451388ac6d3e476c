"""Tests when a health check counts as failing: by its threshold and its latest results."""

from __future__ import annotations

import pytest

from entrepot.appliance.health.check_state import CheckState


@pytest.mark.parametrize("threshold", [0, 1])
def test_without_a_threshold_the_first_failure_counts(threshold: int) -> None:
    """A check without a threshold fails with its first failure, as in docker distribution."""
    state = CheckState(threshold, 10)
    state.end("refused")

    assert state.failing(0) == "refused"


def test_a_check_fails_after_as_many_failures_in_a_row_as_its_threshold() -> None:
    """A check counts as failing after `threshold` failures in a row, until its next success."""
    state = CheckState(3, 10)
    seen = []
    for result in ("a", "b", "", "c", "d", "e", "f", ""):
        state.end(result)
        seen.append(state.failing(0))

    assert seen == ["", "", "", "", "", "e", "f", ""]


def test_a_check_that_does_not_end_counts_as_a_failure_in_each_period() -> None:
    """A check that hangs has one failure in each period, so it fails after `threshold` periods.

    A check of a file hangs, for example, if its disk does not respond.
    """
    state = CheckState(2, 10)
    state.begin(100)

    assert [bool(state.failing(now)) for now in (109, 119, 120)] == [False, False, True]
    assert state.failing(125) == "no result for 20 s"


def test_a_hang_adds_to_the_failures_before_it() -> None:
    """Two failed results and one period without a result reach a threshold of three."""
    state = CheckState(3, 10)
    state.end("broken")
    state.end("broken")
    state.begin(100)

    assert not state.failing(109)
    assert state.failing(110)
