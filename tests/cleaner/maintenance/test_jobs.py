"""`Jobs` runs maintenance jobs in a separate thread, at their intervals."""

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
    """Return a monotonic clock that shows 0 s until the test sets it."""
    return Clock(0)


def _refuse() -> None:
    raise IndexUnavailable("busy")


def test_a_job_runs_at_once_and_again_after_its_interval(timer: Clock) -> None:
    """A job runs at the first call of `start_due`, and again when its interval has passed."""
    done: list[float] = []
    jobs = Jobs([Job("sweep", 60, lambda: done.append(timer.now))], timer)

    for now in (0.0, 59.0, 60.0, 61.0, 121.0):
        timer.now = now
        jobs.start_due()
        jobs.join(10)

    assert done == [0, 60, 121]


def test_no_job_starts_while_another_runs(timer: Clock) -> None:
    """While jobs run, `start_due` starts no other jobs; a later call starts those that are due."""
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


def test_a_failed_job_is_logged_and_the_next_runs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If a job fails, a warning with its name is logged, and the next job runs."""
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
def test_an_attempt_returns_the_result_of_its_job(
    job: Callable[[], object], outcome: object
) -> None:
    """`attempt` returns the result of a job, and None after an error of the disk or the index."""
    assert attempt("job", job) == outcome


def test_a_programming_error_is_raised() -> None:
    """`attempt` does not catch a programming error."""
    with pytest.raises(ZeroDivisionError):
        attempt("job", lambda: 1 / 0)
