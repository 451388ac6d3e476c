"""Combine the samples of several rounds into one figure for each row and server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median

from bench.upstream import Fetches

PSS = "MB PSS"


class Unit(StrEnum):
    """The unit in which the cost of a row is stated."""

    REQUEST = "CPU us/request"
    GIGABYTE = "CPU s/GB"
    WHOLE = "CPU s"
    TIME = "s"
    LATENCY = "p99 us"
    DELAY = "ms"
    MEMORY = "MB"
    IDLE = "CPU ms/s"


@dataclass(frozen=True, slots=True)
class Sample:
    """The measured values of one row, on one server, in one round.

    `cpu` has the CPU time (s) of each process role. `seconds` is how long the requests took in
    total, and `p99` (s) is the 99th percentile of the response times. `more` has, by name, values
    that only some rows have.
    """

    requests: int
    seconds: float
    bytes: int = 0
    p99: float = 0.0
    failures: int = 0
    cpu: Mapping[str, float] = field(default_factory=dict)
    fetches: Fetches = field(default_factory=Fetches)
    more: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Figure:
    """The medians over all rounds of a row.

    `least` and `most` are the smallest and the largest `cost` of a round. `rate` is in requests/s,
    or in GB/s for large blobs. `p99` is in seconds. `fetched` counts the requests to the upstream
    in a round. `failures` is the sum over all rounds. `shares` has the part of `cost` that each
    process role caused.
    """

    cost: float
    least: float
    most: float
    rate: float = 0.0
    p99: float = 0.0
    fetched: Fetches = field(default_factory=Fetches)
    failures: int = 0
    shares: Mapping[str, float] = field(default_factory=dict)
    more: Mapping[str, float] = field(default_factory=dict)

    def value(self, name: str) -> float | None:
        """Return the value with this name, or None if it was not measured."""
        return self.cost if name == "cost" else self.more.get(name)


def figure(unit: Unit, samples: Sequence[Sample]) -> Figure:
    """Return the figure that combines the samples of all rounds."""
    costs = [cost(unit, each) for each in samples]
    return Figure(
        cost=median(costs),
        least=min(costs),
        most=max(costs),
        rate=median(rate(unit, each) for each in samples),
        p99=median(each.p99 for each in samples),
        fetched=_fetched([each.fetches for each in samples]),
        failures=sum(each.failures for each in samples),
        shares=_medians(
            {name: cpu / _per(unit, each) for name, cpu in each.cpu.items()} for each in samples
        ),
        more=_medians(each.more for each in samples),
    )


def plain_figure(value: float, more: Mapping[str, float] | None = None) -> Figure:
    """Return the figure for a row that is measured only once."""
    return Figure(value, value, value, more=more or {})


def cost(unit: Unit, sample: Sample) -> float:
    """Return the cost of a round, in the row's unit."""
    if unit in _OTHERS:
        return _OTHERS[unit](sample)
    return sum(sample.cpu.values()) / _per(unit, sample)


_OTHERS: Mapping[Unit, Callable[[Sample], float]] = {
    Unit.TIME: lambda sample: sample.seconds,
    Unit.DELAY: lambda sample: sample.seconds * 1000,
    Unit.LATENCY: lambda sample: sample.p99 * 1e6,
    Unit.MEMORY: lambda sample: sample.more[PSS],
}


def rate(unit: Unit, sample: Sample) -> float:
    """Return the rate of a round: requests/s for rows of small responses, GB/s for other rows."""
    amount = sample.requests if unit in {Unit.REQUEST, Unit.LATENCY} else sample.bytes / 1e9
    return amount / sample.seconds if sample.seconds else 0.0


def _per(unit: Unit, sample: Sample) -> float:
    """Return the divisor that converts the CPU time of a round (s) into the cost in *unit*."""
    if unit is Unit.REQUEST:
        return max(sample.requests, 1) / 1e6
    return max(sample.bytes, 1) / 1e9 if unit is Unit.GIGABYTE else 1.0


def _fetched(each: Sequence[Fetches]) -> Fetches:
    return Fetches(
        round(median(one.requests for one in each)),
        round(median(one.gets for one in each)),
        round(median(one.sent for one in each)),
    )


def _medians(each: Iterable[Mapping[str, float]]) -> dict[str, float]:
    rounds = list(each)
    names = {name: None for one in rounds for name in one}
    return {name: median(one.get(name, 0.0) for one in rounds) for name in names}
