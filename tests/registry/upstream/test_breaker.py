"""The breaker: when it opens and closes, and how workers share its state."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from entrepot.datastore.refs import Tag
from entrepot.registry.errors import Absent, Unavailable, Why
from entrepot.registry.upstream.breaker import (
    CLOSED,
    Breaker,
    BreakerState,
    Circuit,
    Pass,
    Refusal,
    UpstreamFailure,
    admit,
    answered,
    failed,
    limited,
    read_all,
)
from entrepot.registry.upstream.protocol import Upstream
from tests.registry.upstream.clients import Events, client_of, listening
from tests.upstream import FakeUpstream

DEAD = UpstreamFailure("timeout", at_once=True)


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock at 1000 s."""
    return Clock()


def _refusal(breaker: Breaker) -> Unavailable:
    with pytest.raises(Unavailable) as raised:
        breaker.admit()
    return raised.value


@pytest.mark.parametrize("shared", [False, True], ids=["memory", "files"])
def test_it_rests_probes_and_closes(tmp_path: Path, clock: Clock, *, shared: bool) -> None:
    """The same with files and without."""
    breaker = Breaker("host", tmp_path if shared else None, clock=clock)
    breaker.failed(DEAD, breaker.admit())

    resting = _refusal(breaker)
    clock.now += 1
    probe = breaker.admit()
    waiting = _refusal(breaker)
    breaker.answered()

    assert (resting.why, resting.retry_after) == (Why.RESTING, 1.0)
    assert probe == Pass(probe=True)
    assert waiting.why is Why.RESTING
    assert breaker.admit() == Pass()


def test_workers_share_what_one_of_them_learns(tmp_path: Path, clock: Clock) -> None:
    """A second process meets the open breaker, and one probe serves both.

    The directory is made by the first that has something to say.
    """
    one, other = (Breaker("host:5000", tmp_path / "breakers", clock=clock) for _ in range(2))
    one.failed(DEAD, one.admit())

    assert _refusal(other).why is Why.RESTING
    clock.now += 1
    assert one.admit() == Pass(probe=True)
    assert _refusal(other).why is Why.RESTING


def test_failures_are_counted_over_all_workers(tmp_path: Path, clock: Clock) -> None:
    """Three workers with one failure each have seen three in a row."""
    workers = [Breaker("host", tmp_path, clock=clock) for _ in range(3)]
    for worker in workers:
        worker.failed(UpstreamFailure("refused"), worker.admit())

    assert _refusal(workers[0]).why is Why.RESTING


def test_one_of_many_threads_probes(tmp_path: Path, clock: Clock) -> None:
    """However many ask in the same moment."""
    breaker = Breaker("host", tmp_path, clock=clock)
    breaker.failed(DEAD, breaker.admit())
    clock.now += 1
    passed: list[Pass] = []
    together = threading.Barrier(8)

    def ask() -> None:
        together.wait()
        try:
            passed.append(breaker.admit())
        except Unavailable:
            return

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert passed == [Pass(probe=True)]


def test_opening_and_closing_are_reported_once(clock: Clock) -> None:
    """Memory caches are emptied when it opens: a failed probe is no news."""
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


def test_a_directory_that_is_gone_costs_only_the_sharing(tmp_path: Path, clock: Clock) -> None:
    """The breaker then remembers for itself."""
    breaker = Breaker("host", tmp_path / "gone" / "breakers", clock=clock)
    breaker.failed(DEAD, breaker.admit())

    assert _refusal(breaker).why is Why.RESTING


def test_a_torn_file_is_a_closed_breaker(tmp_path: Path, clock: Clock) -> None:
    """Nothing that lies there can stop a pull."""
    (tmp_path / "host.json").write_text('{"trips": ')

    assert Breaker("host", tmp_path, clock=clock).admit() == Pass()


def test_the_health_of_all_can_be_read(tmp_path: Path, clock: Clock) -> None:
    """By host, with its port; who never had a problem is not listed."""
    dead, slow, well = (
        Breaker(host, tmp_path, clock=clock) for host in ("a:5000", "b.example", "c")
    )
    dead.failed(DEAD, dead.admit())
    slow.limited(20)
    well.answered()

    assert read_all(tmp_path, clock) == [
        BreakerState("a:5000", "open", 1001.0, "timeout"),
        BreakerState("b.example", "limited", 1020.0, "429"),
    ]
    clock.now += 60
    assert [each.state for each in read_all(tmp_path, clock)] == ["probing", "closed"]
    assert read_all(tmp_path / "gone", clock) == []


