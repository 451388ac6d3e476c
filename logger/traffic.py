"""What is counted of the access log: a table, a row each metric.

Lines that say the same are counted together: the table is walked once for a kind of answer in a
batch, not once a line.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from datastore.accesslog import AccessLine, Repeated
from logger import labels
from logger.labels import HOSTED, Upstreams
from logger.metrics import Labels, Metric, Registry

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_BYTES = tuple(float(1024 * 4**power) for power in range(12))
_SERVED = (200, 206, 304)
_TYPES = {"blob": "blob", "manifest": "manifest", "index": "manifest"}
_FROM_HERE = ("hit", "stale", "revalidated", "linked")

REQUESTS = Metric(
    "registry_http_requests", "counter", "Answers by HTTP.", ("method", "code", "handler")
)
DURATION = Metric(
    "registry_http_request_duration_seconds",
    "histogram",
    "From a request's first byte to its answer's last, as HAProxy saw it.",
    ("method", "handler"),
    _SECONDS,
)
SIZE = Metric(
    "registry_http_response_size_bytes",
    "histogram",
    "Bytes sent for an answer, with its headers.",
    ("handler",),
    _BYTES,
)
PROXY_REQUESTS = Metric(
    "registry_proxy_requests", "counter", "Proxied content that was asked for and sent.", ("type",)
)
PROXY_HITS = Metric(
    "registry_proxy_hits", "counter", "Answers for which no content was fetched.", ("type",)
)
PROXY_MISSES = Metric(
    "registry_proxy_misses", "counter", "Answers for which content was fetched.", ("type",)
)
PROXY_PUSHED = Metric(
    "registry_proxy_pushed_bytes", "counter", "Bytes of proxied content sent to clients.", ("type",)
)
CACHE = Metric(
    "entrepot_cache_answers",
    "counter",
    "Answers about content, by what Cache-Status says of them.",
    ("upstream", "kind", "result"),
)
SENT = Metric(
    "entrepot_sent_bytes", "counter", "Bytes of content sent to clients.", ("upstream", "kind")
)
STALE = Metric(
    "entrepot_stale_answers", "counter", "Stale answers by reason.", ("upstream", "reason")
)


@dataclass(slots=True)
class Alike:
    """Answers that say the same: how many, with the sums that the histograms take."""

    line: AccessLine
    upstream: str = ""
    count: int = 0
    bytes: int = 0
    milliseconds: int = 0
    durations: list[int] = field(default_factory=lambda: [0] * (len(_SECONDS) + 1))
    sizes: list[int] = field(default_factory=lambda: [0] * (len(_BYTES) + 1))

    @property
    def handler(self) -> str:
        """What answered."""
        return labels.handler(self.line.kind, self.line.uri)

    @property
    def type(self) -> str | None:
        """`blob` or `manifest` of content that was served through the proxy; None of others."""
        is_read = self.line.method in ("GET", "HEAD") and self.line.status in _SERVED
        return _TYPES.get(self.line.kind) if is_read and self.upstream not in ("", HOSTED) else None

    @property
    def is_from_here(self) -> bool:
        """Whether it cost no content from the upstream."""
        return labels.result(self.line.cache) in _FROM_HERE


@dataclass(frozen=True, slots=True)
class Row:
    """A counter, the labels that an answer has in it (None: it is not in it), what it adds."""

    metric: Metric
    labels: Callable[[Alike], Labels | None]
    amount: Callable[[Alike], int] = lambda alike: alike.count


def _type(alike: Alike) -> Labels | None:
    return (alike.type,) if alike.type else None


def _type_from_here(alike: Alike) -> Labels | None:
    return _type(alike) if alike.is_from_here else None


def _type_from_there(alike: Alike) -> Labels | None:
    return None if alike.is_from_here else _type(alike)


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


ROWS = (
    Row(REQUESTS, _request),
    Row(PROXY_REQUESTS, _type),
    Row(PROXY_HITS, _type_from_here),
    Row(PROXY_MISSES, _type_from_there),
    Row(PROXY_PUSHED, _type, lambda alike: alike.bytes),
    Row(CACHE, _cache),
    Row(SENT, _content, lambda alike: alike.bytes),
    Row(STALE, _stale),
)
METRICS = (*(row.metric for row in ROWS), DURATION, SIZE)


def count(lines: Iterable[Repeated], registry: Registry, upstreams: Upstreams) -> None:
    """Count *lines* in *registry*."""
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
    """PERF: this loop is what a line costs; everything else is done once for all that are alike."""
    groups: dict[tuple[str, str, int, str, str], Alike] = {}
    for line, count in lines:
        # of an answer that names no kind only the path tells what it was
        what = line.kind or line.uri
        key = (what, line.method, line.status, line.repository, line.cache)
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
