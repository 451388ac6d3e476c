"""Waits for a condition with a deadline: the one place in the system tests that sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_PAUSE = 0.02


def eventually(
    look: Callable[[], T | None], *, what: str, within: float = 15.0, pause: float = _PAUSE
) -> T:
    """Return the first true answer of *look*; fail, naming *what*, after *within* s.

    *pause*, in s, is what lies between two looks: looks that leave traces may be fewer.
    """
    deadline = time.monotonic() + within
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what}")
        time.sleep(pause)
