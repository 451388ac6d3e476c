"""Queue the events of a write before the worker responds to the request."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from entrepot.notifications.endpoint import EventEndpoint, Source
from entrepot.notifications.errors import QueueUnavailable
from entrepot.notifications.events import EventTarget, Notification, NotifiedRequest, write_event
from entrepot.notifications.queue import EventQueue
from entrepot.runtime.log_once import LogOnce

log = logging.getLogger(__name__)


def wanted(
    endpoints: Sequence[EventEndpoint], events: Sequence[Notification]
) -> dict[str, list[Notification]]:
    """Return, for the name of each endpoint, the events that pass the filters of the endpoint."""
    return {
        endpoint.name: [each for each in events if endpoint.wants(each.action, each.media_type)]
        for endpoint in endpoints
    }


class Recorder:
    """A `Recorder` queues events for those of *endpoints* that want them; *queue* must be durable.

    When an event is queued, the write has already taken effect. So if the event cannot be queued,
    the client gets no error: the failure is logged, and *lost* is called with the number of events
    that at least one endpoint wants.
    """

    def __init__(
        self,
        queue: EventQueue,
        endpoints: Sequence[EventEndpoint],
        source: Source,
        lost: Callable[[int], None],
    ) -> None:
        self._queue = queue
        self._endpoints = endpoints
        self._source = source
        self._lost = lost
        self._complaint = LogOnce(
            log,
            "events were lost, because the event queue is unavailable",
            "the event queue is available again",
        )

    def __call__(
        self, request: NotifiedRequest, happened: Sequence[tuple[str, EventTarget]]
    ) -> None:
        """Queue an event for each pair of an action and its target, in one transaction."""
        events = [write_event(each, target, request, self._source) for each, target in happened]
        queued = wanted(self._endpoints, events)
        if not any(queued.values()):
            return
        try:
            self._queue.append(queued)
        except QueueUnavailable as error:
            self._complaint.failed(error)
            self._lost(sum(any(each in found for found in queued.values()) for each in events))
            return
        self._complaint.worked()
