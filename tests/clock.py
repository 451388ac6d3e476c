"""A clock that a test sets."""

from __future__ import annotations


class Clock:
    """Tells the time (s, UTC epoch) that was last set."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        """Tell the time."""
        return self.now
