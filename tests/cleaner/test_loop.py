"""When the cleaner does what."""

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
    """Rounds whose outcomes a test writes, and a bell that rings with what it writes."""

    outcomes: list[Callable[[], bool]]
    rings: list[int] = field(default_factory=lambda: [0] * 10)
    asked: list[int] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    def run(self, needs: int) -> bool:
        """Take the next outcome."""
        self.asked.append(needs)
        return self.outcomes.pop(0)()

    def wait(self, seconds: float) -> int:
        """Take the next ring."""
        self.slept.append(seconds)
        return self.rings.pop(0)

    def go(self, every: float) -> None:
        """Go round until no outcome is left."""
        jobs = Jobs([], Clock(0))
        RoundLoop(self.run, jobs, self.wait, lambda: not self.outcomes, every).run()


def _done() -> bool:
    return True


def _put_off() -> bool:
    return False


def _refused() -> bool:
    raise IndexUnavailable("busy")


def test_each_round_makes_room_for_what_was_asked_for_before_it() -> None:
    """And the first one for nobody."""
    work = Work([_done] * 3, rings=[500, 0, 0])

    work.go(every=1800)

    assert work.asked == [0, 500, 0]
    assert work.slept == [1800] * 3


@pytest.mark.parametrize("outcome", [_put_off, _refused], ids=["put off", "index refused"])
def test_what_could_not_be_done_is_tried_again_soon(outcome: Callable[[], bool]) -> None:
    """And the loop goes on."""
    work = Work([outcome, _done])

    work.go(every=1800)

    assert work.slept == [5, 1800]


def test_who_looks_often_does_not_wait_longer_after_a_failure() -> None:
    """Soon is never later than usual."""
    work = Work([_put_off])

    work.go(every=2)

    assert work.slept == [2]


@pytest.mark.parametrize(
    ("every", "ttl", "sleep"),
    [(1800, 0, 1800), (1800, 30 * 86400, 1800), (1800, 3, 1.5), (1800, 1, 1), (0.5, 3, 0.5)],
)
def test_a_short_ttl_is_kept_by_looking_more_often(every: float, ttl: float, sleep: float) -> None:
    """Twice in its time, and not more than once a second."""
    assert period(every, ttl) == sleep
