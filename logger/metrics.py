"""Keep the values of metrics, which are stored in the index and exported from there.

A counter is committed in the same transaction as the log position up to which it has counted.
Therefore a counter is exact even if the process is killed. Only committed values are exported, so
no counter decreases.
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
"""A counter has one number. A histogram has the sum of its observations, then the count of each
bucket.

A histogram's last bucket has no upper bound.
"""


@dataclass(frozen=True, slots=True)
class Metric:
    """A `Metric` describes a metric as Prometheus shows it.

    `name` is the metric's Prometheus name, without the suffix `_total` of a counter.

    `buckets` are the inclusive upper bounds of a histogram, without +Inf.
    """

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Labels = ()
    buckets: tuple[float, ...] = ()


class Registry:
    """A `Registry` has the values of *metrics*: for each metric, the amounts by label values."""

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
        """Return the values of a metric, by label values."""
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
        """Load the texts that `changed` returned, except values with other labels or buckets."""
        for metric in self.metrics:
            width = len(metric.buckets) + 2 if metric.type == "histogram" else 1
            for labels, amounts in read(notes.get(note(metric))):
                if len(labels) == len(metric.labels) and len(amounts) == width:
                    self._values[metric.name][labels] = amounts

    def changed(self) -> dict[str, str]:
        """Return the index's new texts, by key, of the metrics that changed since `committed`."""
        return {f"{_NOTE}{name}": self._dump(name) for name in sorted(self._changed)}

    def committed(self) -> None:
        """Mark all metrics as unchanged, after the index has stored what `changed` returned."""
        self._changed.clear()

    def touch_all(self) -> None:
        """Mark all metrics as changed, because a newly created index has none of them."""
        self._changed.update(self._values)

    def _dump(self, name: str) -> str:
        return json.dumps([[labels, amounts] for labels, amounts in self._values[name].items()])


def note(metric: Metric) -> str:
    """Return the key under which the index has the values of a metric."""
    return _NOTE + metric.name


def read(text: str | None) -> list[tuple[Labels, Amounts]]:
    """Return the values in the index's text of one metric; none if the text is damaged or None."""
    try:
        rows = [(tuple(labels), amounts) for labels, amounts in json.loads(text or "[]")]
        return [(labels, [float(each) for each in amounts]) for labels, amounts in rows]
    except (TypeError, ValueError):
        return []


def bucket(buckets: tuple[float, ...], value: float) -> int:
    """Return the number of the bucket that contains *value*."""
    return bisect_left(buckets, value)


def cumulative(metric: Metric, amounts: Amounts) -> list[tuple[str, float]]:
    """Return a histogram's cumulative buckets, as Prometheus requires: upper bound and count."""
    bounds = [*(f"{each:g}" for each in metric.buckets), "+Inf"]
    return list(zip(bounds, accumulate(amounts[1:]), strict=True))
