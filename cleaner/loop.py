"""Run the main loop of the cleaner: a round at regular intervals and at each wake-up."""

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

    `round` takes the number of bytes that waiting downloads need, and returns False if eviction was
    postponed. `wait` takes the longest time to wait for a wake-up (s), and returns the number of
    bytes for the next round. `every` is the interval of rounds (s).
    """

    round: Callable[[int], bool]
    jobs: Jobs
    wait: Callable[[float], int]
    stopped: Callable[[], bool]
    every: float

    def run(self) -> None:
        """Run rounds until `stopped` returns True.

        After a postponed or failed round, the next round begins after at most 5 s.
        """
        needs = 0
        while not self.stopped():
            self.jobs.start_due()
            is_done = self._run_round(needs)
            needs = self.wait(self.every if is_done else min(self.every, _RETRY_S))
        self.jobs.join(_JOIN_S)

    def _run_round(self, needs: int) -> bool:
        return bool(attempt("round", lambda: self.round(needs)))


def period(every: float, ttl: float) -> float:
    """Return the interval of rounds (s): the shorter of *every* and half of *ttl*.

    If half of *ttl* is less than 1 s, use 1 s in its place. If *ttl* is 0, return *every*.
    """
    return min(every, max(ttl / 2, _SHORTEST_S)) if ttl else every
