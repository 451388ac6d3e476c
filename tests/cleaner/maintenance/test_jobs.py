"""Long work beside the rounds."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from entrepot.cleaner.maintenance.jobs import Job, Jobs, attempt, do
from entrepot.datastore.errors import IndexUnavailable
from tests.clock import Clock


@pytest.fixture
def timer() -> Clock:
    """Return a clock that does not go back."""
    return Clock(0)


def _refuse() -> None:
    raise IndexUnavailable("busy")


def test_a_chore_is_done_at_once_and_again_when_its_time_has_come(timer: Clock) -> None:
    """Not before, however often it is looked at."""
    done: list[float] = []
    jobs = Jobs([Job("sweep", 60, lambda: done.append(timer.now))], timer)

    for now in (0.0, 59.0, 60.0, 61.0, 121.0):
        timer.now = now
        jobs.start_due()
        jobs.join(10)

    assert done == [0, 60, 121]


def test_nothing_is_begun_while_something_is_done(timer: Clock) -> None:
    """And what did not begin is still due."""
    free, begun, done = threading.Event(), threading.Event(), list[str]()

    def long() -> None:
        begun.set()
        free.wait(10)
        done.append("long")

    jobs = Jobs([Job("long", 60, long), Job("short", 0, lambda: done.append("short"))], timer)
    jobs.start_due()
    assert begun.wait(10)
    jobs.start_due()
    free.set()
    jobs.join(10)
    assert done == ["long", "short"]

    jobs.start_due()
    jobs.join(10)

    assert done == ["long", "short", "short"]


def test_a_chore_that_fails_is_told_and_the_next_is_done(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A disk that refuses one thing may do another."""
    done: list[str] = []

    with caplog.at_level(logging.WARNING):
        do([Job("first", 0, _refuse), Job("second", 0, lambda: done.append("second"))])

    assert done == ["second"]
    assert [(r.message, vars(r)["job"]) for r in caplog.records] == [
        ("maintenance job failed", "first")
    ]


@pytest.mark.parametrize(
    ("job", "outcome"), [(_refuse, None), (lambda: 5, 5)], ids=["refused", "done"]
)
def test_an_attempt_returns_what_came_of_it(job: Callable[[], object], outcome: object) -> None:
    """None when disk or index said no."""
    assert attempt("job", job) == outcome


def test_a_mistake_of_ours_is_not_swallowed() -> None:
    """It ends the process, and supervisord tells."""
    with pytest.raises(ZeroDivisionError):
        attempt("job", lambda: 1 / 0)
