"""Tests of the metrics about requests to a bucket."""

from __future__ import annotations

from typing import Any

import pytest

from entrepot.datastore.accesslog import STORAGE_EVENT, Event
from entrepot.logger import storage_metrics
from entrepot.logger.event_metrics import METRICS, EventMetrics
from entrepot.logger.labels import OTHER, UpstreamLabels
from entrepot.logger.metrics import Registry

REQUEST: dict[str, Any] = {
    "what": "request",
    "driver": "s3aws",
    "action": "Stat",
    "status": "404",
    "bytes": 0,
}


def _counted(*events: dict[str, Any], since: float = 0) -> Registry:
    registry = Registry(METRICS)
    metrics = EventMetrics(registry, UpstreamLabels(), since=since)
    for fields in events:
        metrics.count(Event(STORAGE_EVENT, 1000, fields))
    return registry


def test_a_request_is_counted_by_verb_and_status_with_its_duration() -> None:
    """Each request to a bucket is counted by method and status; a histogram has its duration.

    The histogram has the name and labels that docker distribution uses. All unknown values share
    one label value.
    """
    put = {"action": "PutContent", "status": "2xx", "bytes": 70, "seconds": 0.5}
    registry = _counted(
        REQUEST | {"seconds": 0.25},
        REQUEST | put,
        REQUEST | put | {"action": "Writer"},
        REQUEST | {"seconds": 1, "driver": "x", "action": "y", "status": "z"},
    )

    seconds = registry.values(storage_metrics.STORAGE_SECONDS)
    assert registry.values(storage_metrics.STORAGE_REQUESTS) == {
        ("s3aws", "HEAD", "404"): [1],
        ("s3aws", "PUT", "2xx"): [2],
        (OTHER, OTHER, OTHER): [1],
    }
    assert {labels: values[0] for labels, values in seconds.items()} == {
        ("s3aws", "Stat"): 0.25,
        ("s3aws", "PutContent"): 0.5,
        ("s3aws", "Writer"): 0.5,
        (OTHER, OTHER): 1,
    }
    assert registry.values(storage_metrics.STORAGE_BYTES) == {("s3aws", "written"): [140]}


def test_read_bytes_and_retries_are_counted() -> None:
    """Metrics count the bytes read from a bucket, and the retried requests."""
    registry = _counted(
        {"what": "read", "driver": "azure", "bytes": 5},
        {"what": "read", "driver": "azure", "bytes": 6},
        {"what": "retry", "driver": "azure"},
    )

    assert registry.values(storage_metrics.STORAGE_BYTES) == {("azure", "read"): [11]}
    assert registry.values(storage_metrics.STORAGE_RETRIES) == {("azure",): [1]}


@pytest.mark.parametrize(("since", "expected"), [(0, {("s3aws",): [1.0]}), (2000, {})])
def test_the_circuit_of_this_run_is_shown(since: float, expected: object) -> None:
    """The metric of the bucket's circuit breaker ignores events of an earlier run."""
    registry = _counted({"what": "circuit", "driver": "s3aws", "state": "open"}, since=since)

    assert registry.values(storage_metrics.STORAGE_CIRCUIT) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"seconds": -1},
        {"seconds": "1"},
        {},
        {"seconds": 1, "bytes": None},
        {"what": "read", "bytes": -1},
    ],
)
def test_a_malformed_report_counts_nothing(fields: dict[str, Any]) -> None:
    """An event with an impossible number changes no metric."""
    registry = Registry(METRICS)
    metrics = EventMetrics(registry, UpstreamLabels())

    with pytest.raises(ValueError, match=r"no number|out of range"):
        metrics.count(Event(STORAGE_EVENT, 1000, REQUEST | fields))

    assert all(registry.values(each) == {} for each in storage_metrics.METRICS)
