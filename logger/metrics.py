"""Keep the values of metrics, which are committed to the index and shown to Prometheus.

A counter is committed in the same transaction as the position in the log up to which lines were
counted. So a counter is exact even if the process is killed. Only committed values are shown: a
shown value that was lost before its commit would make the counter decrease.
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
"""The value of a metric. A counter or gauge has one number.

A histogram has the sum of its observations, and then the count of each bucket. The last bucket has
no upper bound.
"""


@dataclass(frozen=True, slots=True)
class Metric:
    """A `Metric` describes a metric of Prometheus.

    `name` is its name in Prometheus, without the suffix `_total` of a counter. `buckets` are the
    inclusive upper bounds of a histogram's buckets, without +Inf.
    """

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Labels = ()
    buckets: tuple[float, ...] = ()


class Registry:
    """A `Registry` has the values of *metrics*, one value for each combination of labels."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self.metrics = tuple(metrics)
        self._values: dict[str, dict[Labels, Amounts]] = {each.name: {} for each in self.metrics}
        self._changed: set[str] = set()

    def add(self, metric: Metric, amount: float, *labels: str) -> None:
        """Increase a counter by *amount*."""
        self._amounts(metric, labels)[0] += amount

    def set(self, metric: Metric, amount: float, *labels: str) -> None:
        """Set a gauge to *amount*."""
        self._amounts(metric, labels)[0] = amount

    def observe(self, metric: Metric, total: float, counts: Iterable[int], *labels: str) -> None:
        """Add observations to a histogram: their sum, and the count of each bucket."""
        amounts = self._amounts(metric, labels)
        for place, amount in enumerate((total, *counts)):
            amounts[place] += amount

    def clear(self, metric: Metric) -> None:
        """Delete the values of a metric for all labels."""
        self._values[metric.name].clear()
        self._changed.add(metric.name)

    def values(self, metric: Metric) -> Mapping[Labels, Amounts]:
        """Return a mapping from label values to the values of a metric."""
        return self._values[metric.name]

    def _amounts(self, metric: Metric, labels: Labels) -> Amounts:
        self._changed.add(metric.name)
        amounts = self._values[metric.name].get(labels)
        if amounts is None:
            width = len(metric.buckets) + 2 if metric.type == "histogram" else 1
            amounts = self._values[metric.name][labels] = [0.0] * width
        return amounts

    # ---- texts in the index

    def load(self, notes: Mapping[str, str]) -> None:
        """Load values from texts that `changed` once returned.

        Values that an older version stored with other labels or buckets are ignored.
        """
        for metric in self.metrics:
            width = len(metric.buckets) + 2 if metric.type == "histogram" else 1
            for labels, amounts in read(notes.get(note(metric))):
                if len(labels) == len(metric.labels) and len(amounts) == width:
                    self._values[metric.name][labels] = amounts

    def changed(self) -> dict[str, str]:
        """Return the texts to store in the index, by key.

        There is a text for each metric that changed since the last call of `committed`.
        """
        return {f"{_NOTE}{name}": self._dump(name) for name in sorted(self._changed)}

    def committed(self) -> None:
        """Mark all metrics as unchanged. Call this after the texts of `changed` are committed."""
        self._changed.clear()

    def touch_all(self) -> None:
        """Mark all metrics as changed, so that `changed` returns all for a new, empty index."""
        self._changed.update(self._values)

    def _dump(self, name: str) -> str:
        return json.dumps([[labels, amounts] for labels, amounts in self._values[name].items()])


def note(metric: Metric) -> str:
    """Return the key under which the index stores the values of a metric."""
    return _NOTE + metric.name


def read(text: str | None) -> list[tuple[Labels, Amounts]]:
    """Return the values in a metric's stored *text*; an empty list if *text* is damaged or None."""
    try:
        rows = [(tuple(labels), amounts) for labels, amounts in json.loads(text or "[]")]
        return [(labels, [float(each) for each in amounts]) for labels, amounts in rows]
    except (TypeError, ValueError):
        return []


def bucket(buckets: tuple[float, ...], value: float) -> int:
    """Return the number of the bucket that contains *value*."""
    return bisect_left(buckets, value)


def cumulative(metric: Metric, amounts: Amounts) -> list[tuple[str, float]]:
    """Return the upper bounds and cumulative counts of a histogram, as Prometheus requires them."""
    bounds = [*(f"{each:g}" for each in metric.buckets), "+Inf"]
    return list(zip(bounds, accumulate(amounts[1:]), strict=True))
