"""Run the cleaner's main loop, with a round at each wake-up and at regular intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from entrepot.cleaner.maintenance.jobs import Jobs, attempt

_RETRY_S = 5.0
_SHORTEST_S = 1.0
_JOIN_S = 0.5


@dataclass(frozen=True, slots=True)
class RoundLoop:
    """A `RoundLoop` runs rounds, and starts maintenance jobs that are due.

    `round` frees the given number of bytes, and returns False if eviction was postponed. `wait`
    waits up to the given seconds for a wake-up, and returns the bytes that waiting downloads need.
    """

    round: Callable[[int], bool]
    jobs: Jobs
    wait: Callable[[float], int]
    stopped: Callable[[], bool]
    every: float

    def run(self) -> None:
        """Run rounds until stopped; a postponed or failed round is repeated after 5 s."""
        needs = 0
        while not self.stopped():
            self.jobs.start_due()
            is_done = self._run_round(needs)
            needs = self.wait(self.every if is_done else min(self.every, _RETRY_S))
        self.jobs.join(_JOIN_S)

    def _run_round(self, needs: int) -> bool:
        return bool(attempt("round", lambda: self.round(needs)))


def period(every: float, ttl: float) -> float:
    """Return the interval of rounds in s: *every*, or half of *ttl* if shorter, at least 1 s."""
    return min(every, max(ttl / 2, _SHORTEST_S)) if ttl else every
