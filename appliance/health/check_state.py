"""Decide from the last results of a health check whether the check counts as failing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class CheckState:
    """A `CheckState` has the last results of one health check.

    Times are in seconds of a monotonic clock.

    The check fails after `threshold` failures in a row; a threshold of 0 means 1. A disk that hangs
    never returns an error, so a check that runs for longer than `period` counts as one failure for
    each whole `period` that has passed.
    """

    threshold: int
    period: float
    failures: int = 0
    reason: str = ""
    began: float | None = None

    def begin(self, now: float) -> None:
        """Record that a run of the check begins."""
        self.began = now

    def end(self, reason: str) -> None:
        """Record the result of the current run: the reason of its failure, or an empty string."""
        self.began = None
        self.failures = self.failures + 1 if reason else 0
        self.reason = reason

    def failing(self, now: float) -> str:
        """Return the reason why the check fails; an empty string if the check passes."""
        running = 0.0 if self.began is None else now - self.began
        missed = int(running / self.period)
        if self.failures + missed < max(self.threshold, 1):
            return ""
        return f"no result for {missed * self.period:g} s" if missed else self.reason