@pytest.mark.parametrize(
    "knobs",
    [{"status": 500}, {"status": 503}, {"drop": True}, {"hold": threading.Event()}],
    ids=["500", "503", "dropped", "hung"],
)
def test_an_upstream_that_fails_three_times_is_left_alone(
    upstream: FakeUpstream, knobs: dict[str, Any]
) -> None:
    """Once it does not answer `/v2/` either, a request is refused here and costs nothing."""
    upstream.misbehave(**knobs)
    events, shared = listening()
    client = client_of(upstream, shared, read_timeout=0.05)

    why = []
    for _ in range(5):
        with pytest.raises(Unavailable) as raised:
            client.head("app", Tag("v1"))
        why.append(raised.value.why)

    asked = [each.method for each in upstream.requests if each.path != "/v2/"]
    assert [each.path for each in upstream.requests][len(asked) :] == ["/v2/"]
    assert why[3:] == [Why.RESTING, Why.RESTING]
    if "hold" in knobs:  # a GET would wait as long again
        assert asked == ["HEAD"] * 3
        assert events.outcomes() == [("head", "unavailable")] * 3
    else:
        assert asked == ["HEAD", "GET"] * 3
        assert events.outcomes()[1::2] == [("manifest", "unavailable")] * 3


def test_a_rate_limit_is_kept_for_as_long_as_the_upstream_says(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    """One request hears of it, in whichever worker; the others don't ask."""
    upstream.misbehave(status=429, headers={"Retry-After": "30"})
    shared = listening(tmp_path)[1]

    with pytest.raises(Unavailable):
        client_of(upstream, shared).head("app", Tag("v1"))
    with pytest.raises(Unavailable) as raised:
        client_of(upstream, shared).head("app", Tag("v1"))

    assert raised.value.why is Why.LIMITED
    assert 29 <= (raised.value.retry_after or 0) <= 30
    assert upstream.count() == 1


def test_what_is_not_there_is_no_failure(upstream: FakeUpstream) -> None:
    """404 and 403 are answers."""
    client = client_of(upstream)

    for _ in range(5):
        with pytest.raises(Absent):
            client.head("app", Tag("v1"))

    assert (upstream.count("HEAD"), upstream.count("GET")) == (5, 5)


def test_a_refused_head_alone_opens_nothing(upstream: FakeUpstream) -> None:
    """Only the GET behind it shows whether the upstream works."""
    upstream.add_image("app", "v1", [b"layer"])
    upstream.misbehave(method="HEAD", status=500)
    upstream.misbehave("/v2/$", status=500)
    client = client_of(upstream)

    for _ in range(5):
        assert client.head("app", Tag("v1")).manifest is not None
    assert client.is_well


def test_a_limit_of_manifests_stops_the_get_behind_a_head(upstream: FakeUpstream) -> None:
    """HEAD is not limited there; a GET that is known to be refused is not sent."""
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


def test_bodies_that_are_cut_do_not_open_it(upstream: FakeUpstream) -> None:
    """The next request resumes them, and must be let through."""
    digest = upstream.add_blob("app", b"x" * 1000)
    upstream.misbehave(cut=10)
    client = client_of(upstream)

    for _ in range(5):
        with client.blob("app", digest) as blob, pytest.raises(Unavailable):
            list(blob.chunks())

    assert upstream.count() == 5


class TestOfOnePath:
    """What a client provokes by what it asks for opens no breaker: others would go without."""

    @staticmethod
    def _fails(client: Upstream, times: int = 20) -> set[Why]:
        """Ask for the path that fails."""
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
            ({"hold": threading.Event()}, 401),
            ({"redirect": "http://127.0.0.1:1/gone"}, 401),
            ({"redirect": "http://gone.invalid/"}, 401),
            (
                {"status": 401, "headers": {"WWW-Authenticate": 'Bearer realm="http://e.test/"'}},
                401,
            ),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_it_keeps_nobody_from_the_upstream(
        self, upstream: FakeUpstream, knobs: dict[str, Any], alive: int
    ) -> None:
        """However often, and whatever `/v2/` answers."""
        upstream.add_image("app", "v1", [b"layer"])
        upstream.misbehave("/bad", **knobs)
        upstream.misbehave("/v2/$", status=alive)
        client = client_of(upstream, connect_timeout=0.5, read_timeout=0.05)

        for _ in range(3):
            assert Why.RESTING not in self._fails(client, 4)
            assert client.manifest("app", Tag("v1")).body
        assert client.is_well
        assert upstream.count("GET", "/v2/$") <= 12 // 3

    def test_the_probe_of_an_open_breaker_may_ask_for_it(
        self, upstream: FakeUpstream, tmp_path: Path
    ) -> None:
        """An outage ends for all, although the first request after it fails by itself."""
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
    def test_an_upstream_that_does_not_answer_as_a_whole_is_left_alone(
        self, upstream: FakeUpstream, knobs: dict[str, Any]
    ) -> None:
        """And it is not asked more than that."""
        upstream.misbehave("/bad", status=500)
        upstream.misbehave("/v2/$", **knobs)

        assert Why.RESTING in self._fails(client_of(upstream, read_timeout=0.05))
        assert upstream.count() <= 5  # a kept connection that breaks is replaced once

    def test_an_upstream_that_cannot_be_reached_is_not_asked_once_more(self) -> None:
        """No client has a part in that."""
        with FakeUpstream() as gone:
            client = client_of(gone)
        found = self._fails(client, 5)

        assert found == {Why.REFUSED, Why.RESTING}

    def test_many_at_once_ask_few_times(self, upstream: FakeUpstream) -> None:
        """A second is one answer for all threads."""
        upstream.misbehave("/bad", status=500)
        client = client_of(upstream)
        with ThreadPoolExecutor(16) as pool:
            found = set().union(*pool.map(lambda _: self._fails(client, 10), range(16)))

        assert found == {Why.NONSENSE}
        assert upstream.count("GET", "/v2/$") <= 10


def test_the_log_names_what_happens_to_an_upstream_once_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of several workers one writes the line; what is repeated is none."""
    clock = Clock()
    caplog.set_level(logging.INFO)
    workers = [Breaker("x.test", tmp_path / "breakers", clock=clock) for _ in range(2)]
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

    told = [(each.message, each.__dict__.get("cause", "")) for each in caplog.records]
    assert told == [
        ("upstream is unavailable", "refused: no connection"),
        ("upstream is available again", ""),
        ("upstream limits the rate", ""),
        ("upstream rejects the configured credentials", ""),
        ("upstream rejects the configured credentials", ""),
    ]


SLOW = UpstreamFailure("refused")
LEASE = 10.0


def _tripped(times: int, now: float = 100.0) -> Circuit:
    """Let the probe fail until the breaker has opened so many times."""
    circuit = failed(CLOSED, now, DEAD, probe=False)
    for _ in range(times - 1):
        circuit = failed(circuit, now, SLOW, probe=True)
    return circuit


def test_three_failures_in_a_row_open_it() -> None:
    """Two are an accident; an answer between them starts the count anew."""
    two = failed(failed(CLOSED, 100, SLOW, probe=False), 100, SLOW, probe=False)
    three = failed(two, 100, SLOW, probe=False)
    after_answer = failed(answered(two), 100, SLOW, probe=False)

    assert two.is_closed
    assert not three.is_closed
    assert after_answer.is_closed
    assert admit(three, 100, LEASE)[1] == Refusal("resting", 1.0)


def test_a_connection_that_does_not_come_up_opens_it_at_once() -> None:
    """Each further try would cost its client the whole connect time-out."""
    assert not failed(CLOSED, 100, DEAD, probe=False).is_closed


def test_the_rest_doubles_up_to_half_a_minute() -> None:
    """1, 2, 4, 8, 16, 30, 30 s."""
    rests = [_tripped(times).until - 100 for times in range(1, 8)]

    assert rests == [1, 2, 4, 8, 16, 30, 30]


def test_one_request_probes_and_the_others_wait() -> None:
    """After the rest one goes through; the others are refused until it is back."""
    circuit = _tripped(1)

    probing, first = admit(circuit, 101, LEASE)
    _, second = admit(probing, 102, LEASE)

    assert first == Pass(probe=True)
    assert isinstance(second, Refusal)
    assert second.because == "resting"


def test_a_probe_that_never_came_back_is_replaced() -> None:
    """Its worker may have been killed."""
    probing, _ = admit(_tripped(1), 101, LEASE)

    assert admit(probing, 101 + LEASE, LEASE)[1] == Pass(probe=True)


def test_an_answer_closes_it() -> None:
    """Whatever it says: the upstream lives."""
    assert admit(answered(_tripped(5)), 100, LEASE)[1] == Pass()
    assert answered(_tripped(5)) == CLOSED


def test_failures_that_were_under_way_do_not_lengthen_the_rest() -> None:
    """Twenty requests that fail together are one failure."""
    circuit = _tripped(1)

    assert failed(circuit, 100.5, SLOW, probe=False) == circuit


@pytest.mark.parametrize(
    ("said", "span"), [(None, 5), (0, 0), (7, 7), (3600, 60)], ids=["unsaid", "0", "7", "an hour"]
)
def test_a_limit_lasts_as_long_as_said_but_a_minute_at_most(
    said: float | None, span: float
) -> None:
    """Docker Hub may say hours; asking once a minute harms nobody."""
    circuit = limited(CLOSED, 100, said)

    verdict = admit(circuit, 100, LEASE)[1]

    assert verdict == (Refusal("limited", span) if span else Pass())
    assert admit(circuit, 100 + span, LEASE)[1] == Pass()


def test_a_limit_is_also_an_answer() -> None:
    """It closes an open breaker, and an answer does not lift the limit."""
    circuit = answered(limited(_tripped(3), 100, 7))

    assert circuit == Circuit(limited=107)


def test_a_clock_set_back_makes_no_rest_longer_than_the_longest() -> None:
    """Else an hour's correction would take the upstream away for an hour."""
    circuit = limited(_tripped(1, now=5000), 5000, 60)

    assert admit(_tripped(1, now=5000), 1000, LEASE)[1] == Refusal("resting", 30)
    assert admit(circuit, 1000, LEASE)[1] == Refusal("limited", 60)
