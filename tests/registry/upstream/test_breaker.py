"""The circuit breaker of an upstream opens and closes, and workers share its state."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.datastore.refs import Tag
from entrepot.registry.errors import Absent, Unavailable, Why
from entrepot.registry.upstream.breaker import (
    CLOSED,
    Breaker,
    BreakerState,
    Circuit,
    Pass,
    Rejection,
    UpstreamFailure,
    admit,
    answered,
    failed,
    limited,
    read_all,
    refused,
)
from entrepot.registry.upstream.protocol import Upstream
from entrepot.runtime import run_names
from tests.registry.upstream.clients import Events, client_of, listening
from tests.upstream import FakeUpstream

DEAD = UpstreamFailure("timeout", at_once=True)


def _patience(knobs: dict[str, Any]) -> float:
    """Return a read timeout in seconds, which is short only if the upstream delays its response."""
    return 0.5 if "hold" in knobs else 10.0


class Clock:
    """A clock that returns the time, in seconds, that the test has set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time, in seconds, that the test has set."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock that is set to 1000 s."""
    return Clock()


def _rejection(breaker: Breaker) -> Unavailable:
    with pytest.raises(Unavailable) as raised:
        breaker.admit()
    return raised.value


@pytest.mark.parametrize("shared", [False, True], ids=["memory", "files"])
def test_breaker_rests_then_probes_then_closes(
    tmp_path: Path, clock: Clock, *, shared: bool
) -> None:
    """An open circuit breaker rejects requests for some time, then admits one request as a probe.

    A probe that gets a status below 500 closes the breaker. This holds whether the breaker shares
    its state with other workers in a file or not.
    """
    breaker = Breaker("host", tmp_path if shared else None, clock=clock)
    breaker.failed(DEAD, breaker.admit())

    resting = _rejection(breaker)
    clock.now += 1
    probe = breaker.admit()
    waiting = _rejection(breaker)
    breaker.answered()

    assert (resting.why, resting.retry_after) == (Why.RESTING, 1.0)
    assert probe == Pass(probe=True)
    assert waiting.why is Why.RESTING
    assert breaker.admit() == Pass()


def test_workers_share_the_state_of_the_breaker(tmp_path: Path, clock: Clock) -> None:
    """If one worker opens the circuit breaker, other workers also reject requests.

    The workers share the state of the breaker in a file. The first worker that changes the state
    creates the folder of that file.
    """
    one, other = (
        Breaker("host:5000", tmp_path / run_names.BREAKERS, clock=clock) for _ in range(2)
    )
    one.failed(DEAD, one.admit())

    assert _rejection(other).why is Why.RESTING
    clock.now += 1
    assert one.admit() == Pass(probe=True)
    assert _rejection(other).why is Why.RESTING


def test_failures_are_counted_over_all_workers(tmp_path: Path, clock: Clock) -> None:
    """If each of three workers sees one failure, the circuit breaker opens."""
    workers = [Breaker("host", tmp_path, clock=clock) for _ in range(3)]
    for worker in workers:
        worker.failed(UpstreamFailure("refused"), worker.admit())

    assert _rejection(workers[0]).why is Why.RESTING


