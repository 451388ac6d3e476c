"""A download chooses its next source, the length of its pauses, and the time at which it fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.registry.download.resume import resumed
from entrepot.registry.download.sources import (
    AskSource,
    End,
    Limits,
    Pace,
    Pause,
    RetryPolicy,
    Sources,
)
from entrepot.registry.errors import Absent, Denied, Unavailable, UpstreamError, Why
from tests.images import filler
from tests.registry.remotes import FakeRemote
from tests.sizes import scaled

_PROGRESS = 100_000  # bytes; a connection that has sent this many has made progress


def _policy(count: int = 1, jitter: float = 1.0, **limits: float) -> RetryPolicy:
    return RetryPolicy(count, Limits(**limits), 0.0, lambda: jitter)


def test_after_a_failure_the_next_source_is_used_at_once() -> None:
    """If a source fails, the download tries the next source at once and the failed source last."""
    policy = _policy(3)
    asked = []
    for _ in range(3):
        decision = policy.decide(0.0)
        assert isinstance(decision, AskSource)
        asked.append(decision.source)
        policy.failed(decision.source, 0.0)

    assert asked == [0, 1, 2]
    assert isinstance(policy.decide(0.0), Pause)
    assert policy.decide(0.2) == AskSource(0)


def test_pauses_double_up_to_the_longest() -> None:
    """The pauses between requests to a failing source double, up to the longest pause.

    In this test the pauses have their longest length; outside tests a random factor shortens them.
    """
    policy = _policy()
    now, pauses = 0.0, []
    while not isinstance(decision := policy.decide(now), End):
        if isinstance(decision, AskSource):
            policy.failed(0, now)
        else:
            pauses.append(decision.seconds)
            now += decision.seconds

    assert pauses[:7] == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])
    assert now == pytest.approx(30.0)


def test_the_last_request_is_sent_when_the_time_limit_ends() -> None:
    """The last request is sent at the end of the time limit.

    The upstream may have recovered by then.
    """
    policy = _policy(silence=1.0, first_pause=0.7)
    policy.failed(0, 0.0)
    first = policy.decide(0.0)
    assert first == Pause(0.7)
    assert policy.decide(0.7) == AskSource(0)
    policy.failed(0, 0.7)
    last = policy.decide(0.7)
    assert isinstance(last, Pause)
    assert last.seconds == pytest.approx(0.3)


def test_progress_resets_the_time_limit() -> None:
    """If a source sends many bytes, the time limit and the pauses of all sources are reset.

    After the reset each source's next pause has the shortest length.
    """
    policy = _policy(2)
    for source in (0, 1):
        policy.failed(source, 20.0)
    policy.decide(20.0)
    policy.progressed(1, 25.0, _PROGRESS)
    policy.failed(1, 26.0)

    assert policy.decide(26.0) == AskSource(0)
    policy.failed(0, 26.0)
    assert policy.decide(26.0) == Pause(0.2)
    assert policy.decide(54.9) != End()


def test_one_byte_per_connection_does_not_reset_the_pauses() -> None:
    """If each connection breaks after one byte, the pauses still grow.

    One byte resets the time limit, but not the pauses.
    """
    policy = _policy()
    pauses = []
    now = 0.0
    for _ in range(5):
        policy.progressed(0, now, 1)
        policy.failed(0, now)
        decision = policy.decide(now)
        assert isinstance(decision, Pause)
        pauses.append(decision.seconds)
        now += decision.seconds

    assert pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2])


def test_no_pause_is_shorter_than_retry_after() -> None:
    """A download sends a source no request until the time in the source's Retry-After has passed.

    During that time, the download uses other sources.
    """
    policy = _policy(2)
    policy.failed(0, 0.0, retry_after=7.0)
    assert policy.decide(0.0) == AskSource(1)
    policy.failed(1, 0.0, retry_after=9.0)

    assert policy.decide(0.0) == Pause(7.0)
    assert policy.decide(7.0) == AskSource(0)


def test_a_retry_after_beyond_the_time_limit_ends_the_download() -> None:
    """If the Retry-After of the only source exceeds the time limit, the download fails at once."""
    policy = _policy()
    policy.failed(0, 0.0, retry_after=31.0)

    assert policy.decide(0.0) == End()


def test_a_source_without_the_blob_is_not_used_again() -> None:
    """If a source does not have the blob, the download never uses it again.

    If no other source remains, the download ends.
    """
    policy = _policy(2)
    policy.remove(0)
    assert policy.decide(0.0) == AskSource(1)
    policy.remove(1)

    assert policy.decide(0.0) == End()


def test_the_second_invalid_response_removes_a_source() -> None:
    """A download stops using a source after its second invalid response in a row.

    The first invalid response can come from a redirect whose target has since changed.
    """
    policy = _policy()
    policy.refused(0, 0.0)
    assert isinstance(policy.decide(0.0), Pause)
    policy.refused(0, 1.0)

    assert policy.decide(1.0) == End()


@pytest.mark.parametrize("most", [2, 6], ids=["invalid responses", "denials"])
def test_progress_between_two_refusals_keeps_a_source(most: int) -> None:
    """A download abandons a source only after several refusals with no received byte between them.

    A source that accepts one connection at a time can refuse many requests of a long download.
    """
    policy = _policy()
    for at in range(3 * most):
        policy.refused(0, float(at), most)
        policy.progressed(0, float(at), _PROGRESS)
    assert policy.decide(3.0 * most) == AskSource(0)

    for at in range(most):
        policy.refused(0, 3.0 * most + at, most)
    assert policy.decide(4.0 * most) == End()


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.floats(0, 40)), max_size=60),
    st.floats(0, 1),
)
@settings(max_examples=scaled(20, 100), deadline=None)
def test_a_download_always_ends_and_never_spins(
    count: int, events: list[tuple[int, int, float]], jitter: float
) -> None:
    """Without progress, a download ends within its time limit after a bounded number of requests.

    This holds after any sequence of progress, failures and refusals.
    """
    policy = _policy(count, jitter)
    now, asked = 0.0, 0
    for kind, source, seconds in events:
        if kind == 0:
            policy.progressed(source % count, now, _PROGRESS)
        elif kind == 1:
            policy.failed(source % count, now, seconds)
        elif kind == 2:
            policy.refused(source % count, now)
    for _ in range(10_000):
        decision = policy.decide(now)
        if isinstance(decision, End):
            break
        if isinstance(decision, Pause):
            assert 0 <= decision.seconds <= 40
            now += max(decision.seconds, 0.01)
        else:
            asked += 1
            policy.failed(decision.source, now)
            now += 0.01
    else:
        pytest.fail("the download has not ended after 10,000 decisions")

    assert now <= 72


def test_a_connection_below_the_least_rate_is_too_slow_after_one_span() -> None:
    """A connection that is slower than the lowest permitted rate is closed after 15 s.

    The next slow connection is closed after 30 s.
    """
    pace = Pace(Limits(min_rate=1000, slow_span=15.0))
    pace.begin(0.0)
    assert not pace.is_too_slow(14.9, 10)
    assert pace.is_too_slow(15.0, 10)
    assert not pace.is_too_slow(44.9, 10)
    assert pace.is_too_slow(45.1, 10)


@pytest.mark.parametrize(("rate", "came"), [(0, 1), (1000, 15_000)], ids=["off", "fast enough"])
def test_a_connection_that_is_fast_enough_is_kept(rate: int, came: int) -> None:
    """A connection that is faster than the lowest permitted rate is not closed.

    If that rate is 0, no connection is closed.
    """
    pace = Pace(Limits(min_rate=rate, slow_span=15.0))
    pace.begin(0.0)

    assert not pace.is_too_slow(15.0, came)


# ---- tests of the loop that reads from the sources


@dataclass
class Time:
    """A clock that the test and each pause of the download move forward."""

    now: float = 0.0
    pauses: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        """Return the time that the clock shows, in seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Move the clock by the length of the pause, and record the pause."""
        self.pauses.append(seconds)
        self.now += seconds


CONTENT = filler(300_000, 7)


def _over(*remotes: FakeRemote, time: Time | None = None) -> Iterator[bytes]:
    clock = time or Time()
    fetches = [each.fetch for each in remotes]
    sources = Sources(fetches, clock=clock, sleep=clock.sleep, jitter=lambda: 1.0)
    return resumed(sources, 0)


def test_a_mirror_that_breaks_off_is_replaced_by_the_upstream() -> None:
    """If a mirror's response breaks off, the download immediately continues from the upstream."""
    mirror = FakeRemote(CONTENT, piece=10_000, breaks=[100_000] * 9)
    upstream = FakeRemote(CONTENT, piece=10_000)
    time = Time()

    assert b"".join(_over(mirror, upstream, time=time)) == CONTENT
    assert (mirror.starts, upstream.starts) == ([0], [100_000])
    assert time.pauses == []


