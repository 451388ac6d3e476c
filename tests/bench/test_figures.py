"""`figure` combines the samples of all rounds of a row into one figure."""

from __future__ import annotations

import pytest

from bench.figures import PSS, Sample, Unit, cost, figure, rate
from bench.upstream import Fetches


def _sample(requests: int = 1000, **cpu: float) -> Sample:
    return Sample(requests, seconds=2, bytes=2 * 10**9, p99=0.001, cpu=cpu, more={PSS: 12})


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        (Unit.REQUEST, 400),
        (Unit.GIGABYTE, 0.2),
        (Unit.WHOLE, 0.4),
        (Unit.TIME, 2),
        (Unit.LATENCY, 1000),
        (Unit.MEMORY, 12),
    ],
    ids=str,
)
def test_a_cost_has_the_unit_of_its_row(unit: Unit, expected: float) -> None:
    """The cost of a row is computed in the row's unit, such as CPU seconds for each gigabyte."""
    assert cost(unit, _sample(haproxy=0.1, registry=0.3)) == pytest.approx(expected)


def test_a_figure_is_the_median_of_its_rounds() -> None:
    """A figure is the median of its rounds, so one disturbed round does not change it."""
    found = figure(Unit.WHOLE, [_sample(a=1.0), _sample(a=9.0), _sample(a=2.0)])

    assert (found.cost, found.least, found.most) == (2.0, 1.0, 9.0)


def test_shares_divide_the_cost_by_role() -> None:
    """The shares of a figure are the costs of the process roles, so the costliest role is known."""
    found = figure(Unit.REQUEST, [_sample(haproxy=0.002, logger=0.001)])

    assert found.shares == pytest.approx({"haproxy": 2.0, "logger": 1.0})


def test_a_role_missing_in_a_round_costs_nothing_in_it() -> None:
    """If a process role is missing in a round, its cost in this round counts as 0."""
    found = figure(Unit.WHOLE, [_sample(a=1.0), _sample(a=1.0, b=5.0), _sample(a=1.0)])

    assert found.shares["b"] == 0


def test_failures_of_all_rounds_count() -> None:
    """The failures of all rounds are added: a median would hide the failures of a single round."""
    rounds = [Sample(1, 1), Sample(1, 1, failures=3), Sample(1, 1)]

    assert figure(Unit.WHOLE, rounds).failures == 3


def test_fetches_are_medians() -> None:
    """The number of requests to the upstream is the median of the rounds, and so are the bytes."""
    rounds = [Sample(1, 1, fetches=Fetches(each, each, 10 * each)) for each in (1, 5, 2)]

    assert figure(Unit.WHOLE, rounds).fetched == Fetches(2, 2, 20)


def test_the_rate_of_large_blobs_is_in_bytes_and_of_small_ones_in_requests() -> None:
    """The rate is in GB/s for large blobs, and in requests/s for small responses."""
    assert rate(Unit.GIGABYTE, _sample()) == pytest.approx(1.0)
    assert rate(Unit.REQUEST, _sample()) == pytest.approx(500)


def test_a_round_without_requests_has_a_finite_cost() -> None:
    """A round without requests has a finite cost: a division by zero would end the benchmark."""
    assert cost(Unit.REQUEST, _sample(0, a=1.0)) == pytest.approx(1e6)