def test_only_one_of_many_threads_probes(tmp_path: Path, clock: Clock) -> None:
    """If eight threads want to send requests after the pause, the breaker admits only one probe."""
    breaker = Breaker("host", tmp_path, clock=clock)
    breaker.failed(DEAD, breaker.admit())
    clock.now += 1
    passed: list[Pass] = []
    together = threading.Barrier(8)

    def admit_one() -> None:
        together.wait()
        try:
            passed.append(breaker.admit())
        except Unavailable:
            return

    threads = [threading.Thread(target=admit_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert passed == [Pass(probe=True)]


def test_opening_and_closing_are_reported_once(clock: Clock) -> None:
    """A circuit breaker reports each opening and each closing once.

    The report of an opening purges HAProxy's cache, so it must not be repeated.
    """
    events = Events()
    breaker = Breaker("host", report=events, clock=clock)
    breaker.failed(DEAD, breaker.admit())
    clock.now += 1
    breaker.failed(DEAD, breaker.admit())
    breaker.answered()
    breaker.answered()

    assert [(event, fields["state"]) for event, fields in events.seen] == [
        ("breaker", "open"),
        ("breaker", "closed"),
    ]


def test_breaker_works_in_memory_if_its_directory_cannot_be_created(
    tmp_path: Path, clock: Clock
) -> None:
    """If the folder of the state file cannot be created, the circuit breaker works in memory."""
    breaker = Breaker("host", tmp_path / "gone" / run_names.BREAKERS, clock=clock)
    breaker.failed(DEAD, breaker.admit())

    assert _rejection(breaker).why is Why.RESTING


def test_a_truncated_state_file_counts_as_a_closed_breaker(tmp_path: Path, clock: Clock) -> None:
    """If a state file cannot be parsed, the breaker is treated as closed, and pulls continue."""
    (tmp_path / "host.json").write_text('{"trips": ')

    assert Breaker("host", tmp_path, clock=clock).admit() == Pass()


@pytest.mark.parametrize(
    "content",
    [
        '{"trips": "1"}',
        '{"trips": 1, "until": null}',
        '{"failures": true}',
        '{"limited": Infinity}',
        '{"trips": 1, "until": NaN}',
        '{"reason": ["x"], "trips": 1}',
        "[]",
        "[" * 100_000,
    ],
    ids=lambda each: each[:30],
)
def test_a_state_file_with_wrong_types_counts_as_a_closed_breaker(
    tmp_path: Path, clock: Clock, content: str
) -> None:
    """If a state file has values of wrong types, the circuit breaker is treated as closed.

    The next failure replaces the file.
    """
    (tmp_path / "host.json").write_text(content)
    breaker = Breaker("host", tmp_path, clock=clock)

    assert breaker.admit() == Pass()
    assert [each.state for each in read_all(tmp_path, clock)] == ["closed"]
    breaker.answered()
    breaker.failed(UpstreamFailure("refused", at_once=True), Pass())
    assert _rejection(breaker).why is Why.RESTING


def test_read_all_returns_the_state_of_each_upstream(tmp_path: Path, clock: Clock) -> None:
    """`read_all` returns the circuit breaker's state for each upstream that had a problem.

    The host of an upstream in this result includes the port.
    """
    dead, slow, healthy = (
        Breaker(host, tmp_path, clock=clock) for host in ("a:5000", "b.example", "c")
    )
    dead.failed(DEAD, dead.admit())
    slow.limited(20)
    healthy.answered()

    assert read_all(tmp_path, clock) == [
        BreakerState("a:5000", "open", 1001.0, "timeout"),
        BreakerState("b.example", "limited", 1020.0, "429"),
    ]
    clock.now += 60
    assert [each.state for each in read_all(tmp_path, clock)] == ["probing", "closed"]
    assert read_all(tmp_path / "gone", clock) == []


@pytest.mark.parametrize(
    "knobs",
    [
        {"status": 500},
        {"status": 503},
        {"drop": True},
        pytest.param({"hold": threading.Event()}, marks=pytest.mark.slow),
    ],
    ids=["500", "503", "dropped", "hung"],
)
def test_three_failures_open_the_breaker_if_v2_fails_too(
    upstream: FakeUpstream, knobs: dict[str, Any]
) -> None:
    """After three failures the client requests `/v2/`; if this also fails, the breaker opens.

    An open breaker rejects requests without a connection to the upstream.
    """
    upstream.misbehave(**knobs)
    events, shared = listening()
    client = client_of(upstream, shared, read_timeout=_patience(knobs))

    why = []
    for _ in range(5):
        with pytest.raises(Unavailable) as raised:
            client.head("app", Tag("v1"))
        why.append(raised.value.why)

    sent = [each.method for each in upstream.requests if each.path != "/v2/"]
    assert [each.path for each in upstream.requests][len(sent) :] == ["/v2/"]
    assert why[3:] == [Why.RESTING, Why.RESTING]
    if "hold" in knobs:  # the client sends no GET after a HEAD that timed out
        assert sent == ["HEAD"] * 3
        assert events.outcomes() == [("head", "unavailable")] * 3
    else:
        assert sent == ["HEAD", "GET"] * 3
        assert events.outcomes()[1::2] == [("manifest", "unavailable")] * 3


def test_a_rate_limit_lasts_as_long_as_retry_after(upstream: FakeUpstream, tmp_path: Path) -> None:
    """After a 429 to a HEAD, no worker sends a HEAD until the time in Retry-After has passed."""
    upstream.misbehave(status=429, headers={"Retry-After": "30"})
    shared = listening(tmp_path)[1]

    with pytest.raises(Unavailable):
        client_of(upstream, shared).head("app", Tag("v1"))
    with pytest.raises(Unavailable) as raised:
        client_of(upstream, shared).head("app", Tag("v1"))

    assert raised.value.why is Why.LIMITED
    assert 29 <= (raised.value.retry_after or 0) <= 30
    assert upstream.count() == 1


def test_404_does_not_count_as_a_failure(upstream: FakeUpstream) -> None:
    """A 404 is not treated as a failure, because it shows that the upstream works."""
    client = client_of(upstream)

    for _ in range(5):
        with pytest.raises(Absent):
            client.head("app", Tag("v1"))

    assert (upstream.count("HEAD"), upstream.count("GET")) == (5, 5)


def test_a_rejected_head_alone_does_not_open_the_breaker(upstream: FakeUpstream) -> None:
    """If a HEAD fails but the GET after it succeeds, the circuit breaker stays closed."""
    upstream.add_image("app", "v1", [b"layer"])
    upstream.misbehave(method="HEAD", status=500)
    upstream.misbehave("/v2/$", status=500)
    client = client_of(upstream)

    for _ in range(5):
        assert client.head("app", Tag("v1")).manifest is not None
    assert client.is_healthy


def test_a_rate_limit_of_manifests_stops_the_get_after_a_head(upstream: FakeUpstream) -> None:
    """While the upstream limits the rate of manifests, the client sends no GET after a failed HEAD.

    The client still sends the HEAD, because Docker Hub limits only GET requests for manifests.
    """
    upstream.add_image("app", "v1", [b"layer"])
    upstream.misbehave("manifests", method="GET", status=429)
    client = client_of(upstream)
    with pytest.raises(Unavailable):
        client.manifest("app", Tag("v1"))
    upstream.misbehave("manifests", method="HEAD", status=404)
    upstream.forget()

    with pytest.raises(Unavailable) as raised:
        client.head("app", Tag("v1"))

    assert raised.value.why is Why.LIMITED
    assert [each.method for each in upstream.requests] == ["HEAD"]


def test_cut_bodies_do_not_open_the_breaker(upstream: FakeUpstream) -> None:
    """If bodies break off, the breaker stays closed, so that the client can request the rest."""
    digest = upstream.add_blob("app", b"x" * 1000)
    upstream.misbehave(cut=10)
    client = client_of(upstream)

    for _ in range(5):
        with client.blob("app", digest) as blob, pytest.raises(Unavailable):
            list(blob.chunks())

    assert upstream.count() == 5


class TestOfOnePath:
    """Failures of a single path do not open the breaker as long as `/v2/` works.

    Clients choose the paths of requests, and one client must not block an upstream for all others.
    """

    @staticmethod
    def _fails(client: Upstream, times: int = 20) -> set[Why]:
        """Request the failing path *times* times, and return the reasons for the failures."""
        found = set()
        for _ in range(times):
            with pytest.raises(Unavailable) as raised:
                client.manifest("app", Tag("bad"))
            found.add(raised.value.why)
        return found

    @pytest.mark.parametrize(
        ("knobs", "alive"),
        [
            ({"status": 500}, 200),
            ({"status": 500}, 404),
            ({"status": 500}, 429),
            ({"status": 503}, 401),
            ({"drop": True}, 401),
            pytest.param({"hold": threading.Event()}, 401, marks=pytest.mark.slow),
            ({"redirect": "http://127.0.0.1:1/gone"}, 401),
            ({"redirect": "http://gone.invalid/"}, 401),
            (
                {"status": 401, "headers": {"WWW-Authenticate": 'Bearer realm="http://e.test/"'}},
                401,
            ),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_one_failing_path_does_not_block_other_requests(
        self, upstream: FakeUpstream, knobs: dict[str, Any], alive: int
    ) -> None:
        """If one path fails repeatedly, requests for other paths are still sent.

        A status below 500 for `/v2/` shows that the upstream works.
        """
        upstream.add_image("app", "v1", [b"layer"])
        upstream.misbehave("/bad", **knobs)
        upstream.misbehave("/v2/$", status=alive)
        client = client_of(upstream, connect_timeout=5.0, read_timeout=_patience(knobs))

        for _ in range(3):
            assert Why.RESTING not in self._fails(client, 4)
            assert client.manifest("app", Tag("v1")).body
        assert client.is_healthy
        assert upstream.count("GET", "/v2/$") <= 12 // 3

    def test_a_probe_of_the_failing_path_still_closes_the_breaker(
        self, upstream: FakeUpstream, tmp_path: Path
    ) -> None:
        """If the upstream has recovered but the probe's path fails, the breaker still closes.

        So requests for all other paths are sent again.
        """
        upstream.add_image("app", "v1", [b"layer"])
        upstream.misbehave(status=503)
        now = Clock()
        shared = replace(listening(tmp_path)[1], clock=now)
        client = client_of(upstream, shared)
        assert Why.RESTING in self._fails(client, 4)
        now.now += 60
        upstream.behave()
        upstream.misbehave("/bad", status=500)

        assert self._fails(client, 1) == {Why.NONSENSE}
        assert client.manifest("app", Tag("v1")).body

    @pytest.mark.parametrize(
        "knobs", [{"status": 500}, {"drop": True}, {"hold": threading.Event()}]
    )
    def test_breaker_opens_if_v2_fails_as_well(
        self, upstream: FakeUpstream, knobs: dict[str, Any]
    ) -> None:
        """If both `/v2/` and the requested path fail, the breaker opens after few requests."""
        upstream.misbehave("/bad", status=500)
        upstream.misbehave("/v2/$", **knobs)

        client = client_of(upstream, read_timeout=_patience(knobs))

        assert Why.RESTING in self._fails(client)
        # a request that fails on a dead idle connection is sent a second time
        assert upstream.count() <= 5

    def test_a_refused_connection_opens_the_breaker_without_a_check_of_v2(self) -> None:
        """If the upstream refuses connections, the breaker opens without a request for `/v2/`.

        No client can cause refused connections by choosing a path.
        """
        with FakeUpstream() as gone:
            client = client_of(gone)
        found = self._fails(client, 5)

        assert found == {Why.REFUSED, Why.RESTING}

    def test_concurrent_failures_share_one_check_of_v2(self, upstream: FakeUpstream) -> None:
        """If many requests fail at the same time, the client requests `/v2/` once for all of them.

        The result of that request is valid for one second.
        """
        upstream.misbehave("/bad", status=500)
        shared = replace(listening()[1], clock=Clock())
        client = client_of(upstream, shared, connect_timeout=10.0, read_timeout=10.0)
        with ThreadPoolExecutor(16) as pool:
            found = set().union(*pool.map(lambda _: self._fails(client, 10), range(16)))

        assert found == {Why.NONSENSE}
        assert upstream.count("GET", "/v2/$") == 1


def test_each_change_of_an_upstream_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If several workers notice that an upstream fails or recovers, only one worker logs it."""
    clock = Clock()
    caplog.set_level(logging.INFO)
    workers = [Breaker("x.test", tmp_path / run_names.BREAKERS, clock=clock) for _ in range(2)]
    cause = UpstreamFailure("refused", at_once=True, detail="refused: no connection")
    for each in workers:
        each.failed(cause, Pass())
    clock.now += 5
    workers[1].failed(cause, workers[1].admit())
    clock.now += 5
    for each in workers:
        each.answered()
        each.limited(7.0, "manifest")
        each.refused()
    clock.now += 100
    workers[0].answered()
    workers[0].refused()
    clock.now += 300
    workers[0].refused()

    logged = [(each.message, each.__dict__.get("cause", "")) for each in caplog.records]
    assert logged == [
        ("upstream is unavailable", "refused: no connection"),
        ("upstream is available again", ""),
        ("upstream limits the rate", ""),
        ("upstream rejects the configured credentials", ""),
        ("upstream rejects the configured credentials", ""),
    ]


SLOW = UpstreamFailure("refused")
LEASE = 10.0


def _tripped(times: int, now: float = 100.0) -> Circuit:
    """Return the state of a breaker after *times* openings, the last of them at *now* seconds."""
    circuit = failed(CLOSED, now, DEAD, probe=False)
    for _ in range(times - 1):
        circuit = failed(circuit, now, SLOW, probe=True)
    return circuit


def test_three_consecutive_failures_open_the_breaker() -> None:
    """Three failures in a row open the circuit breaker."""
    two = failed(failed(CLOSED, 100, SLOW, probe=False), 100, SLOW, probe=False)
    three = failed(two, 100, SLOW, probe=False)
    after_answer = failed(answered(two), 100, SLOW, probe=False)

    assert two.is_closed
    assert not three.is_closed
    assert after_answer.is_closed
    assert admit(three, 100, LEASE)[1] == Rejection("resting", 1.0)


def test_one_connection_timeout_opens_the_breaker() -> None:
    """One connection timeout opens the circuit breaker.

    The next request would probably wait just as long.
    """
    assert not failed(CLOSED, 100, DEAD, probe=False).is_closed


def test_the_rest_doubles_up_to_30_s() -> None:
    """An open circuit breaker waits 1, 2, 4, 8, 16, 30 and 30 s before its first seven probes."""
    rests = [_tripped(times).until - 100 for times in range(1, 8)]

    assert rests == [1, 2, 4, 8, 16, 30, 30]


def test_one_request_probes_and_others_are_rejected() -> None:
    """After its pause, an open circuit breaker admits one probe and rejects all other requests."""
    circuit = _tripped(1)

    probing, first = admit(circuit, 101, LEASE)
    _, second = admit(probing, 102, LEASE)

    assert first == Pass(probe=True)
    assert isinstance(second, Rejection)
    assert second.because == "resting"


def test_a_probe_without_a_result_is_replaced() -> None:
    """If a probe has no result for some time, the circuit breaker admits another probe.

    The worker that sent the first probe may have been killed.
    """
    probing, _ = admit(_tripped(1), 101, LEASE)

    assert admit(probing, 101 + LEASE, LEASE)[1] == Pass(probe=True)


def test_any_response_closes_the_breaker() -> None:
    """A response with a status below 500 closes the circuit breaker."""
    assert admit(answered(_tripped(5)), 100, LEASE)[1] == Pass()
    assert answered(_tripped(5)) == CLOSED


def test_failures_of_earlier_requests_do_not_extend_the_rest() -> None:
    """The failure of a request that was sent before the breaker opened does not extend the pause.

    If twenty requests fail together, only the failures that open the breaker count.
    """
    circuit = _tripped(1)

    assert failed(circuit, 100.5, SLOW, probe=False) == circuit


@pytest.mark.parametrize(
    ("retry_after", "span"), [(None, 5), (0, 0), (7, 7), (3600, 60)], ids=["none", "0", "7", "1 h"]
)
def test_a_rate_limit_lasts_for_retry_after_but_at_most_60_s(
    retry_after: float | None, span: float
) -> None:
    """A rate limit lasts for the time in Retry-After, but at most 60 s.

    Docker Hub can state hours in Retry-After, but one request per minute is acceptable.
    """
    circuit = limited(CLOSED, 100, retry_after)

    verdict = admit(circuit, 100, LEASE)[1]

    assert verdict == (Rejection("limited", span) if span else Pass())
    assert admit(circuit, 100 + span, LEASE)[1] == Pass()


def test_a_rate_limit_closes_an_open_breaker() -> None:
    """A 429 closes an open circuit breaker; later responses do not end the rate limit early."""
    circuit = answered(limited(_tripped(3), 100, 7))

    assert circuit == Circuit(limited=107)


def test_a_clock_set_back_ends_a_rest_and_a_rate_limit() -> None:
    """If the clock is set back by more than a rest can last, the next request is a probe.

    A rate limit ends too. Otherwise both would last until the clock is at the old time again.
    """
    tripped = _tripped(1, now=5000)
    under_limit = limited(CLOSED, 5000, 60)

    assert admit(tripped, 4990, LEASE)[1] == Rejection("resting", 11)
    assert admit(tripped, 1000, LEASE)[1] == Pass(probe=True)
    assert admit(under_limit, 1000, LEASE)[1] == Pass()
    assert limited(under_limit, 1000, 5).limited == 1005
    assert refused(refused(CLOSED, 5000), 1000).refused == 1000


@given(st.floats(1.7e9, 1.9e9), st.sampled_from([1.0, 2.0, 4.0, 16.0, 30.0]))
def test_rounding_does_not_end_a_rest(now: float, rest: float) -> None:
    """A rest that has just begun is not taken for one from before a change of the clock."""
    _, result = admit(Circuit(trips=1, until=now + rest), now, LEASE)

    assert isinstance(result, Rejection)
    assert result.retry_after == pytest.approx(rest)
