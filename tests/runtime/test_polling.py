"""Tests of waiting for a condition."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest

from entrepot.runtime.polling import poll


class _Time:
    """A clock that only the pauses move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Time:
    """Return the clock that replaces the process's."""
    made = _Time()
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    monkeypatch.setattr(time, "sleep", made.sleep)
    return made


def _after(calls: int) -> Callable[[], int | None]:
    """Return a function that finds a result at that call."""
    done: list[int] = []

    def look() -> int | None:
        done.append(0)
        return len(done) if len(done) >= calls else None

    return look


def test_a_result_that_is_there_costs_no_pause(clock: _Time) -> None:
    """A result that is available costs no pause."""
    assert poll(_after(1), within=0, every=1.0) == 1
    assert clock.pauses == []


def test_the_condition_is_looked_up_after_each_pause(clock: _Time) -> None:
    """The condition is checked after each pause of the given length."""
    assert poll(_after(4), within=10.0, every=1.0) == 4
    assert clock.pauses == [1.0, 1.0, 1.0]


def test_the_wait_ends_at_the_deadline_with_a_last_look(clock: _Time) -> None:
    """The last pause is shorter, so that the caller never waits longer than it asked for."""
    assert poll(_after(4), within=2.5, every=1.0) == 4
    assert poll(_after(5), within=2.5, every=1.0) is None
    assert clock.pauses == [1.0, 1.0, 0.5] * 2


def test_a_wait_may_have_no_limit(clock: _Time) -> None:
    """A wait may have no limit, and then ends only with the condition."""
    assert poll(_after(1000), within=math.inf, every=60.0) == 1000
    assert clock.now == 999 * 60.0


def test_a_false_result_is_a_result(clock: _Time) -> None:
    """A false result is a result; only None means that there is none yet."""
    assert poll(lambda: 0, within=5.0, every=1.0) == 0
    assert clock.pauses == []
