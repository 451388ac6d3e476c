"""Decides from the results of one check whether it fails."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class CheckState:
    """The results of one check; times are in s of one clock that never goes back.

    The check fails after `threshold` failures in a row, and after the first one if that is 0. A
    check that has not ended after `period` counts as one failure more, and as another one after
    each further `period`: a storage that hangs never returns an error.
    """

    threshold: int
    period: float
    failures: int = 0
    reason: str = ""
    began: float | None = None

    def begin(self, now: float) -> None:
        """Record that the check begins."""
        self.began = now

    def end(self, reason: str) -> None:
        """Record the result of a check: why it failed, or an empty string."""
        self.began = None
        self.failures = self.failures + 1 if reason else 0
        self.reason = reason

    def failing(self, now: float) -> str:
        """Return why the check fails; an empty string if it does not."""
        running = 0.0 if self.began is None else now - self.began
        missed = int(running / self.period)
        if self.failures + missed < max(self.threshold, 1):
            return ""
        return f"no result for {missed * self.period:g} s" if missed else self.reason
