"""The pure half of the breaker: when it opens, how long it rests, who probes."""

from __future__ import annotations

import pytest

from entrepot.registry.upstream.circuit import (
    CLOSED,
    Circuit,
    Pass,
    Refusal,
    UpstreamFailure,
    admit,
    answered,
    failed,
    limited,
)

SLOW = UpstreamFailure("refused")
DEAD = UpstreamFailure("timeout", at_once=True)
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
