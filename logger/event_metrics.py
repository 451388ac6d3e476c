"""Count the events in the events file, such as downloads, evictions and requests to upstreams."""

from __future__ import annotations

import math
from collections.abc import Callable

from entrepot.datastore.accesslog import STORAGE_EVENT, Event
from entrepot.logger import labels, storage_metrics
from entrepot.logger.event_fields import counts, finite, number
from entrepot.logger.labels import OTHER, UpstreamLabels
from entrepot.logger.metrics import Metric, Registry

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_OPERATIONS = ("head", "manifest", "blob", "tags", "referrers", "token")
_OUTCOMES = ("ok", "absent", "denied", "limited", "unavailable")
_ENDS = ("stored", "unstored", "failed", "mismatch")
_REASONS = ("ttl", "size", "disk", "keep", "untagged", "garbage")
_LIMITS = ("readers", "bodies", "logins", "uploads", "log", "lines", "stdout", "events")
_FOUND = ("open", "read", "commit", "scrub", "verify")
_SWEEP_S = 60.0

DOWNLOADS = Metric(
    "entrepot_downloads", "counter", "Downloads by outcome.", ("upstream", "outcome")
)
RESUMED = Metric(
    "entrepot_downloads_resumed", "counter", "Downloads that resumed a partial file.", ("upstream",)
)
RESUMED_BYTES = Metric(
    "entrepot_download_resumed_bytes",
    "counter",
    "Bytes of partial files that resumed downloads did not fetch again.",
    ("upstream",),
)
FETCHED = Metric(
    "entrepot_fetched_bytes", "counter", "Bytes of content from upstreams.", ("upstream", "type")
)
PULLED = Metric(
    "registry_proxy_pulled_bytes", "counter", "Bytes of content from all upstreams.", ("type",)
)
EVICTIONS = Metric(
    "entrepot_evictions", "counter", "Blobs and manifests that were evicted.", ("reason",)
)
EVICTED_BYTES = Metric("entrepot_evicted_bytes", "counter", "Bytes evicted.", ("reason",))
EVICTION_AGE = Metric(
    "entrepot_eviction_age_seconds",
    "gauge",
    "Idle time of the most recently used object that the last eviction sweep removed.",
)
ASKED = Metric(
    "entrepot_upstream_requests",
    "counter",
    "Requests to upstreams.",
    ("upstream", "operation", "outcome"),
)
ASKED_SECONDS = Metric(
    "entrepot_upstream_request_duration_seconds",
    "histogram",
    "Time from a request to an upstream to the headers of its response.",
    ("upstream", "operation"),
    _SECONDS,
)
BREAKER = Metric(
    "entrepot_breaker_open",
    "gauge",
    "1 while the circuit breaker of an upstream is open.",
    ("upstream",),
)
REMAINING = Metric(
    "entrepot_upstream_rate_remaining",
    "gauge",
    "Requests that remain in the rate limit of the upstream.",
    ("upstream",),
)
LIMIT = Metric(
    "entrepot_upstream_rate_limit",
    "gauge",
    "Requests that the rate limit of the upstream allows.",
    ("upstream",),
)
LIMITED = Metric(
    "entrepot_limited",
    "counter",
    "Requests that a limit ended or rejected, and log lines that it suppressed.",
    ("limit",),
)
DAMAGED = Metric(
    "entrepot_damaged_files", "counter", "Stored files that were found damaged.", ("found",)
)
QUARANTINED = Metric("entrepot_quarantined_files", "gauge", "Files in quarantine.")
QUARANTINED_BYTES = Metric(
    "entrepot_quarantined_bytes", "gauge", "Bytes of the files in quarantine."
)
SCRUBBED = Metric("entrepot_scrubbed_files", "counter", "Stored files that were verified.")
SCRUBBED_BYTES = Metric("entrepot_scrubbed_bytes", "counter", "Stored bytes that were verified.")
METRICS = (
    *storage_metrics.METRICS,
    LIMITED,
    *(DAMAGED, QUARANTINED, QUARANTINED_BYTES, SCRUBBED, SCRUBBED_BYTES),
    *(DOWNLOADS, RESUMED, RESUMED_BYTES, FETCHED, PULLED),
    *(EVICTIONS, EVICTED_BYTES, EVICTION_AGE),
    *(ASKED, ASKED_SECONDS, BREAKER, REMAINING, LIMIT),
)


