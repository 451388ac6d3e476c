"""Count the lines of the access log in metrics. The table ROWS has a row for each counter.

Lines with the same labels are grouped first, so that the table is evaluated once for each group
instead of once for each line.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from entrepot.datastore.accesslog import AccessLine, Repeated
from entrepot.logger import labels
from entrepot.logger.labels import HOSTED, UpstreamLabels
from entrepot.logger.metrics import Labels, Metric, Registry

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_BYTES = tuple(float(1024 * 4**power) for power in range(12))
_REDIRECTED = 307
_SERVED = (200, 206, 304, _REDIRECTED)
_TYPES = {"blob": "blob", "manifest": "manifest", "index": "manifest"}
_FROM_STORE = ("hit", "stale", "revalidated", "linked")

REQUESTS = Metric(
    "registry_http_requests",
    "counter",
    "Responses to HTTP requests.",
    ("method", "code", "handler"),
)
DURATION = Metric(
    "registry_http_request_duration_seconds",
    "histogram",
    "Time from the first byte of a request to the last byte of its response, measured by HAProxy.",
    ("method", "handler"),
    _SECONDS,
)
SIZE = Metric(
    "registry_http_response_size_bytes",
    "histogram",
    "Size of a response, including its headers.",
    ("handler",),
    _BYTES,
)
PROXY_REQUESTS = Metric(
    "registry_proxy_requests", "counter", "Successful requests for proxied content.", ("type",)
)
PROXY_HITS = Metric(
    "registry_proxy_hits", "counter", "Proxied responses without a download.", ("type",)
)
PROXY_MISSES = Metric(
    "registry_proxy_misses", "counter", "Proxied responses with a download.", ("type",)
)
PROXY_PUSHED = Metric(
    "registry_proxy_pushed_bytes", "counter", "Bytes of proxied content sent to clients.", ("type",)
)
CACHE = Metric(
    "entrepot_cache_answers",
    "counter",
    "Responses with content, by their Cache-Status.",
    ("upstream", "kind", "result"),
)
SENT = Metric(
    "entrepot_sent_bytes", "counter", "Bytes of content sent to clients.", ("upstream", "kind")
)
STALE = Metric(
    "entrepot_stale_answers", "counter", "Stale responses by reason.", ("upstream", "reason")
)

REDIRECTS = Metric(
    "entrepot_storage_redirects", "counter", "Responses that redirected the client to the storage."
)


@dataclass(slots=True)
class Alike:
    """An `Alike` is a group of lines with the same labels.

    `count` is the number of lines, and `line` is one of the lines. `bytes` and `milliseconds` are
    sums over all lines of the group. `durations` and `sizes` have the number of lines in each
    bucket of a histogram.
    """

    line: AccessLine
    upstream: str = ""
    count: int = 0
    bytes: int = 0
    milliseconds: int = 0
    durations: list[int] = field(default_factory=lambda: [0] * (len(_SECONDS) + 1))
    sizes: list[int] = field(default_factory=lambda: [0] * (len(_BYTES) + 1))

    @property
    def handler(self) -> str:
        """Return docker distribution's name of the handler of these requests."""
        return labels.handler(self.line.kind, self.line.uri)

    @property
    def type(self) -> str | None:
        """Return `blob` or `manifest` if proxied content was served, and None otherwise."""
        is_read = self.line.method in ("GET", "HEAD") and self.line.status in _SERVED
        return _TYPES.get(self.line.kind) if is_read and self.upstream not in ("", HOSTED) else None

    @property
    def is_from_store(self) -> bool:
        """Return whether the content was served without a download from the upstream."""
        return labels.result(self.line.cache) in _FROM_STORE


@dataclass(frozen=True, slots=True)
class TrafficCounter:
    """A `TrafficCounter` describes how a counter counts a group of lines.

    `labels` returns the label values for the group, or None if the counter does not count the
    group. `amount` returns by how much to increase the counter.
    """

    metric: Metric
    labels: Callable[[Alike], Labels | None]
    amount: Callable[[Alike], int] = lambda alike: alike.count


def _type(alike: Alike) -> Labels | None:
    return (alike.type,) if alike.type else None


def _type_from_store(alike: Alike) -> Labels | None:
    return _type(alike) if alike.is_from_store else None


def _type_from_upstream(alike: Alike) -> Labels | None:
    return None if alike.is_from_store else _type(alike)


def _request(alike: Alike) -> Labels:
    return labels.method(alike.line.method), labels.code(alike.line.status), alike.handler


def _content(alike: Alike) -> Labels | None:
    return (alike.upstream, labels.kind(alike.line.kind)) if alike.upstream else None


def _cache(alike: Alike) -> Labels | None:
    content = _content(alike)
    return (*content, labels.result(alike.line.cache)) if content else None


def _stale(alike: Alike) -> Labels | None:
    is_stale = alike.upstream and labels.result(alike.line.cache) == "stale"
    return (alike.upstream, labels.reason(alike.line.cache)) if is_stale else None


def _redirect(alike: Alike) -> Labels | None:
    is_redirect = alike.line.status == _REDIRECTED and alike.line.kind == "blob"
    return () if is_redirect else None


ROWS = (
    TrafficCounter(REQUESTS, _request),
    TrafficCounter(PROXY_REQUESTS, _type),
    TrafficCounter(PROXY_HITS, _type_from_store),
    TrafficCounter(PROXY_MISSES, _type_from_upstream),
    TrafficCounter(PROXY_PUSHED, _type, lambda alike: alike.bytes),
    TrafficCounter(CACHE, _cache),
    TrafficCounter(SENT, _content, lambda alike: alike.bytes),
    TrafficCounter(STALE, _stale),
    TrafficCounter(REDIRECTS, _redirect),
)
METRICS = (*(row.metric for row in ROWS), DURATION, SIZE)


def count(lines: Iterable[Repeated], registry: Registry, upstreams: UpstreamLabels) -> None:
    """Add *lines* to the metrics in *registry*."""
    for alike in _alike(lines):
        alike.upstream = upstreams.of_repository(alike.line.repository) if alike.line.kind else ""
        for row in ROWS:
            found = row.labels(alike)
            if found is not None:
                registry.add(row.metric, row.amount(alike), *found)
        method = labels.method(alike.line.method)
        seconds = alike.milliseconds / 1000
        registry.observe(DURATION, seconds, alike.durations, method, alike.handler)
        registry.observe(SIZE, alike.bytes, alike.sizes, alike.handler)


def _alike(lines: Iterable[Repeated]) -> Iterable[Alike]:
    """Group lines that have the same labels.

    PERF: only this loop runs for each line; all other work is done once for a group.
    """
    groups: dict[tuple[str, str, int, str, str], Alike] = {}
    for line, count in lines:
        # The labels depend on the path of the request only if the response names no kind of
        # content.
        kind_or_path = line.kind or line.uri
        key = (kind_or_path, line.method, line.status, line.repository, line.cache)
        alike = groups.get(key)
        if alike is None:
            alike = groups[key] = Alike(line)
        size, duration = max(line.bytes, 0), max(line.duration, 0)
        alike.count += count
        alike.bytes += size * count
        alike.milliseconds += duration * count
        alike.durations[bisect_left(_SECONDS, duration / 1000)] += count
        alike.sizes[bisect_left(_BYTES, size)] += count
    return groups.values()
