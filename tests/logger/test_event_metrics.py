"""Tests of `EventMetrics`, which counts the lines of the events file in metrics."""

from __future__ import annotations

import json
from typing import Any

import pytest

from entrepot.cleaner.reasons import Reason
from entrepot.datastore.accesslog import Event
from entrepot.logger import event_metrics
from entrepot.logger.event_metrics import EventMetrics
from entrepot.logger.labels import OTHER, UpstreamLabels
from entrepot.logger.metrics import Labels, Metric, Registry

DOWNLOAD = {"upstream": "quay.io", "bytes": 700, "start": 0, "seconds": 1, "outcome": "stored"}
ASKED = {"upstream": "quay.io", "operation": "head", "outcome": "ok", "seconds": 0.01}
EVICTION = {"size": 10, "idle": 500, "reason": "ttl"}


class Counted:
    """Metrics to which the test adds events."""

    def __init__(self, since: float = 0) -> None:
        self.registry = Registry(event_metrics.METRICS)
        self.happenings = EventMetrics(self.registry, UpstreamLabels(), since=since)

    def count(self, name: str, fields: dict[str, Any], at: float = 1000) -> None:
        """Count one event of the events file."""
        self.happenings.count(Event(name, at, fields))

    def values(self, metric: Metric) -> dict[Labels, float]:
        """Return the values of a metric by their labels."""
        return {labels: amounts[0] for labels, amounts in self.registry.values(metric).items()}


def test_a_download_counts_its_bytes() -> None:
    """The bytes of a download are counted for its upstream.

    A metric with docker distribution's name counts these bytes too.
    """
    counted = Counted()
    counted.count("download", DOWNLOAD)
    counted.count("download", DOWNLOAD | {"outcome": "new"})

    assert counted.values(event_metrics.DOWNLOADS) == {
        ("quay.io", "stored"): 1,
        ("quay.io", OTHER): 1,
    }
    assert counted.values(event_metrics.FETCHED) == {("quay.io", "blob"): 1400}
    assert counted.values(event_metrics.PULLED) == {("blob",): 1400}
    assert counted.values(event_metrics.RESUMED) == {}


def test_a_resumed_download_counts_the_bytes_it_did_not_download_again() -> None:
    """A metric counts the bytes of a resumed download that were already on the disk."""
    counted = Counted()
    counted.count("download", DOWNLOAD | {"start": 300})

    assert counted.values(event_metrics.RESUMED) == {("quay.io",): 1}
    assert counted.values(event_metrics.RESUMED_BYTES) == {("quay.io",): 300}


def test_a_limit_is_counted_by_its_name() -> None:
    """When a limit is reached, its metric rises by the number in the event."""
    counted = Counted()
    counted.count("limit", {"limit": "readers", "count": 3})
    counted.count("limit", {"limit": "readers", "count": 4})
    counted.count("limit", {"limit": "invented", "count": 1})

    assert counted.values(event_metrics.LIMITED) == {("readers",): 7, (OTHER,): 1}


def test_damaged_and_verified_content_is_counted() -> None:
    """Damaged content is counted by the component that found it, and verified content in total.

    The gauges of the quarantine show the values of the last event about the quarantine.
    """
    counted = Counted()
    counted.count("damaged", {"digest": "sha256:abc", "size": 10, "found": "scrub"})
    counted.count("damaged", {"digest": "sha256:abc", "size": 10, "found": "by luck"})
    counted.count("quarantine", {"files": 2, "bytes": 20})
    counted.count("quarantine", {"files": 1, "bytes": 10})
    counted.count("scrub", {"files": 3, "bytes": 700})
    counted.count("scrub", {"files": 1, "bytes": 300})

    assert counted.values(event_metrics.DAMAGED) == {("scrub",): 1, (OTHER,): 1}
    assert counted.values(event_metrics.QUARANTINED) == {(): 1}
    assert counted.values(event_metrics.QUARANTINED_BYTES) == {(): 10}
    assert counted.values(event_metrics.SCRUBBED) == {(): 4}
    assert counted.values(event_metrics.SCRUBBED_BYTES) == {(): 1000}


