"""Tests of `poll`, which calls a function until it returns a result or the deadline passes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest

from entrepot.runtime.polling import poll


class _Time:
    """A clock that moves forward only when the process sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Time:
    """Return a clock that replaces the process's clock and sleep function."""
    made = _Time()
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    monkeypatch.setattr(time, "sleep", made.sleep)
    return made


def _after(calls: int) -> Callable[[], int | None]:
    """Return a function that returns a result for the first time at call number *calls*."""
    done: list[int] = []

    def look() -> int | None:
        done.append(0)
        return len(done) if len(done) >= calls else None

    return look


def test_a_result_that_is_there_costs_no_pause(clock: _Time) -> None:
    """If the first call returns a result, `poll` does not sleep."""
    assert poll(_after(1), within=0, every=1.0) == 1
    assert clock.pauses == []


def test_the_condition_is_looked_up_after_each_pause(clock: _Time) -> None:
    """`poll` calls the function again after each sleep of the given length."""
    assert poll(_after(4), within=10.0, every=1.0) == 4
    assert clock.pauses == [1.0, 1.0, 1.0]


def test_the_wait_ends_at_the_deadline_with_a_last_look(clock: _Time) -> None:
    """`poll` shortens its last sleep so that it makes the last call at the deadline."""
    assert poll(_after(4), within=2.5, every=1.0) == 4
    assert poll(_after(5), within=2.5, every=1.0) is None
    assert clock.pauses == [1.0, 1.0, 0.5] * 2


def test_a_wait_may_have_no_limit(clock: _Time) -> None:
    """If `poll` has no deadline, it ends only when the function returns a result."""
    assert poll(_after(1000), within=math.inf, every=60.0) == 1000
    assert clock.now == 999 * 60.0


def test_a_false_result_is_a_result(clock: _Time) -> None:
    """A result such as 0 or False ends `poll`; only None means that there is no result yet."""
    assert poll(lambda: 0, within=5.0, every=1.0) == 0
    assert clock.pauses == []
