"""The log barrier: a request that the logger must have committed before anything is evicted."""

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
    """Return the path of HAProxy's own socket, over which the log barrier sends its request."""
    return tmp_path / run_names.FRONT_SOCKET


@pytest.fixture
def dropped() -> list[int]:
    """Return a list whose last number is HAProxy's count of log lines that it dropped."""
    return [0]


@pytest.fixture
def front(path: Path, store: DataDirectory, dropped: list[int]) -> Iterator[Front]:
    """Answer the request of the log barrier and commit its line, as HAProxy and the logger do."""

    def commit(probe: str) -> None:
        store.index.notes.put({"news": probe, "dropped": str(dropped[-1])})

    with Front(path, commit) as answering:
        yield answering


@pytest.fixture
def barrier(path: Path, store: DataDirectory, clock: Clock) -> LogBarrier:
    """Return a log barrier that really waits."""
    return LogBarrier(path, store.index.notes, pause=_pause(), clock=clock)


def _pause() -> Callable[[float], bool]:
    """Return a function that waits for the given time, as the event of a stop does."""
    return threading.Event().wait


@pytest.mark.usefixtures("front")
def test_the_barrier_opens_when_the_probe_is_committed(barrier: LogBarrier) -> None:
    """The log barrier opens when the logger has committed the line of the cleaner's own request.

    The logger has then committed all earlier lines too.
    """
    assert barrier.fetch() == ""


def test_each_barrier_sends_a_new_probe(barrier: LogBarrier, front: Front) -> None:
    """Each log barrier sends a request with a new id, so an earlier line does not count."""
    barrier.fetch()
    barrier.fetch()

    first, second = front.seen
    assert first.startswith("localhost /healthz?news=")
    assert first != second


def test_a_503_response_opens_the_barrier(path: Path, store: DataDirectory, clock: Clock) -> None:
    """If no worker runs, HAProxy answers the cleaner's request with 503 and logs it all the same.

    So the log barrier opens when the logger has read that line.
    """

    def commit(probe: str) -> None:
        store.index.notes.put({"news": probe})

    with Front(path, commit, status=503):
        assert LogBarrier(path, store.index.notes, pause=_pause(), clock=clock).fetch() == ""


def test_the_barrier_stays_closed_without_haproxy(barrier: LogBarrier) -> None:
    """While HAProxy does not run, the log barrier stays closed."""
    assert barrier.fetch() == "HAProxy does not answer the cleaner"


def test_the_barrier_stays_closed_without_the_logger(
    path: Path, store: DataDirectory, clock: Clock
) -> None:
    """While the logger does not run, the log barrier stays closed, as later uses are unknown."""
    store.index.notes.put({"news": "an old one", "dropped": "0"})
    polls: list[float] = []

    def pause(seconds: float) -> bool:
        polls.append(seconds)
        return len(polls) == 5  # ends the wait early, as SIGTERM does

    with Front(path, commit=lambda _: None):
        barrier = LogBarrier(path, store.index.notes, pause=pause, clock=clock)

        assert barrier.fetch() == "the logger does not follow the access log"
    assert len(polls) == 5


def test_the_wait_for_the_logger_is_limited(path: Path, store: DataDirectory, clock: Clock) -> None:
    """The log barrier waits a few seconds for the logger; then the round evicts nothing."""
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
    """The cleaner asks repeatedly whether the logger, which writes in batches, has committed."""
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
    """If HAProxy has dropped log lines, the cleaner evicts nothing in that round.

    The dropped lines may have been uses. So in later rounds no content is older than the moment of
    the loss.
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
    """If log lines were dropped before the first round, that round evicts nothing.

    It is unknown when these lines were dropped.
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
    """HAProxy's count of dropped log lines starts at 0 with each start of HAProxy.

    So all lines that a new HAProxy process counts were dropped after its start.
    """
    dropped.append(7)
    barrier.fetch()
    dropped.append(after)

    assert barrier.fetch() == why
