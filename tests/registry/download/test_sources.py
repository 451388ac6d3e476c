"""When a download asks which source, how long it pauses, and when it ends."""

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

_MUCH = 100_000  # bytes: progress


def _policy(count: int = 1, jitter: float = 1.0, **limits: float) -> RetryPolicy:
    return RetryPolicy(count, Limits(**limits), 0.0, lambda: jitter)


def test_a_source_that_fails_makes_room_for_the_next_at_once() -> None:
    """And is asked again after the others."""
    patience = _policy(3)
    asked = []
    for _ in range(3):
        decision = patience.decide(0.0)
        assert isinstance(decision, AskSource)
        asked.append(decision.source)
        patience.failed(decision.source, 0.0)

    assert asked == [0, 1, 2]
    assert isinstance(patience.decide(0.0), Pause)
    assert patience.decide(0.2) == AskSource(0)


def test_pauses_double_up_to_the_longest() -> None:
    """With full jitter: a pause is a part of these."""
    patience = _policy()
    now, pauses = 0.0, []
    while not isinstance(decision := patience.decide(now), End):
        if isinstance(decision, AskSource):
            patience.failed(0, now)
        else:
            pauses.append(decision.seconds)
            now += decision.seconds

    assert pauses[:7] == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])
    assert now == pytest.approx(30.0)


def test_the_last_try_is_made_when_the_silence_is_over() -> None:
    """An upstream that is back by then is not missed."""
    patience = _policy(silence=1.0, first_pause=0.7)
    patience.failed(0, 0.0)
    first = patience.decide(0.0)
    assert first == Pause(0.7)
    assert patience.decide(0.7) == AskSource(0)
    patience.failed(0, 0.7)
    last = patience.decide(0.7)
    assert isinstance(last, Pause)
    assert last.seconds == pytest.approx(0.3)


def test_progress_begins_the_patience_anew() -> None:
    """Pauses too, and every source may be asked at once again."""
    patience = _policy(2)
    for source in (0, 1):
        patience.failed(source, 20.0)
    patience.decide(20.0)
    patience.progressed(1, 25.0, _MUCH)
    patience.failed(1, 26.0)

    assert patience.decide(26.0) == AskSource(0)
    patience.failed(0, 26.0)
    assert patience.decide(26.0) == Pause(0.2)
    assert patience.decide(54.9) != End()


def test_a_byte_a_connection_is_no_reason_to_ask_at_once() -> None:
    """The patience goes on, for bytes came; the pauses grow all the same."""
    patience = _policy()
    pauses = []
    now = 0.0
    for _ in range(5):
        patience.progressed(0, now, 1)
        patience.failed(0, now)
        decision = patience.decide(now)
        assert isinstance(decision, Pause)
        pauses.append(decision.seconds)
        now += decision.seconds

    assert pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2])


def test_no_pause_is_shorter_than_retry_after() -> None:
    """The other sources are asked meanwhile."""
    patience = _policy(2)
    patience.failed(0, 0.0, retry_after=7.0)
    assert patience.decide(0.0) == AskSource(1)
    patience.failed(1, 0.0, retry_after=9.0)

    assert patience.decide(0.0) == Pause(7.0)
    assert patience.decide(7.0) == AskSource(0)


def test_a_retry_after_beyond_the_patience_ends_it_at_once() -> None:
    """The client is better off with that answer than with a wait."""
    patience = _policy()
    patience.failed(0, 0.0, retry_after=31.0)

    assert patience.decide(0.0) == End()


def test_a_source_without_the_blob_is_not_asked_again() -> None:
    """With none left it ends at once."""
    patience = _policy(2)
    patience.remove(0)
    assert patience.decide(0.0) == AskSource(1)
    patience.remove(1)

    assert patience.decide(0.0) == End()


def test_the_second_answer_without_sense_removes_a_source() -> None:
    """The first may have been a redirect to somewhere that changed."""
    patience = _policy()
    patience.refused(0, 0.0)
    assert isinstance(patience.decide(0.0), Pause)
    patience.refused(0, 1.0)

    assert patience.decide(1.0) == End()


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.floats(0, 40)), max_size=60),
    st.floats(0, 1),
)
@settings(max_examples=scaled(20, 100), deadline=None)
def test_whatever_happens_it_ends_and_never_spins(
    count: int, events: list[tuple[int, int, float]], jitter: float
) -> None:
    """Without progress the number of requests is bounded, and so is the time."""
    patience = _policy(count, jitter)
    now, asked = 0.0, 0
    for kind, source, seconds in events:
        if kind == 0:
            patience.progressed(source % count, now, _MUCH)
        elif kind == 1:
            patience.failed(source % count, now, seconds)
        elif kind == 2:
            patience.refused(source % count, now)
    for _ in range(10_000):
        decision = patience.decide(now)
        if isinstance(decision, End):
            break
        if isinstance(decision, Pause):
            assert 0 <= decision.seconds <= 40
            now += max(decision.seconds, 0.01)
        else:
            asked += 1
            patience.failed(decision.source, now)
            now += 0.01
    else:
        pytest.fail("it never ended")

    assert now <= 72


