"""What was measured, and what is made of several rounds of it: medians."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median

from bench.upstream import Fetches

PSS = "MB PSS"


class Unit(StrEnum):
    """What a row is about."""

    REQUEST = "CPU us/request"
    GIGABYTE = "CPU s/GB"
    WHOLE = "CPU s"
    TIME = "s"
    LATENCY = "p99 us"
    MEMORY = "MB"
    IDLE = "CPU ms/s"


@dataclass(frozen=True, slots=True)
class Sample:
    """One round: `cpu` in s by what the processes do, `seconds` of the work, `p99` in s.

    `more` are figures of this row alone, by their names.
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
    """Medians of all rounds: `cost` in the row's unit, between `least` and `most`.

    `rate` in requests/s, of large blobs in GB/s; `p99` in s; `fetched` is what the upstream was
    asked for in a round; `shares` divide `cost` by what the processes do.
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
        """Return a figure by its name; None when it was not measured."""
        return self.cost if name == "cost" else self.more.get(name)


def figure(unit: Unit, samples: Sequence[Sample]) -> Figure:
    """Make one figure of all rounds."""
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
    """Make a figure of what was looked at once."""
    return Figure(value, value, value, more=more or {})


def cost(unit: Unit, sample: Sample) -> float:
    """Return what one round cost, in the row's unit."""
    if unit in _OTHERS:
        return _OTHERS[unit](sample)
    return sum(sample.cpu.values()) / _per(unit, sample)


_OTHERS: Mapping[Unit, Callable[[Sample], float]] = {
    Unit.TIME: lambda sample: sample.seconds,
    Unit.LATENCY: lambda sample: sample.p99 * 1e6,
    Unit.MEMORY: lambda sample: sample.more[PSS],
}


def rate(unit: Unit, sample: Sample) -> float:
    """Return how fast one round was: GB/s where bytes count, else requests/s."""
    amount = sample.requests if unit in {Unit.REQUEST, Unit.LATENCY} else sample.bytes / 1e9
    return amount / sample.seconds if sample.seconds else 0.0


def _per(unit: Unit, sample: Sample) -> float:
    """Return what CPU seconds are divided by."""
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