def test_the_bytes_of_a_manifest_are_fetched_bytes_too() -> None:
    """The metric of fetched bytes includes manifests, whose size is in the event of the request.

    The workers write no download event for a manifest.
    """
    counted = Counted()
    counted.count("upstream", ASKED | {"operation": "manifest", "bytes": 50})
    counted.count("upstream", ASKED)

    assert counted.values(event_metrics.PULLED) == {("manifest",): 50}
    assert counted.values(event_metrics.ASKED) == {
        ("quay.io", "manifest", "ok"): 1,
        ("quay.io", "head", "ok"): 1,
    }


def test_the_eviction_age_is_the_shortest_idle_time_of_the_last_sweep() -> None:
    """The eviction age is the shortest idle time of the content that the last sweep evicted.

    A short eviction age means that the cache is too small.
    """
    counted = Counted()
    for at, idle in ((1000, 500), (1001, 300), (1002, 400)):
        counted.count("eviction", EVICTION | {"idle": idle}, at)
    first = counted.values(event_metrics.EVICTION_AGE)
    counted.count("eviction", EVICTION | {"idle": 900}, 5000)

    assert first == {(): 300}
    assert counted.values(event_metrics.EVICTION_AGE) == {(): 900}
    assert counted.values(event_metrics.EVICTIONS) == {("ttl",): 4}
    assert counted.values(event_metrics.EVICTED_BYTES) == {("ttl",): 40}


def test_a_breaker_has_its_last_state_since_the_start() -> None:
    """The metric of a circuit breaker shows its last state since the appliance was started.

    When the appliance starts, all circuit breakers are closed.
    """
    counted = Counted(since=1000)
    counted.count("breaker", {"upstream": "a.example", "state": "open"}, at=999)
    counted.count("breaker", {"upstream": "b.example", "state": "open"})
    counted.count("breaker", {"upstream": "c.example", "state": "open"})
    counted.count("breaker", {"upstream": "c.example", "state": "closed"})

    assert counted.values(event_metrics.BREAKER) == {("b.example",): 1, ("c.example",): 0}


def test_a_budget_has_the_last_values_of_the_upstream() -> None:
    """The metrics of a rate limit show the values that the upstream sent last.

    An upstream can send the number of remaining requests without the limit itself.
    """
    counted = Counted()
    counted.count("budget", {"upstream": "docker.io", "remaining": 76, "limit": 100})
    counted.count("budget", {"upstream": "docker.io", "remaining": 75})

    assert counted.values(event_metrics.REMAINING) == {("docker.io",): 75}
    assert counted.values(event_metrics.LIMIT) == {("docker.io",): 100}


def test_an_unknown_event_is_ignored() -> None:
    """An unknown event is ignored, because a newer version of a worker can write it."""
    counted = Counted()
    counted.count("new", {"x": 1})

    assert counted.registry.changed() == {}


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("download", {}),
        ("download", DOWNLOAD | {"bytes": -1}),
        ("download", DOWNLOAD | {"bytes": "7"}),
        ("download", DOWNLOAD | {"start": float("nan")}),
        ("download", DOWNLOAD | {"start": 10**400}),
        ("download", DOWNLOAD | {"upstream": ["a"]}),
        ("eviction", EVICTION | {"idle": None}),
        ("upstream", ASKED | {"seconds": True}),
        ("upstream", ASKED | {"bytes": "x"}),
        ("budget", {"upstream": "a", "remaining": 1, "limit": "many"}),
        ("breaker", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value)[:60],
)
def test_a_malformed_event_counts_nothing(name: str, fields: dict[str, Any]) -> None:
    """A malformed event changes no metric, even if some of its fields are valid."""
    counted = Counted()
    with pytest.raises(ValueError, match=r"no |out of range"):
        counted.count(name, fields)

    assert counted.registry.changed() == {}


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_of_the_cleaner_has_its_label(reason: Reason) -> None:
    """Each reason for an eviction has its own label in the eviction metrics."""
    counted = Counted()
    counted.count("eviction", EVICTION | {"reason": reason.value})

    assert counted.values(event_metrics.EVICTIONS) == {(reason.value,): 1}
