"""Define the metrics of notifications, with the names and labels of docker distribution 3.x."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from entrepot.logger.metrics import Amounts, Labels, Metric
from entrepot.notifications.queue import Statistics

EVENTS = Metric(
    "registry_notifications_events",
    "counter",
    "Events that were queued (Events) or accepted (Successes), and attempts of a delivery that were"
    " refused (Failures) or got no response (Errors).",
    ("type", "endpoint"),
)
PENDING = Metric(
    "registry_notifications_pending_total", "gauge", "Events in the queue.", ("endpoint",)
)
STATUS = Metric(
    "registry_notifications_status",
    "counter",
    "Events by the HTTP status of the response.",
    ("code", "endpoint"),
)
DROPPED = Metric(
    "entrepot_notifications_dropped",
    "counter",
    "Events that were dropped because the queue was full.",
    ("endpoint",),
)

Rows = list[tuple[Labels, Amounts]]


def rows(statistics: Iterable[Statistics]) -> list[tuple[Metric, Rows]]:
    """Return the metrics of notifications with their values, from the queue's statistics."""
    found: dict[Metric, Rows] = {EVENTS: [], PENDING: [], STATUS: [], DROPPED: []}
    for each in statistics:
        found[EVENTS] += [
            (("Events", each.name), [float(each.events)]),
            (("Successes", each.name), [float(each.successes)]),
            (("Failures", each.name), [float(each.failures)]),
            (("Errors", each.name), [float(each.errors)]),
        ]
        found[PENDING].append(((each.name,), [float(each.pending)]))
        found[DROPPED].append(((each.name,), [float(each.dropped)]))
        found[STATUS] += [
            ((_code(status), each.name), [float(count)]) for status, count in each.statuses.items()
        ]
    return list(found.items())


def _code(status: int) -> str:
    """Return a status with its phrase, such as "200 OK", as in docker distribution."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} "