def test_a_connection_below_the_least_rate_is_too_slow_once_a_span_has_passed() -> None:
    """And the next one has twice the time, so that a source that is slow for everyone ends."""
    pace = Pace(Limits(min_rate=1000, slow_span=15.0))
    pace.begin(0.0)
    assert not pace.is_too_slow(14.9, 10)
    assert pace.is_too_slow(15.0, 10)
    assert not pace.is_too_slow(44.9, 10)
    assert pace.is_too_slow(45.1, 10)


@pytest.mark.parametrize(("rate", "came"), [(0, 1), (1000, 15_000)], ids=["off", "fast enough"])
def test_a_connection_that_is_fast_enough_goes_on(rate: int, came: int) -> None:
    """0 turns it off."""
    pace = Pace(Limits(min_rate=rate, slow_span=15.0))
    pace.begin(0.0)

    assert not pace.is_too_slow(15.0, came)


# ---- with sources


@dataclass
class Time:
    """A clock that a pause moves."""

    now: float = 0.0
    pauses: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.pauses.append(seconds)
        self.now += seconds


CONTENT = filler(300_000, 7)


def _over(*remotes: FakeRemote, time: Time | None = None) -> Iterator[bytes]:
    clock = time or Time()
    fetches = [each.fetch for each in remotes]
    sources = Sources(fetches, clock=clock, sleep=clock.sleep, jitter=lambda: 1.0)
    return resumed(sources, 0)


def test_a_mirror_that_breaks_in_a_body_is_left_for_the_upstream() -> None:
    """At once, and no byte is asked for twice."""
    mirror = FakeRemote(CONTENT, piece=10_000, breaks=[100_000] * 9)
    upstream = FakeRemote(CONTENT, piece=10_000)
    time = Time()

    assert b"".join(_over(mirror, upstream, time=time)) == CONTENT
    assert (mirror.starts, upstream.starts) == ([0], [100_000])
    assert time.pauses == []


def test_a_source_that_refuses_a_further_connection_is_asked_again() -> None:
    """It delivered before: it may take one connection at a time, and another one is still open."""
    remote = FakeRemote(CONTENT, piece=10_000, breaks=[100_000])
    time = Time()
    body = _over(remote, time=time)
    got = [next(body)]
    remote.refusals.extend([Denied("fake", "one at a time")] * 4)

    assert b"".join([*got, *body]) == CONTENT
    assert time.pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2])


def test_a_source_that_goes_on_refusing_is_not_asked_for_ever() -> None:
    """The right to read may have been taken away."""
    remote = FakeRemote(CONTENT, piece=10_000, breaks=[100_000])
    body = _over(remote, time=Time())
    next(body)
    remote.refusals.extend([Denied("fake", "no more")] * 100)
    with pytest.raises(Denied):
        list(body)

    assert len(remote.starts) == 7


def test_a_connection_that_crawls_is_replaced() -> None:
    """By range, from the byte that is missing; a mirror that crawls is left for the upstream."""
    crawling, upstream = FakeRemote(CONTENT, piece=1000), FakeRemote(CONTENT, piece=10_000)
    time = Time()
    limits = Limits(min_rate=10_000)
    sources = Sources([crawling.fetch, upstream.fetch], limits, clock=time, sleep=time.sleep)
    got = b""
    for chunk in resumed(sources, 0):
        got += chunk
        time.now += 1.0 if len(chunk) == 1000 else 0.001

    assert got == CONTENT
    assert crawling.starts == [0]
    assert 10_000 <= upstream.starts[0] <= 20_000


def test_an_outage_in_the_middle_is_waited_for() -> None:
    """As long as it is shorter than the patience."""
    away = [Unavailable("fake", "refused", Why.REFUSED) for _ in range(8)]
    remote = FakeRemote(CONTENT, piece=10_000, breaks=[100_000], refusals=[])
    time = Time()
    body = _over(remote, time=time)
    got = [next(body)]
    remote.refusals.extend(away)

    assert b"".join([*got, *body]) == CONTENT
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
def test_the_last_word_is_the_upstreams(
    errors: list[UpstreamError], expected: type[Exception]
) -> None:
    """A mirror's answer decides nothing."""
    remotes = [FakeRemote(CONTENT, refusals=[each] * 100) for each in errors]
    with pytest.raises(expected) as raised:
        list(_over(*remotes))

    assert raised.value.upstream == "u"  # type: ignore[attr-defined]  # one of ours


def test_a_source_that_is_distrusted_is_not_asked() -> None:
    """It sent wrong bytes before; the others may be right."""
    liar, honest = FakeRemote(CONTENT[::-1], piece=10_000), FakeRemote(CONTENT, piece=10_000)
    sources = Sources([liar.fetch, honest.fetch], without=[0])

    assert b"".join(resumed(sources, 0)) == CONTENT
    assert liar.starts == []
    assert sources.delivered == frozenset({1})
