"""Maintenance jobs run beside the rounds of the cleaner."""

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
    """Return a monotonic clock that stands at 0 s until the test sets it."""
    return Clock(0)


def _refuse() -> None:
    raise IndexUnavailable("busy")


def test_a_job_runs_at_once_and_again_after_its_interval(timer: Clock) -> None:
    """A maintenance job runs at once and again after its interval, not before."""
    done: list[float] = []
    jobs = Jobs([Job("sweep", 60, lambda: done.append(timer.now))], timer)

    for now in (0.0, 59.0, 60.0, 61.0, 121.0):
        timer.now = now
        jobs.start_due()
        jobs.join(10)

    assert done == [0, 60, 121]


def test_no_job_starts_while_another_runs(timer: Clock) -> None:
    """If one maintenance job is running, another one that is due waits for its end."""
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
    """A failed maintenance job is logged, and the next one runs.

    A disk that fails for one job may work for another.
    """
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
    """`attempt` returns the result of a job, and None after a disk or index error."""
    assert attempt("job", job) == outcome


def test_a_programming_error_is_raised() -> None:
    """A programming error in a job ends the process, which supervisord restarts."""
    with pytest.raises(ZeroDivisionError):
        attempt("job", lambda: 1 / 0)
