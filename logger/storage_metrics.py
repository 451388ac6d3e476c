"""Count the requests to a bucket, which the processes of the appliance report as events."""

from __future__ import annotations

from entrepot.datastore.accesslog import Event
from entrepot.logger import labels
from entrepot.logger.event_fields import counts, number
from entrepot.logger.labels import OTHER
from entrepot.logger.metrics import Metric, Registry

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_ACTIONS = {
    "Reader": "GET",
    "Stat": "HEAD",
    "PutContent": "PUT",
    "Writer": "PUT",
    "Move": "COPY",
    "Delete": "DELETE",
    "List": "LIST",
    "Walk": "LIST",
}
"""A map from docker distribution's names of storage-driver actions to the kinds of requests."""
_STATUSES = (
    *("2xx", "301", "307", "400", "401", "403", "404", "405", "408", "409", "412", "429"),
    *("500", "501", "502", "503", "504", "none", "aborted"),
)
_DRIVERS = ("s3aws", "azure", "gcs")
STORAGE_SECONDS = Metric(
    "registry_storage_action_seconds",
    "histogram",
    "Time from a request to the object storage to the headers of the response.",
    ("driver", "action"),
    _SECONDS,
)
STORAGE_REQUESTS = Metric(
    "entrepot_storage_requests",
    "counter",
    "Requests to the object storage.",
    ("driver", "verb", "status"),
)
STORAGE_BYTES = Metric(
    "entrepot_storage_bytes",
    "counter",
    "Bytes of objects that were read from the object storage or written to it.",
    ("driver", "direction"),
)
STORAGE_RETRIES = Metric(
    "entrepot_storage_retries",
    "counter",
    "Requests to the object storage that were sent once more after a failure.",
    ("driver",),
)
STORAGE_CIRCUIT = Metric(
    "entrepot_storage_circuit_open",
    "gauge",
    "1 while processes send no requests to the object storage, because it failed.",
    ("driver",),
)
METRICS = (STORAGE_SECONDS, STORAGE_REQUESTS, STORAGE_BYTES, STORAGE_RETRIES, STORAGE_CIRCUIT)


class StorageMetrics:
    """A `StorageMetrics` counts events about requests to a bucket, in the metrics of *registry*.

    *since* is the start of the appliance, in seconds since the UTC epoch. Earlier events of the
    bucket's circuit breaker are ignored.
    """

    def __init__(self, registry: Registry, since: float) -> None:
        self._registry = registry
        self._since = since

    def count(self, event: Event) -> None:
        """Count *event*.

        Raises: ValueError if a field is missing or malformed, before anything is counted.
        """
        driver = labels.word(event.fields.get("driver"), _DRIVERS)
        what = event.fields.get("what")
        if what == "request":
            self._request(event, driver)
        elif what == "read":
            self._registry.add(STORAGE_BYTES, number(event, "bytes"), driver, "read")
        elif what == "retry":
            self._registry.add(STORAGE_RETRIES, 1, driver)
        elif what == "circuit" and event.at >= self._since:
            is_open = event.fields.get("state") == "open"
            self._registry.set(STORAGE_CIRCUIT, float(is_open), driver)

    def _request(self, event: Event, driver: str) -> None:
        action = labels.word(event.fields.get("action"), tuple(_ACTIONS))
        status = labels.word(event.fields.get("status"), _STATUSES)
        seconds, sent = number(event, "seconds"), number(event, "bytes")
        self._registry.add(STORAGE_REQUESTS, 1, driver, _ACTIONS.get(action, OTHER), status)
        took = counts(_SECONDS, seconds)
        self._registry.observe(STORAGE_SECONDS, seconds, took, driver, action)
        if sent:
            self._registry.add(STORAGE_BYTES, sent, driver, "written")
