"""Tests of `render`, which renders metrics in the text format of Prometheus."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from entrepot.logger import exposition
from entrepot.logger.batch import METRICS
from entrepot.logger.metrics import Metric, Registry

COUNT = Metric("a_things", "counter", "Things.", ("kind",))
TIMES = Metric("a_seconds", "histogram", "Times.", (), (0.1, 1.0))
NOW = Metric("a_now", "gauge", "Now.")


def test_prometheus_parses_the_text() -> None:
    """Prometheus's own parser reads counters, histograms, gauges and build info from the text."""
    registry = Registry([COUNT, TIMES])
    registry.add(COUNT, 2, 'a "kind"\n')
    registry.observe(TIMES, 5.5, [1, 2, 3])
    text = exposition.render([COUNT, TIMES], registry.changed(), {NOW: 7.0}, build={"version": "1"})

    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }

    assert samples == {
        ("a_things_total", 'a "kind"\n'): 2,
        ("a_seconds_bucket", "0.1"): 1,
        ("a_seconds_bucket", "1"): 3,
        ("a_seconds_bucket", "+Inf"): 6,
        ("a_seconds_count",): 6,
        ("a_seconds_sum",): 5.5,
        ("a_now",): 7,
        ("entrepot_build_info", "1"): 1,
    }


def test_a_counter_without_labels_starts_at_0() -> None:
    """A counter without labels is rendered as 0 before its first event.

    So an alert on the counter's increase notices the first event.
    """
    lone = Metric("a_lone", "counter", "Lone.")

    text = exposition.render([lone], {}, {}, build={})

    assert b"a_lone_total 0.0" in text


def test_names_are_unique_and_have_no_suffix_total() -> None:
    """Metric names are unique and lack the suffix `_total`, which the text format adds."""
    names = [metric.name for metric in METRICS]

    assert len(names) == len(set(names))
    assert not [name for name in names if name.endswith("_total")]
    assert all(name.startswith(("registry_", "entrepot_")) for name in names)
