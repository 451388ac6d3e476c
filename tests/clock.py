"""A stand-in for the appliance's clock; a test sets the time of the clock."""

from __future__ import annotations


class Clock:
    """A clock that returns `now` (seconds since the UTC epoch).

    The method `age` replaces a time before `certain` by `certain`.
    """

    def __init__(self, now: float) -> None:
        self.now = now
        self.certain = 0.0

    def __call__(self) -> float:
        """Return the time that the test has set (seconds since the UTC epoch)."""
        return self.now

    def age(self, at: float) -> float:
        """Return the seconds since *at*, or since `certain` if that is later."""
        return max(self.now - max(at, self.certain), 0.0)

    def before(self, span: float) -> float:
        """Return the time *span* seconds ago; a file with an earlier time is older than *span*."""
        return self.now - span

    def since(self) -> float:
        """Return `certain`, the earliest time from which an age is measured."""
        return self.certain
