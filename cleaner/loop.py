"""When the cleaner does what: a round at each wake, and from time to time without one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from entrepot.cleaner.maintenance.jobs import Jobs, attempt

_SOON_S = 5.0
_QUICKEST_S = 1.0
_PARTING_S = 0.5


@dataclass(frozen=True, slots=True)
class RoundLoop:
    """`round` makes room for so many bytes; it is false when it could not do what it wanted.

    `wait` returns the bytes that downloads need, as soon as one rings or so many s are over.
    """

    round: Callable[[int], bool]
    jobs: Jobs
    wait: Callable[[float], int]
    stopped: Callable[[], bool]
    every: float

    def run(self) -> None:
        """Go round until stopped; what could not be done is tried again soon."""
        needs = 0
        while not self.stopped():
            self.jobs.start_due()
            is_done = self._go_round(needs)
            needs = self.wait(self.every if is_done else min(self.every, _SOON_S))
        self.jobs.join(_PARTING_S)

    def _go_round(self, needs: int) -> bool:
        return bool(attempt("round", lambda: self.round(needs)))


def period(every: float, ttl: float) -> float:
    """Return how long, in s, the cleaner may sleep: a short TTL is kept by looking more often."""
    return min(every, max(ttl / 2, _QUICKEST_S)) if ttl else every
