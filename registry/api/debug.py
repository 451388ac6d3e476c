"""Serve debug pages on `http.debug.addr`, with docker distribution's names and formats.

HAProxy marks requests to the debug listener with a header and removes that header from all other
requests, so clients of `http.addr` cannot request these pages.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import falcon
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from entrepot.registry.errors import NameUnknown
from entrepot.runtime.health import failing_checks

HEADER: Final = "X-Entrepot-Debug"

_PENDING: Final = "registry_notifications_pending_total"
_NOTIFICATIONS: Final = frozenset(
    {"registry_notifications_events", "registry_notifications_status", _PENDING}
)
_NO_PROFILES: Final = "there are no profiles: the programs are not written in Go; use py-spy"
_KINDS: Final = {"blobs": "blob", "manifests": "manifest"}
_COUNTERS: Final = {
    "Requests": "registry_proxy_requests",
    "Hits": "registry_proxy_hits",
    "Misses": "registry_proxy_misses",
    "BytesPulled": "registry_proxy_pulled_bytes",
    "BytesPushed": "registry_proxy_pushed_bytes",
}
"""Each name in docker distribution's /debug/vars maps to the metric with the same meaning."""


@dataclass(frozen=True, slots=True)
class DebugSources:
    """A `DebugSources` holds the run directory and the file to which the logger writes metrics.

    `has_metrics` is True if the debug listener serves the metrics too. `endpoints` maps the name of
    each notification endpoint to its URL without a password.
    """

    run: Path
    metrics: Path
    has_metrics: bool
    endpoints: Mapping[str, str] = field(default_factory=dict)


class DebugResource:
    """`/debug/health`, `/debug/vars` and `/debug/prometheus` each send one page.

    `/debug/pprof` responds with the reason why there are no profiles.
    """

    def __init__(self, sources: DebugSources) -> None:
        self._sources = sources
        self._pages: dict[str, Callable[[falcon.Response], None]] = {
            "health": self._health,
            "vars": self._vars,
        }
        if sources.has_metrics:
            self._pages["prometheus"] = self._metrics

    def on_get(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        page: str,
        profile: str = "",  # noqa: ARG002 - Falcon passes it by name
    ) -> None:
        """Send a page of the debug listener.

        Raises: NameUnknown for an unknown page, and for clients of `http.addr`.
        """
        if req.get_header(HEADER) is None:
            raise NameUnknown(f"no such path: {req.path[:64]}")
        resp.set_header("Cache-Control", "no-store")
        send = self._pages.get(page)
        if send is None:
            raise NameUnknown(_NO_PROFILES if page == "pprof" else f"no such page: {page[:64]}")
        send(resp)

    def _health(self, resp: falcon.Response) -> None:
        failing = failing_checks(self._sources.run)
        resp.status = falcon.HTTP_503 if failing else falcon.HTTP_200
        resp.media = failing

    def _vars(self, resp: falcon.Response) -> None:
        resp.media = {
            "cmdline": sys.orig_argv,
            "memstats": _memory(),
            "registry": {
                "notifications": {"endpoints": self._endpoints()},
                "proxy": _proxy_counters(self._sources.metrics),
            },
        }

    def _endpoints(self) -> list[dict[str, object]]:
        """Return the notification endpoints with their counters, without secret headers."""
        samples = list(_samples(self._sources.metrics, _NOTIFICATIONS))
        return [
            {"name": name, "url": url, "Metrics": _endpoint_counters(name, samples)}
            for name, url in self._sources.endpoints.items()
        ]

    def _metrics(self, resp: falcon.Response) -> None:
        try:
            resp.data = self._sources.metrics.read_bytes()
        except FileNotFoundError:
            raise falcon.HTTPServiceUnavailable(
                description="the logger has not written any metrics yet; retry later"
            ) from None
        resp.content_type = "text/plain; version=0.0.4; charset=utf-8"


def _memory() -> dict[str, int]:
    """Return this worker's memory use in bytes, under the names that Go uses."""
    page = os.sysconf("SC_PAGE_SIZE")
    with Path("/proc/self/statm").open(encoding="ascii") as file:
        size, resident, shared, *_ = (int(each) * page for each in file.read().split())
    private = resident - shared
    return {"Alloc": private, "HeapAlloc": private, "HeapInuse": resident, "Sys": size}


def _proxy_counters(metrics: Path) -> dict[str, dict[str, int]]:
    """Return the counters of proxied blobs and manifests, 0 if the metrics file is missing."""
    values = {
        (sample.name.removesuffix("_total"), sample.labels.get("type")): int(sample.value)
        for sample in _samples(metrics, frozenset(_COUNTERS.values()))
        if sample.name.endswith("_total")
    }
    return {
        name: {counter: values.get((metric, kind), 0) for counter, metric in _COUNTERS.items()}
        for name, kind in _KINDS.items()
    }


def _endpoint_counters(name: str, samples: Sequence[Sample]) -> dict[str, object]:
    """Return the counters of one endpoint, under the names of docker distribution."""
    own = [each for each in samples if each.labels.get("endpoint") == name]
    events = {each.labels["type"]: int(each.value) for each in own if "type" in each.labels}
    statuses = {each.labels["code"]: int(each.value) for each in own if "code" in each.labels}
    pending = [int(each.value) for each in own if each.name == _PENDING]
    counted = {kind: events.get(kind, 0) for kind in ("Events", "Successes", "Failures", "Errors")}
    return {"Pending": sum(pending), **counted, "Statuses": statuses}


def _samples(metrics: Path, families: Collection[str]) -> Iterator[Sample]:
    """Yield the samples of the metrics *families* in a file, none if the file is missing."""
    try:
        text = metrics.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    for family in text_string_to_metric_families(text):
        if family.name in families:
            yield from family.samples
