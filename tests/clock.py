"""A stand-in for the appliance's clock, which a test sets."""

from __future__ import annotations


class Clock:
    """A clock that returns `now` (Unix seconds); ages count from `certain` at the earliest."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.certain = 0.0

    def __call__(self) -> float:
        """Return the time that the test has set (Unix seconds)."""
        return self.now

    def age(self, at: float) -> float:
        """Return the age of the time *at*, in s; it counts from `certain` at the earliest."""
        return max(self.now - max(at, self.certain), 0.0)

    def before(self, span: float) -> float:
        """Return the time *span* s ago; a file that was written earlier is older than *span*."""
        return self.now - span

    def since(self) -> float:
        """Return the time from which ages can count."""
        return self.certain
