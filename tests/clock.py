"""Define a clock that a test sets."""

from __future__ import annotations


class Clock:
    """Returns the time that was last set (s, UTC epoch); ages count from `certain`."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.certain = 0.0

    def __call__(self) -> float:
        """Return the time that the test has set."""
        return self.now

    def age(self, at: float) -> float:
        """Return the age of a time, in s."""
        return max(self.now - max(at, self.certain), 0.0)

    def before(self, span: float) -> float:
        """Return the time before which a file is older than *span* s."""
        return self.now - span

    def since(self) -> float:
        """Return the time from which ages count."""
        return self.certain