class EventMetrics:
    """An `EventMetrics` counts events in the metrics of *registry*.

    *since* is the start of the appliance, in seconds since the UTC epoch. Earlier events of circuit
    breakers are ignored.
    """

    def __init__(self, registry: Registry, upstreams: UpstreamLabels, *, since: float = 0) -> None:
        self._registry = registry
        self._upstreams = upstreams
        self._since = since
        self._swept = -math.inf
        self._counted: dict[str, Callable[[Event], None]] = {
            "download": self._download,
            "eviction": self._eviction,
            "upstream": self._upstream,
            "breaker": self._breaker,
            "budget": self._budget,
            "limit": self._limit,
            "damaged": self._damaged,
            "quarantine": self._quarantine,
            "scrub": self._scrub,
            STORAGE_EVENT: storage_metrics.StorageMetrics(registry, since).count,
        }

    def count(self, event: Event) -> None:
        """Count *event*; ignore unknown events.

        Raises: ValueError if a field is missing or malformed, before anything is counted.
        """
        counted = self._counted.get(event.name)
        if counted is not None:
            counted(event)

    def _download(self, event: Event) -> None:
        upstream = self._host(event)
        fetched, start = number(event, "bytes"), number(event, "start")
        kind = labels.word(event.fields.get("kind", "blob"), ("blob", "manifest"))
        outcome = labels.word(event.fields.get("outcome"), _ENDS)
        self._registry.add(DOWNLOADS, 1, upstream, outcome)
        self._fetched(upstream, kind, fetched)
        if start > 0:
            self._registry.add(RESUMED, 1, upstream)
            self._registry.add(RESUMED_BYTES, start, upstream)

    def _eviction(self, event: Event) -> None:
        """Count an eviction, and update the smallest idle time of content that the sweep evicted.

        Two evictions that are less than 60 s apart belong to the same sweep.
        """
        reason = labels.word(event.fields.get("reason"), _REASONS)
        size, idle = number(event, "size"), max(finite(event, "idle"), 0)
        self._registry.add(EVICTIONS, 1, reason)
        self._registry.add(EVICTED_BYTES, size, reason)
        is_next = abs(event.at - self._swept) < _SWEEP_S
        known = self._registry.values(EVICTION_AGE).get(()) if is_next else None
        self._registry.set(EVICTION_AGE, min(idle, known[0]) if known else idle)
        self._swept = event.at

    def _upstream(self, event: Event) -> None:
        upstream, seconds = self._host(event), number(event, "seconds")
        fetched = number(event, "bytes") if "bytes" in event.fields else 0
        operation = labels.word(event.fields.get("operation"), _OPERATIONS)
        outcome = labels.word(event.fields.get("outcome"), _OUTCOMES)
        self._registry.add(ASKED, 1, upstream, operation, outcome)
        self._registry.observe(
            ASKED_SECONDS, seconds, counts(_SECONDS, seconds), upstream, operation
        )
        if operation == "manifest" and fetched:
            self._fetched(upstream, "manifest", fetched)

    def _fetched(self, upstream: str, kind: str, size: float) -> None:
        self._registry.add(FETCHED, size, upstream, kind)
        if kind != OTHER:
            self._registry.add(PULLED, size, kind)

    def _breaker(self, event: Event) -> None:
        upstream = self._host(event)
        if event.at >= self._since:
            is_open = event.fields.get("state") == "open"
            self._registry.set(BREAKER, float(is_open), upstream)

    def _budget(self, event: Event) -> None:
        upstream, remaining = self._host(event), number(event, "remaining")
        limit = None if event.fields.get("limit") is None else number(event, "limit")
        self._registry.set(REMAINING, remaining, upstream)
        if limit is not None:
            self._registry.set(LIMIT, limit, upstream)

    def _limit(self, event: Event) -> None:
        limit = labels.word(event.fields.get("limit"), _LIMITS)
        self._registry.add(LIMITED, number(event, "count"), limit)

    def _damaged(self, event: Event) -> None:
        self._registry.add(DAMAGED, 1, labels.word(event.fields.get("found"), _FOUND))

    def _quarantine(self, event: Event) -> None:
        files, size = number(event, "files"), number(event, "bytes")
        self._registry.set(QUARANTINED, files)
        self._registry.set(QUARANTINED_BYTES, size)

    def _scrub(self, event: Event) -> None:
        files, size = number(event, "files"), number(event, "bytes")
        self._registry.add(SCRUBBED, files)
        self._registry.add(SCRUBBED_BYTES, size)

    def _host(self, event: Event) -> str:
        host = event.fields.get("upstream")
        if not isinstance(host, str) or not host:
            raise ValueError("no upstream")
        return self._upstreams.of_host(host)
