"""Render the metrics in the text format of Prometheus, which the workers serve at /metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from entrepot.logger import metrics
from entrepot.logger.metrics import Amounts, Labels, Metric

MetricRows = tuple[Metric, list[tuple[Labels, Amounts]]]
"""A metric, with its values for each combination of label values."""

_Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class _Families(Collector):
    """An adapter from a list of metric families to the interface of prometheus_client."""

    def __init__(self, families: list[_Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[_Family]:
        yield from self._families


def render(
    shown: Iterable[Metric],
    notes: Mapping[str, str],
    gauges: Mapping[Metric, float],
    *,
    build: Mapping[str, str],
    more: Iterable[MetricRows] = (),
) -> bytes:
    """Return the metrics in the text format of Prometheus.

    *notes* are texts from the index, with the values of the metrics *shown*. *gauges* and *more*
    have other metrics with their values. *build* has the labels of the metric
    `entrepot_build_info`.
    """
    families = [_family(each, metrics.read(notes.get(metrics.note(each)))) for each in shown]
    families += [_family(each, [((), [value])]) for each, value in gauges.items()]
    families += [_family(metric, rows) for metric, rows in more]
    info = Metric("entrepot_build_info", "gauge", "Versions of the running programs.", tuple(build))
    families.append(_family(info, [(tuple(build.values()), [1.0])]))
    registry = CollectorRegistry()
    registry.register(_Families(families))
    return generate_latest(registry)


def _family(metric: Metric, rows: list[tuple[Labels, Amounts]]) -> _Family:
    if metric.type == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, amounts in rows:
            histogram.add_metric(labels, metrics.cumulative(metric, amounts), amounts[0])
        return histogram
    kind = CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    if metric.type == "counter" and not metric.labels:
        # Show a counter without labels as 0 before its first increase, so that an alert can detect
        # the first increase.
        rows = rows or [((), [0.0])]
    for labels, amounts in rows:
        family.add_metric(labels, amounts[0])
    return family