def test_a_source_that_refuses_a_second_connection_is_retried() -> None:
    """If a source has sent bytes and then refuses a connection, the download retries the source.

    The source may accept only one connection at a time, and the earlier connection may still be
    open.
    """
    remote = FakeRemote(CONTENT, piece=10_000, breaks=[100_000])
    time = Time()
    body = _over(remote, time=time)
    received = [next(body)]
    remote.refusals.extend([Denied("fake", "one at a time")] * 4)

    assert b"".join([*received, *body]) == CONTENT
    assert time.pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2])


def test_a_source_that_keeps_refusing_is_removed() -> None:
    """If the only source refuses seven requests in a row, the download fails.

    After seven refusals the source has probably revoked the permission to pull.
    """
    remote = FakeRemote(CONTENT, piece=10_000, breaks=[100_000])
    body = _over(remote, time=Time())
    next(body)
    remote.refusals.extend([Denied("fake", "no more")] * 100)
    with pytest.raises(Denied):
        list(body)

    assert len(remote.starts) == 7


def test_a_slow_connection_is_replaced() -> None:
    """A download closes a slow connection and requests the missing range over a new connection.

    If the slow connection leads to a mirror, the new connection leads to the upstream.
    """
    crawling, upstream = FakeRemote(CONTENT, piece=1000), FakeRemote(CONTENT, piece=10_000)
    time = Time()
    limits = Limits(min_rate=10_000)
    sources = Sources([crawling.fetch, upstream.fetch], limits, clock=time, sleep=time.sleep)
    received = b""
    for chunk in resumed(sources, 0):
        received += chunk
        time.now += 1.0 if len(chunk) == 1000 else 0.001

    assert received == CONTENT
    assert crawling.starts == [0]
    assert 10_000 <= upstream.starts[0] <= 20_000


