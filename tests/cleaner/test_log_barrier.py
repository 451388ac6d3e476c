"""Every use until now is known once a request of our own has come through log and logger."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from entrepot.cleaner.log_barrier import LogBarrier
from entrepot.cleaner.store import DataDirectory
from tests.cleaner.front import Front
from tests.clock import Clock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the front listens."""
    return tmp_path / "front.sock"


@pytest.fixture
def dropped() -> list[int]:
    """Count the lines that HAProxy dropped, in the last place."""
    return [0]


@pytest.fixture
def front(path: Path, store: DataDirectory, dropped: list[int]) -> Iterator[Front]:
    """Answer, and commit the line as the logger does."""

    def commit(probe: str) -> None:
        store.index.touch({}, {"news": probe, "dropped": str(dropped[-1])})

    with Front(path, commit) as answering:
        yield answering


@pytest.fixture
def barrier(path: Path, store: DataDirectory, clock: Clock) -> LogBarrier:
    """Return what asks there, patiently."""
    return LogBarrier(path, store.index, pause=_patient(), clock=clock)


def _patient() -> Callable[[float], bool]:
    """Wait for real, as `threading.Event.wait` does that nobody sets."""
    return threading.Event().wait


@pytest.mark.usefixtures("front")
def test_the_news_is_good_once_the_line_is_committed(barrier: LogBarrier) -> None:
    """And all lines before it are."""
    assert barrier.fetch() == ""


def test_each_asking_is_a_request_of_its_own(barrier: LogBarrier, front: Front) -> None:
    """The line that is waited for can't be an old one."""
    barrier.fetch()
    barrier.fetch()

    first, second = front.seen
    assert first.startswith("localhost /healthz?news=")
    assert first != second


def test_an_answer_of_503_is_an_answer(path: Path, store: DataDirectory, clock: Clock) -> None:
    """Without a worker nothing is healthy, but the line is logged all the same."""

    def commit(probe: str) -> None:
        store.index.touch({}, {"news": probe})

    with Front(path, commit, status=503):
        assert LogBarrier(path, store.index, pause=_patient(), clock=clock).fetch() == ""


def test_a_front_that_is_not_there_is_no_news(barrier: LogBarrier) -> None:
    """HAProxy is down, or has not come up yet."""
    assert barrier.fetch() == "HAProxy does not answer"


def test_a_line_that_nobody_commits_is_no_news(
    path: Path, store: DataDirectory, clock: Clock
) -> None:
    """The logger is dead: what was used since is not known."""
    store.index.touch({}, {"news": "an old one", "dropped": "0"})
    polls: list[float] = []

    def pause(seconds: float) -> bool:
        polls.append(seconds)
        return len(polls) == 5  # as at SIGTERM

    with Front(path, commit=lambda _: None):
        barrier = LogBarrier(path, store.index, pause=pause, clock=clock)

        assert barrier.fetch() == "the logger does not follow the access log"
    assert len(polls) == 5


def test_the_logger_is_not_waited_for_for_ever(
    path: Path, store: DataDirectory, clock: Clock
) -> None:
    """After a few seconds the round goes on without."""
    timer = Clock(0)

    def pause(seconds: float) -> bool:
        timer.now += seconds
        return False

    with Front(path, commit=lambda _: None):
        barrier = LogBarrier(path, store.index, pause=pause, clock=clock, timer=timer)

        assert barrier.fetch() == "the logger does not follow the access log"
    assert 4 < timer.now < 6


def test_the_logger_is_given_its_time(path: Path, store: DataDirectory, clock: Clock) -> None:
    """It commits in batches: the line is looked for until it is there."""
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
            store.index.touch({}, {"news": probes[0], "dropped": "0"})
        return False

    with Front(path, commit):
        assert LogBarrier(path, store.index, pause=pause, clock=clock).fetch() == ""
    assert len(polls) == 3


@pytest.mark.usefixtures("front")
def test_lines_that_were_dropped_are_bad_news_once(
    barrier: LogBarrier, dropped: list[int], clock: Clock
) -> None:
    """They never come; from then on ages count from that moment."""
    assert barrier.fetch() == ""
    assert barrier.blind == 0
    dropped.append(3)

    assert barrier.fetch() == "log lines were dropped"
    assert barrier.blind == clock.now
    assert barrier.fetch() == ""


@pytest.mark.usefixtures("front")
def test_lines_dropped_before_the_first_asking_are_bad_news(
    barrier: LogBarrier, dropped: list[int]
) -> None:
    """Nobody knows how long ago that was."""
    dropped.append(1)

    assert barrier.fetch() == "log lines were dropped"


@pytest.mark.usefixtures("front")
@pytest.mark.parametrize(
    ("after", "why"), [(0, ""), (2, "log lines were dropped")], ids=["none", "two"]
)
def test_a_restarted_haproxy_counts_anew(
    barrier: LogBarrier, dropped: list[int], after: int, why: str
) -> None:
    """What it has dropped since then is new."""
    dropped.append(7)
    barrier.fetch()
    dropped.append(after)

    assert barrier.fetch() == why
