"""A large blob is downloaded over several connections."""

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
    """Set the size of a part to 1,500 bytes, so that small contents have several parts."""
    monkeypatch.setattr(parallel, "PART_SIZE", 1500)


def read(
    remote: FakeRemote,
    start: int = 0,
    count: int = 3,
    *,
    permits: threading.Semaphore | None = None,
    said: int = len(CONTENT),
) -> Iterator[bytes]:
    """Yield the pieces of a download over *count* connections, starting at the offset *start*.

    *said* is the blob's size in bytes according to the manifest.
    """
    seen: list[RemoteBlob] = []
    budget = ConnectionBudget(count, permits or threading.Semaphore(count - 1))
    return in_parallel(
        Sources([remote.fetch], QUICK), MissingRange(start, said), budget, seen.append
    )


def parts(start: int = 0, count: int = 3) -> list[int]:
    """Return the start offset of each part."""
    return [each for each, _ in divided(MissingRange(start, len(CONTENT)), count)]


def divided(span: MissingRange, count: int) -> list[tuple[int, int]]:
    """Return the start offset and the end offset (exclusive) of each part of a missing range."""
    parts = span.parts(count)
    return [parts.part(number) for number in range(parts.count)]


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait until *holds* returns True, for at most 20 s."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


@pytest.mark.parametrize("start", [0, 1, 9999])
@pytest.mark.parametrize("size", [10_000, 10_001, 63_999, 64_000, 1_000_000])
@pytest.mark.parametrize("count", [2, 3, 4, 16])
def test_parts_let_all_connections_end_together(start: int, size: int, count: int) -> None:
    """The parts have such lengths that all connections finish at about the same time.

    All parts except the last have the same length. Unless the blob is tiny, the number of parts is
    a multiple of the number of connections.
    """
    parts = divided(MissingRange(start, size), count)
    lengths = {stop - at for at, stop in parts[:-1]}

    assert [at for at, _ in parts[1:]] == [stop for _, stop in parts[:-1]]
    assert (parts[0][0], parts[-1][1]) == (start, size)
    assert len(lengths) <= 1
    assert max(stop - at for at, stop in parts) <= parallel.PART_SIZE
    assert len(parts) <= -(-(size - start) // (parallel.PART_SIZE * count)) * count


@pytest.mark.parametrize("start", [0, 1, 1499, 1500, 9999])
@pytest.mark.parametrize("count", [2, 3, 20])
def test_parts_are_yielded_in_order_and_once(start: int, count: int) -> None:
    """A download over several connections yields each byte once and in order.

    This holds for every start offset, even if there are more connections than parts.
    """
    remote = FakeRemote(CONTENT)

    assert b"".join(read(remote, start, count)) == CONTENT[start:]
    assert sorted(remote.starts) == parts(start, count)


def test_an_upstream_without_ranges_is_read_in_one_stream() -> None:
    """If an upstream ignores the header Range, the upstream gets only one request."""
    remote = FakeRemote(CONTENT, takes_ranges=False)

    assert b"".join(read(remote)) == CONTENT
    assert remote.starts == [0]


def test_parts_in_memory_are_limited_by_the_connections() -> None:
    """A download keeps at most one part per connection in memory, however large the blob is."""
    remote = FakeRemote(CONTENT)
    body = read(remote, count=3)
    next(body)
    wait_until(lambda: len(remote.starts) >= 3)

    assert sorted(remote.starts) == parts()[:3]
    assert CONTENT.endswith(b"".join(body))


def test_without_a_permit_parts_are_fetched_one_by_one() -> None:
    """If other downloads use all permitted connections, one connection fetches all parts.

    The download does not wait for a permit for another connection.
    """
    remote = FakeRemote(CONTENT)

    assert b"".join(read(remote, permits=threading.Semaphore(0))) == CONTENT
    assert remote.starts == parts()


def test_without_a_thread_parts_are_fetched_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """If Python cannot start a thread, one connection fetches all parts, one after another."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    remote = FakeRemote(CONTENT)

    assert b"".join(read(remote)) == CONTENT
    assert remote.starts == parts()


@pytest.mark.parametrize("end", ["read", "left", "broken"])
def test_all_permits_are_released(end: str) -> None:
    """A download releases each permit for a connection, however the download ends.

    Otherwise other downloads could not use that permit until the worker exits.
    """
    permits = threading.Semaphore(2)
    remote = FakeRemote(CONTENT)
    body = read(remote, permits=permits)
    next(body)
    wait_until(lambda: len(remote.starts) >= 3)
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


def test_each_upstream_has_its_own_permits() -> None:
    """Each upstream has its own permits for additional connections.

    With four connections for a blob, three of them are additional. So nine permits are enough for
    three blobs.
    """
    limits = ParallelLimits(4)
    one, other = limits.budget("one.test"), limits.budget("other.test")
    taken = 0
    while one.permits.acquire(blocking=False):
        taken += 1

    assert taken == 9
    assert limits.budget("one.test") == one
    assert other.permits.acquire(blocking=False)


def test_a_part_that_breaks_off_is_continued() -> None:
    """If the connection of a part breaks, the download requests the rest of that part."""
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
def test_an_upstream_that_accepts_one_connection_fails_no_pull(
    error: Exception,
) -> None:
    """If an upstream refuses a second connection, the pull succeeds over the first connection.

    The first connection also fetches the part that was assigned to the second.
    """
    remote = FakeRemote(CONTENT)
    permits = threading.Semaphore(0)
    body = read(remote, count=2, permits=permits)
    received = [next(body)]
    remote.refusals.append(error)
    permits.release()
    wait_until(lambda: not remote.refusals)
    permits.acquire(timeout=0.0)

    assert b"".join([*received, *body]) == CONTENT
    assert remote.starts[:3] == [parts(0, 2)[0], parts(0, 2)[1], parts(0, 2)[1]]


def test_a_part_that_never_arrives_ends_the_download() -> None:
    """If a part cannot be fetched, the download yields the bytes before that part.

    Then it fails.
    """
    remote = FakeRemote(CONTENT)
    body = read(remote, count=2)
    received = [next(body)]
    remote.refusals.extend([Unavailable("fake", "gone", Why.REFUSED)] * 500)
    with pytest.raises(Unavailable):
        received.extend(body)

    assert CONTENT.startswith(b"".join(received))


@pytest.mark.parametrize("takes_ranges", [True, False])
def test_range_support_may_differ_between_connections(takes_ranges: bool) -> None:  # noqa: FBT001
    """A download yields the correct bytes even if only some connections support ranges.

    Behind a load balancer, each connection can reach a different host.
    """
    remote = FakeRemote(CONTENT, piece=500, takes_ranges=takes_ranges, breaks=[1000])
    body = read(remote, count=2)
    received = [next(body)]
    remote.takes_ranges = not takes_ranges

    assert b"".join([*received, *body]) == CONTENT


@pytest.mark.parametrize("most", [1, 700, 1499])
@pytest.mark.parametrize("start", [0, 8000])
def test_a_response_may_be_shorter_than_the_part(most: int, start: int) -> None:
    """If a response has only part of the requested range, the download requests the rest.

    RFC 9110, 15.3.7 permits such a response. Without the second request, the blob would lack bytes
    and have a wrong digest.
    """
    remote = FakeRemote(CONTENT, piece=500, most=most)

    assert b"".join(read(remote, start)) == CONTENT[start:]
    assert remote.starts == sorted(set(remote.starts))


def test_a_helper_thread_may_receive_less_than_a_part() -> None:
    """If only the additional connections get short responses, the download still yields all bytes.

    Behind a load balancer, such a connection can reach a host that sends shorter ranges.
    """
    remote = FakeRemote(CONTENT, piece=500)
    body = read(remote, count=2)
    received = [next(body)]
    remote.most = 700

    assert b"".join([*received, *body]) == CONTENT


@pytest.mark.parametrize("wrong", [-4000, -1, 1, 4000])
def test_a_wrong_size_in_the_manifest_fails_no_pull(wrong: int) -> None:
    """If the manifest states a wrong size, the download uses the size that the upstream states."""
    remote = FakeRemote(CONTENT, piece=500)

    assert b"".join(read(remote, said=len(CONTENT) + wrong)) == CONTENT
    assert len(remote.starts) == 2


def test_an_unexpected_exception_in_a_part_ends_the_download() -> None:
    """An unexpected error in a thread that fetches a part makes the download fail.

    Otherwise the download would wait forever for that part, and its spool file would stay locked.
    """
    remote = FakeRemote(CONTENT)
    body = read(remote, count=2)
    received = [next(body)]
    remote.refusals.extend([RuntimeError("can't start new thread")] * 30)
    with pytest.raises(RuntimeError):
        received.extend(body)


@pytest.mark.parametrize("said", [10**9, 2**60, 2**63, 2**64, 10**4000])
def test_a_false_size_uses_no_memory(said: int) -> None:
    """If a manifest states a huge size for a small blob, the download needs little memory.

    The limit in this test is 1 MiB. Any client with the right to push can push such a manifest.
    """
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
def test_a_confirmed_false_size_gets_no_extra_requests(said: int) -> None:
    """A manifest's huge, false size causes only one request per connection.

    In this test the upstream states no size, so it does not contradict the manifest. An attacker
    who controls both the manifest and the upstream must not be able to cause many requests.
    """
    content = CONTENT * 10
    remote = FakeRemote(content, tells_size=False)
    body = read(remote, count=3, said=said)
    tracemalloc.start()
    try:
        received = [next(body)]
        wait_until(lambda: len(remote.starts) >= 3)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(body, Generator)
    body.close()

    assert content.startswith(b"".join(received))
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
def test_every_byte_is_yielded_once_and_in_order(
    start: int, size: int, count: int, permits: int, most: int | None
) -> None:
    """A download yields each byte once and in order.

    This holds for any number of parts, connections and permits.
    """
    content = random.Random(size).randbytes(size)
    remote = FakeRemote(content, piece=700, most=most)
    semaphore = threading.Semaphore(permits)

    assert b"".join(read(remote, start, count, permits=semaphore, said=size)) == content[start:]
    assert all(each < size for each in remote.starts)
    for _ in range(permits):
        assert semaphore.acquire(timeout=20)


def test_no_part_is_taken_after_the_last_one() -> None:
    """If other threads have taken all parts, a helper thread releases its permit unused.

    This happens if another thread takes the last part while the helper thread starts.
    """
    permits = threading.Semaphore(1)
    remote = FakeRemote(CONTENT)
    span = parallel.PartList(0, len(CONTENT), 2_000)
    helpers = parallel._Helpers(Sources([remote.fetch], QUICK), span, ConnectionBudget(3, permits))
    for number in range(1, span.count):
        helpers._claim(number)

    assert helpers._take() is None
    assert permits.acquire(blocking=False)
