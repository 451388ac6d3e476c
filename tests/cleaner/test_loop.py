"""`RoundLoop`, the main loop of the cleaner, decides when rounds run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from entrepot.cleaner.loop import RoundLoop, period
from entrepot.cleaner.maintenance.jobs import Jobs
from entrepot.datastore.errors import IndexUnavailable
from tests.clock import Clock


@dataclass
class Work:
    """A replacement for the rounds and waits of the cleaner, which have the given outcomes."""

    outcomes: list[Callable[[], bool]]
    rings: list[int] = field(default_factory=lambda: [0] * 10)
    asked: list[int] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    def run(self, needs: int) -> bool:
        """Record the needed bytes, and return or raise the next of the given outcomes."""
        self.asked.append(needs)
        return self.outcomes.pop(0)()

    def wait(self, seconds: float) -> int:
        """Record the length of the wait (s); return the bytes that the next wake-up requests."""
        self.slept.append(seconds)
        return self.rings.pop(0)

    def go(self, every: float) -> None:
        """Run the main loop of the cleaner until every outcome was used."""
        jobs = Jobs([], Clock(0))
        RoundLoop(self.run, jobs, self.wait, lambda: not self.outcomes, every).run()


def _done() -> bool:
    return True


def _postponed() -> bool:
    return False


def _refused() -> bool:
    raise IndexUnavailable("busy")


def test_each_round_frees_the_bytes_requested_before_it() -> None:
    """A round frees the bytes that downloads requested while the cleaner waited for the round."""
    work = Work([_done] * 3, rings=[500, 0, 0])

    work.go(every=1800)

    assert work.asked == [0, 500, 0]
    assert work.slept == [1800] * 3


@pytest.mark.parametrize("outcome", [_postponed, _refused], ids=["postponed", "index refused"])
def test_a_failed_round_is_repeated_soon(outcome: Callable[[], bool]) -> None:
    """If a round was postponed or failed, the next round runs after 5 s."""
    work = Work([outcome, _done])

    work.go(every=1800)

    assert work.slept == [5, 1800]


def test_a_short_interval_is_not_lengthened_by_a_failure() -> None:
    """If the interval of rounds is shorter than 5 s, it is also the pause after a failed round."""
    work = Work([_postponed])

    work.go(every=2)

    assert work.slept == [2]


@pytest.mark.parametrize(
    ("every", "ttl", "sleep"),
    [(1800, 0, 1800), (1800, 30 * 86400, 1800), (1800, 3, 1.5), (1800, 1, 1), (0.5, 3, 0.5)],
)
def test_a_short_ttl_shortens_the_interval(every: float, ttl: float, sleep: float) -> None:
    """With a short TTL, rounds run twice in each TTL. The TTL shortens no interval below 1 s."""
    assert period(every, ttl) == sleep
