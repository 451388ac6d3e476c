"""A large blob over several connections."""

from __future__ import annotations

import random
import threading
import time
import tracemalloc
from collections.abc import Callable, Generator, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.registry.download import parallel
from entrepot.registry.download.parallel import (
    ConnectionBudget,
    MissingRange,
    ParallelLimits,
    in_parallel,
)
from entrepot.registry.download.sources import Sources
from entrepot.registry.errors import Absent, Denied, Unavailable, Why
from entrepot.registry.upstream.protocol import RemoteBlob
from tests.registry.remotes import QUICK, FakeRemote
from tests.sizes import scaled

CONTENT = bytes(range(250)) * 40


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a segment be small."""
    monkeypatch.setattr(parallel, "PART_SIZE", 1500)


def read(
    remote: FakeRemote,
    start: int = 0,
    count: int = 3,
    *,
    permits: threading.Semaphore | None = None,
    said: int = len(CONTENT),
) -> Iterator[bytes]:
    """Read what is missing from *start* on, of what is *said* to be so long."""
    seen: list[RemoteBlob] = []
    budget = ConnectionBudget(count, permits or threading.Semaphore(count - 1))
    return in_parallel(
        Sources([remote.fetch], QUICK), MissingRange(start, said), budget, seen.append
    )


def parts(start: int = 0, count: int = 3) -> list[int]:
    """Return where the requests for it start."""
    return [each for each, _ in divided(MissingRange(start, len(CONTENT)), count)]


def divided(span: MissingRange, count: int) -> list[tuple[int, int]]:
    """Return all parts of a span."""
    parts = span.parts(count)
    return [parts.part(number) for number in range(parts.count)]


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds, twenty seconds at most."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


@pytest.mark.parametrize("start", [0, 1, 9999])
@pytest.mark.parametrize("size", [10_000, 10_001, 63_999, 64_000, 1_000_000])
@pytest.mark.parametrize("count", [2, 3, 4, 16])
def test_a_blob_is_divided_so_that_all_lanes_end_together(
    start: int, size: int, count: int
) -> None:
    """All parts but the last are of one length, and there are as many for each lane."""
    parts = divided(MissingRange(start, size), count)
    lengths = {stop - at for at, stop in parts[:-1]}

    assert [at for at, _ in parts[1:]] == [stop for _, stop in parts[:-1]]
    assert (parts[0][0], parts[-1][1]) == (start, size)
    assert len(lengths) <= 1
    assert max(stop - at for at, stop in parts) <= parallel.PART_SIZE
    assert len(parts) <= -(-(size - start) // (parallel.PART_SIZE * count)) * count


@pytest.mark.parametrize("start", [0, 1, 1499, 1500, 9999])
@pytest.mark.parametrize("count", [2, 3, 20])
def test_the_parts_come_in_order_and_each_once(start: int, count: int) -> None:
    """Wherever the file ends, and with more lanes than parts."""
    remote = FakeRemote(CONTENT)

    assert b"".join(read(remote, start, count)) == CONTENT[start:]
    assert sorted(remote.starts) == parts(start, count)


def test_an_upstream_without_ranges_goes_on_in_one_stream() -> None:
    """It is asked once."""
    remote = FakeRemote(CONTENT, takes_ranges=False)

    assert b"".join(read(remote)) == CONTENT
    assert remote.starts == [0]


def test_no_more_runs_ahead_than_there_are_lanes() -> None:
    """What waits in memory is bounded, whatever the size of the blob."""
    remote = FakeRemote(CONTENT)
    body = read(remote, count=3)
    next(body)
    until(lambda: len(remote.starts) >= 3)

    assert sorted(remote.starts) == parts()[:3]
    assert CONTENT.endswith(b"".join(body))


def test_without_a_permit_it_comes_in_one_part_after_the_other() -> None:
    """Other blobs of that upstream have them all: nobody waits for that."""
    remote = FakeRemote(CONTENT)

    assert b"".join(read(remote, permits=threading.Semaphore(0))) == CONTENT
    assert remote.starts == parts()


def test_without_a_thread_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine may have none left."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    remote = FakeRemote(CONTENT)

    assert b"".join(read(remote)) == CONTENT
    assert remote.starts == parts()


@pytest.mark.parametrize("end", ["read", "left", "broken"])
def test_all_permits_are_given_back(end: str) -> None:
    """However it ends: what is lost once is lost for every blob after."""
    permits = threading.Semaphore(2)
    remote = FakeRemote(CONTENT)
    body = read(remote, permits=permits)
    next(body)
    until(lambda: len(remote.starts) >= 3)
    if end == "read":
        list(body)
    elif end == "broken":
        remote.refusals.extend([Unavailable("fake", "gone", Why.REFUSED)] * 500)
        with pytest.raises(Unavailable):
            list(body)
    assert isinstance(body, Generator)
    body.close()

    assert permits.acquire(timeout=20)
    assert permits.acquire(timeout=20)


def test_an_upstream_has_permits_of_its_own() -> None:
    """Each as many as three blobs with all of their lanes need."""
    lanes = ParallelLimits(4)
    one, other = lanes.budget("one.test"), lanes.budget("other.test")
    taken = 0
    while one.permits.acquire(blocking=False):
        taken += 1

    assert taken == 9
    assert lanes.budget("one.test") == one
    assert other.permits.acquire(blocking=False)


def test_a_part_that_breaks_off_is_asked_for_the_rest() -> None:
    """Within its own bounds."""
    remote = FakeRemote(CONTENT, breaks=[10_000, 2500])

    assert b"".join(read(remote, count=2)) == CONTENT


@pytest.mark.parametrize(
    "error",
    [
        Unavailable("fake", "one at a time", Why.REFUSED),
        Denied("fake", "one at a time"),
        Absent("fake", "one at a time"),
    ],
    ids=["unavailable", "denied", "absent"],
)
def test_an_upstream_that_takes_one_connection_only_costs_speed_and_no_pull(
    error: Exception,
) -> None:
    """It refuses the others; what they were to bring comes over the one that it takes."""
    remote = FakeRemote(CONTENT)
    permits = threading.Semaphore(0)
    body = read(remote, count=2, permits=permits)
    got = [next(body)]
    remote.refusals.append(error)
    permits.release()
    until(lambda: not remote.refusals)
    permits.acquire(timeout=0.0)

    assert b"".join([*got, *body]) == CONTENT
    assert remote.starts[:3] == [parts(0, 2)[0], parts(0, 2)[1], parts(0, 2)[1]]


def test_a_part_that_stays_away_ends_it() -> None:
    """After all that came before it."""
    remote = FakeRemote(CONTENT)
    body = read(remote, count=2)
    got = [next(body)]
    remote.refusals.extend([Unavailable("fake", "gone", Why.REFUSED)] * 500)
    with pytest.raises(Unavailable):
        got.extend(body)

    assert CONTENT.startswith(b"".join(got))


@pytest.mark.parametrize("takes_ranges", [True, False])
def test_an_upstream_may_change_its_mind_on_ranges(takes_ranges: bool) -> None:  # noqa: FBT001
    """Behind a balancer each connection may meet another host; what it sent was no blob then."""
    remote = FakeRemote(CONTENT, piece=500, takes_ranges=takes_ranges, breaks=[1000])
    body = read(remote, count=2)
    got = [next(body)]
    remote.takes_ranges = not takes_ranges

    assert b"".join([*got, *body]) == CONTENT


@pytest.mark.parametrize("most", [1, 700, 1499])
@pytest.mark.parametrize("start", [0, 8000])
def test_an_upstream_may_send_less_than_a_part(most: int, start: int) -> None:
    """RFC 9110, 15.3.7; what was missing was not missed, and the blob was taken for a wrong one."""
    remote = FakeRemote(CONTENT, piece=500, most=most)

    assert b"".join(read(remote, start)) == CONTENT[start:]
    assert remote.starts == sorted(set(remote.starts))


def test_a_lane_may_get_less_than_a_part() -> None:
    """Behind a balancer each connection may meet another host."""
    remote = FakeRemote(CONTENT, piece=500)
    body = read(remote, count=2)
    got = [next(body)]
    remote.most = 700

    assert b"".join([*got, *body]) == CONTENT


@pytest.mark.parametrize("wrong", [-4000, -1, 1, 4000])
def test_what_a_manifest_says_of_a_size_is_not_believed(wrong: int) -> None:
    """The upstream knows it better: what it holds can be pulled."""
    remote = FakeRemote(CONTENT, piece=500)

    assert b"".join(read(remote, said=len(CONTENT) + wrong)) == CONTENT
    assert len(remote.starts) == 2


def test_what_nobody_foresaw_in_a_part_ends_it_too() -> None:
    """The download waited for that part for ever, with its file locked."""
    remote = FakeRemote(CONTENT)
    body = read(remote, count=2)
    got = [next(body)]
    remote.refusals.extend([RuntimeError("can't start new thread")] * 30)
    with pytest.raises(RuntimeError):
        got.extend(body)


@pytest.mark.parametrize("said", [10**9, 2**60, 2**63, 2**64, 10**4000])
def test_a_false_size_costs_no_memory(said: int) -> None:
    """Anyone who can push an image to a public registry can claim any size in its manifest."""
    remote = FakeRemote(CONTENT, piece=500)
    tracemalloc.start()
    try:
        assert b"".join(read(remote, said=said)) == CONTENT
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 1024 * 1024
    assert len(remote.starts) == 2


@pytest.mark.parametrize("said", [10**9, 2**60, 2**64])
def test_an_upstream_that_confirms_a_false_size_gets_no_more_than_the_lanes(said: int) -> None:
    """Both may be the attacker's; what is asked for ahead is one part for each lane."""
    content = CONTENT * 10
    remote = FakeRemote(content, tells_size=False)
    body = read(remote, count=3, said=said)
    tracemalloc.start()
    try:
        got = [next(body)]
        until(lambda: len(remote.starts) >= 3)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(body, Generator)
    body.close()

    assert content.startswith(b"".join(got))
    assert peak < 1024 * 1024
    assert len(remote.starts) == 3


@given(
    start=st.integers(0, 5_000),
    size=st.integers(5_001, 60_000),
    count=st.integers(2, 9),
    permits=st.integers(0, 8),
    most=st.none() | st.integers(200, 3_000),
)
@settings(max_examples=scaled(20, 100), deadline=None)
def test_every_byte_comes_once_and_in_order(
    start: int, size: int, count: int, permits: int, most: int | None
) -> None:
    """Whatever the number of parts, lanes and permits."""
    content = random.Random(size).randbytes(size)
    remote = FakeRemote(content, piece=700, most=most)
    held = threading.Semaphore(permits)

    assert b"".join(read(remote, start, count, permits=held, said=size)) == content[start:]
    assert all(each < size for each in remote.starts)
    for _ in range(permits):
        assert held.acquire(timeout=20)
