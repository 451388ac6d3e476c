"""Waits for a condition with a deadline; tests use this instead of a sleep of fixed length."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_PAUSE = 0.02


def eventually(
    condition: Callable[[], T | None], *, what: str, within: float = 15.0, pause: float = _PAUSE
) -> T:
    """Return the first true result of *condition*, or fail after *within* seconds.

    *what* names the condition in the error. *pause* is the time between two calls (s); a
    condition that leaves traces, such as log lines, needs a longer pause.
    """
    deadline = time.monotonic() + within
    while True:
        seen = condition()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what}")
        time.sleep(pause)