def test_an_outage_during_a_body_is_waited_for() -> None:
    """If the only source fails for a while, the download waits and then continues.

    This applies to outages that are shorter than the time limit.
    """
    away = [Unavailable("fake", "refused", Why.REFUSED) for _ in range(8)]
    remote = FakeRemote(CONTENT, piece=10_000, breaks=[100_000], refusals=[])
    time = Time()
    body = _over(remote, time=time)
    received = [next(body)]
    remote.refusals.extend(away)

    assert b"".join([*received, *body]) == CONTENT
    assert 10 < sum(time.pauses) < 30
    assert set(remote.starts) == {0, 100_000}


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([Absent("m", "no"), Unavailable("u", "away", Why.REFUSED)], Unavailable),
        ([Unavailable("m", "away", Why.REFUSED), Absent("u", "no")], Absent),
        ([Denied("m", "no"), Denied("u", "no")], Denied),
    ],
    ids=["upstream away", "upstream lacks it", "both refuse"],
)
def test_the_upstreams_error_is_raised(
    errors: list[UpstreamError], expected: type[Exception]
) -> None:
    """If both the mirror and the upstream fail, the download raises the upstream's error."""
    remotes = [FakeRemote(CONTENT, refusals=[each] * 100) for each in errors]
    with pytest.raises(expected) as raised:
        list(_over(*remotes))

    assert raised.value.upstream == "u"  # type: ignore[attr-defined]  # set by the test


def test_a_distrusted_source_is_not_used() -> None:
    """The download does not use a source that sent wrong bytes if another source has the blob."""
    liar, honest = FakeRemote(CONTENT[::-1], piece=10_000), FakeRemote(CONTENT, piece=10_000)
    sources = Sources([liar.fetch, honest.fetch], without=[0])

    assert b"".join(resumed(sources, 0)) == CONTENT
    assert liar.starts == []
    assert sources.delivered == frozenset({1})


def test_a_source_with_a_final_error_is_removed_at_once() -> None:
    """A final error of a source, such as a redirect to a forbidden host, is never retried."""
    forbidden = Unavailable("fake", "not permitted", Why.NONSENSE, is_final=True)
    remote, time = FakeRemote(CONTENT, refusals=[forbidden] * 100), Time()
    with pytest.raises(Unavailable, match="not permitted"):
        list(_over(remote, time=time))

    assert (len(remote.starts), time.pauses) == (1, [])
