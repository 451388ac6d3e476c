"""Metrics as values: added to here, kept as notes in the index, shown from those.

A counter is committed in the transaction of the position up to which it has counted, so that it
is exact whatever kills the process; what is shown is what is committed, so it never goes back.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

_NOTE = "metric:"

Labels = tuple[str, ...]
Amounts = list[float]
"""One number; of a histogram the sum, and then how many fell into each bucket, the last endless."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What is counted: `name` as Prometheus shows it, but for a counter's `_total`.

    `buckets` are a histogram's upper bounds, inclusive, without the endless one.
    """

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Labels = ()
    buckets: tuple[float, ...] = ()


class Registry:
    """The values of some *metrics*, each by label values in the order of its labels."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self.metrics = tuple(metrics)
        self._values: dict[str, dict[Labels, Amounts]] = {each.name: {} for each in self.metrics}
        self._changed: set[str] = set()

    def add(self, metric: Metric, amount: float, *labels: str) -> None:
        """Count *amount* more."""
        self._amounts(metric, labels)[0] += amount

    def set(self, metric: Metric, amount: float, *labels: str) -> None:
        """Make a gauge say *amount*."""
        self._amounts(metric, labels)[0] = amount

    def observe(self, metric: Metric, total: float, counts: Iterable[int], *labels: str) -> None:
        """Count observations: their sum, and how many fell into each bucket."""
        amounts = self._amounts(metric, labels)
        for place, amount in enumerate((total, *counts)):
            amounts[place] += amount

    def clear(self, metric: Metric) -> None:
        """Forget a metric's values."""
        self._values[metric.name].clear()
        self._changed.add(metric.name)

    def values(self, metric: Metric) -> Mapping[Labels, Amounts]:
        """Return a metric's values."""
        return self._values[metric.name]

    def _amounts(self, metric: Metric, labels: Labels) -> Amounts:
        self._changed.add(metric.name)
        amounts = self._values[metric.name].get(labels)
        if amounts is None:
            width = len(metric.buckets) + 2 if metric.type == "histogram" else 1
            amounts = self._values[metric.name][labels] = [0.0] * width
        return amounts

    # ---- notes

    def load(self, notes: Mapping[str, str]) -> None:
        """Take over what `changed` once returned; what has another shape by now starts anew."""
        for metric in self.metrics:
            width = len(metric.buckets) + 2 if metric.type == "histogram" else 1
            for labels, amounts in read(notes.get(note(metric))):
                if len(labels) == len(metric.labels) and len(amounts) == width:
                    self._values[metric.name][labels] = amounts

    def changed(self) -> dict[str, str]:
        """Return the notes of what has changed since `committed`, by key."""
        return {f"{_NOTE}{name}": self._dump(name) for name in sorted(self._changed)}

    def committed(self) -> None:
        """Note that the index holds what `changed` returned, and nothing was added since."""
        self._changed.clear()

    def touch_all(self) -> None:
        """Have all of it written again: the index is a new one."""
        self._changed.update(self._values)

    def _dump(self, name: str) -> str:
        return json.dumps([[labels, amounts] for labels, amounts in self._values[name].items()])


def note(metric: Metric) -> str:
    """Return the key of a metric's note."""
    return _NOTE + metric.name


def read(text: str | None) -> list[tuple[Labels, Amounts]]:
    """Read the note of one metric; nothing from what never was one."""
    try:
        rows = [(tuple(labels), amounts) for labels, amounts in json.loads(text or "[]")]
        return [(labels, [float(each) for each in amounts]) for labels, amounts in rows]
    except (TypeError, ValueError):
        return []


def bucket(buckets: tuple[float, ...], value: float) -> int:
    """Return the place of the bucket that *value* falls into."""
    return bisect_left(buckets, value)


def cumulative(metric: Metric, amounts: Amounts) -> list[tuple[str, float]]:
    """Return a histogram's buckets as Prometheus wants them: each holds those below it."""
    bounds = [*(f"{each:g}" for each in metric.buckets), "+Inf"]
    return list(zip(bounds, accumulate(amounts[1:]), strict=True))
