"""`LogBarrier` succeeds only if the logger has committed the log line of its request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from entrepot.cleaner.log_barrier import LogBarrier
from entrepot.cleaner.store import DataDirectory
from entrepot.runtime import run_names
from tests.cleaner.front import Front
from tests.clock import Clock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of HAProxy's socket, to which the log barrier sends its request."""
    return tmp_path / run_names.FRONT_SOCKET


@pytest.fixture
def dropped() -> list[int]:
    """Return a list whose last number is the count of dropped log lines."""
    return [0]


@pytest.fixture
def front(path: Path, store: DataDirectory, dropped: list[int]) -> Iterator[Front]:
    """Run a server that responds to the log barrier and commits the line of its request.

    The server replaces HAProxy and the logger.
    """

    def commit(probe: str) -> None:
        store.index.notes.put({"news": probe, "dropped": str(dropped[-1])})

    with Front(path, commit) as answering:
        yield answering


@pytest.fixture
def barrier(path: Path, store: DataDirectory, clock: Clock) -> LogBarrier:
    """Return a log barrier whose waits take real time."""
    return LogBarrier(path, store.index.notes, pause=_pause(), clock=clock)


def _pause() -> Callable[[float], bool]:
    """Return a function that waits for a number of seconds, and returns False."""
    return threading.Event().wait


@pytest.mark.usefixtures("front")
def test_the_barrier_opens_when_the_probe_is_committed(barrier: LogBarrier) -> None:
    """The log barrier succeeds when the logger has committed the line of the cleaner's request."""
    assert barrier.fetch() == ""


def test_each_barrier_sends_a_new_probe(barrier: LogBarrier, front: Front) -> None:
    """Each call of the log barrier sends a request with a new id.

    So the line of an earlier request does not count.
    """
    barrier.fetch()
    barrier.fetch()

    first, second = front.seen
    assert first.startswith("localhost /healthz?news=")
    assert first != second


def test_a_503_response_opens_the_barrier(path: Path, store: DataDirectory, clock: Clock) -> None:
    """If HAProxy responds with 503, because no worker runs, the log barrier succeeds too.

    HAProxy also logs a request that gets 503, so the logger can commit the line.
    """

    def commit(probe: str) -> None:
        store.index.notes.put({"news": probe})

    with Front(path, commit, status=503):
        assert LogBarrier(path, store.index.notes, pause=_pause(), clock=clock).fetch() == ""


def test_the_barrier_stays_closed_without_haproxy(barrier: LogBarrier) -> None:
    """If HAProxy does not run, the log barrier fails, and the reason is reported."""
    assert barrier.fetch() == "HAProxy does not respond to the cleaner"


def test_the_barrier_stays_closed_without_the_logger(
    path: Path, store: DataDirectory, clock: Clock
) -> None:
    """If the logger does not commit the line, the log barrier fails.

    The wait ends early if the process must exit.
    """
    store.index.notes.put({"news": "an old one", "dropped": "0"})
    polls: list[float] = []

    def pause(seconds: float) -> bool:
        polls.append(seconds)
        return len(polls) == 5  # True ends the wait, as after SIGTERM.

    with Front(path, commit=lambda _: None):
        barrier = LogBarrier(path, store.index.notes, pause=pause, clock=clock)

        assert barrier.fetch() == "the logger does not follow the access log"
    assert len(polls) == 5


def test_the_wait_for_the_logger_is_limited(path: Path, store: DataDirectory, clock: Clock) -> None:
    """The log barrier waits at most about five seconds for the logger, and then fails."""
    timer = Clock(0)

    def pause(seconds: float) -> bool:
        timer.now += seconds
        return False

    with Front(path, commit=lambda _: None):
        barrier = LogBarrier(path, store.index.notes, pause=pause, clock=clock, timer=timer)

        assert barrier.fetch() == "the logger does not follow the access log"
    assert 4 < timer.now < 6


def test_the_barrier_polls_until_the_logger_commits(
    path: Path, store: DataDirectory, clock: Clock
) -> None:
    """The log barrier polls the index until the logger has committed the line."""
    probes: list[str] = []
    arrived = threading.Event()

    def commit(probe: str) -> None:
        probes.append(probe)
        arrived.set()

    polls: list[float] = []

    def pause(seconds: float) -> bool:
        arrived.wait(10)
        polls.append(seconds)
        if len(polls) == 3:
            store.index.notes.put({"news": probes[0], "dropped": "0"})
        return False

    with Front(path, commit):
        assert LogBarrier(path, store.index.notes, pause=pause, clock=clock).fetch() == ""
    assert len(polls) == 3


@pytest.mark.usefixtures("front")
def test_dropped_lines_close_the_barrier_once(
    barrier: LogBarrier, dropped: list[int], clock: Clock
) -> None:
    """If log lines were dropped, the log barrier fails once, and records the time as `blind`.

    The dropped lines may have recorded uses. So later rounds count all content as used at this
    time.
    """
    assert barrier.fetch() == ""
    assert barrier.blind == 0
    dropped.append(3)

    assert barrier.fetch() == "log lines were dropped"
    assert barrier.blind == clock.now
    assert barrier.fetch() == ""


@pytest.mark.usefixtures("front")
def test_lines_dropped_before_the_first_barrier_close_it(
    barrier: LogBarrier, dropped: list[int]
) -> None:
    """If log lines were dropped before the first call, the first call of the log barrier fails.

    It is unknown when these lines were dropped, so recent uses may be lost.
    """
    dropped.append(1)

    assert barrier.fetch() == "log lines were dropped"


@pytest.mark.usefixtures("front")
@pytest.mark.parametrize(
    ("after", "why"), [(0, ""), (2, "log lines were dropped")], ids=["none", "two"]
)
def test_the_count_of_dropped_lines_restarts_with_haproxy(
    barrier: LogBarrier, dropped: list[int], after: int, why: str
) -> None:
    """The logger's count of dropped lines restarts at 0 with each start of the appliance.

    If the count is smaller than at the previous call but is not 0, lines were dropped since the
    appliance started, and the log barrier fails.
    """
    dropped.append(7)
    barrier.fetch()
    dropped.append(after)

    assert barrier.fetch() == why
