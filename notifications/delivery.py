"""Deliver the queued events of one endpoint, in order, until the receiver accepts each event.

As in docker distribution, a failed attempt is repeated at once. After as many failures in a row as
the endpoint's `threshold`, a pause of `backoff` precedes each further attempt.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from http import HTTPStatus

from entrepot.notifications.endpoint import EventEndpoint
from entrepot.notifications.errors import NotDelivered, QueueUnavailable
from entrepot.notifications.events import envelope
from entrepot.notifications.queue import EventQueue, Group
from entrepot.runtime.log_once import LogOnce

log = logging.getLogger(__name__)

Post = Callable[[bytes], int]
"""A `Post` sends an envelope and returns the status of the response. Raises: NotDelivered."""

_POLL_S = 0.25
_QUEUE_RETRY_S = 1.0
_MOST_EVENTS = 1024
_MOST_BYTES = 512 * 1024
_SAFE_BYTES = 64 * 1024  # Some receivers refuse a body of 100 kB.
_QUICK = 4  # An envelope grows only if the response took less than a quarter of the time-out.


class Backoff:
    """A `Backoff` counts failures in a row.

    From the number *threshold* on, each failure causes a pause of *backoff* s.
    """

    def __init__(self, threshold: int, backoff: float) -> None:
        self._threshold = threshold
        self._backoff = backoff
        self._failures = 0
        self._last = 0.0

    def wait_s(self, now: float) -> float:
        """Return how long to wait before the next attempt, in s. *now* is a monotonic time."""
        if self._failures < self._threshold:
            return 0.0
        return max(self._last + self._backoff - now, 0.0)

    def failed(self, now: float) -> None:
        """Record a failed attempt."""
        self._failures += 1
        self._last = now

    def succeeded(self) -> None:
        """Forget all failures."""
        self._failures = 0


class EnvelopeSize:
    """An `EnvelopeSize` has the numbers of events and of bytes that the next envelope may have.

    The number of events doubles while the receiver responds quickly, up to 1,024, so that a long
    queue is delivered soon and an event costs little. After a failure the next envelope has one
    event, because a receiver that needs some time for each event would never respond to many events
    within the time-out. After the failure of an envelope above 64 KiB, no later envelope exceeds 64
    KiB.
    """

    def __init__(self, timeout: float) -> None:
        self._quick_s = timeout / _QUICK
        self._most = _MOST_EVENTS
        self.events = 1
        self.bytes = _MOST_BYTES

    def succeeded(self, seconds: float) -> None:
        """Record a response that arrived after *seconds*."""
        if seconds < self._quick_s:
            self.events = min(2 * self.events, self._most)
        else:
            self.events = max(self.events // 2, 1)

    def failed(self, status: int | None, size: int) -> None:
        """Record the failure of an envelope of *size* bytes.

        After 413 (too large) no later envelope has as many events.
        """
        if size > _SAFE_BYTES:
            self.bytes = _SAFE_BYTES
        elif status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            self._most = max(self.events // 2, 1)
        self.events = 1


class EventDelivery:
    """An `EventDelivery` sends the events of *endpoint* in its own thread."""

    def __init__(self, endpoint: EventEndpoint, queue: EventQueue, post: Post) -> None:
        self._name = endpoint.name
        self._queue = queue
        self._post = post
        self._backoff = Backoff(endpoint.threshold, endpoint.backoff)
        self._size = EnvelopeSize(endpoint.timeout)
        self._unrecorded: tuple[Group, int] | None = None
        self._empty_at: tuple[int, int] | None = None
        self._is_stopped = threading.Event()
        self._news = threading.Event()
        self._complaint = LogOnce(
            log,
            f"events cannot be delivered to {self._name}",
            f"events are delivered to {self._name} again",
        )
        self._queue_out = LogOnce(
            log, "event queue unavailable", "the event queue is available again"
        )
        self._thread = threading.Thread(target=self._run, name=f"events {self._name}", daemon=True)

    def start(self) -> None:
        """Start the thread that delivers events."""
        self._thread.start()

    def stop(self, wait_s: float = 0.0) -> None:
        """End the thread; wait at most *wait_s* s, because it may be waiting for a response."""
        self._is_stopped.set()
        self._news.set()
        self._thread.join(wait_s)

    def wake(self) -> None:
        """Read the queue now: it has new events, which would otherwise wait for the next read."""
        self._news.set()

    def turn(self) -> float:
        """Send one envelope if there are events; return how long to wait afterwards, in s."""
        wait_s = self._backoff.wait_s(time.monotonic())
        if wait_s > 0:
            self._is_stopped.wait(wait_s)
            return 0.0
        # PERF: a look at the file costs a tenth of a query. The stamp precedes the query, so
        # that the next turn finds an append in between.
        stamp = self._queue.stamp()
        if stamp is not None and stamp == self._empty_at and self._unrecorded is None:
            return _POLL_S
        try:
            self._record()
            group = self._queue.first(self._name, self._size.events, self._size.bytes)
            is_empty = not group.events
            if not is_empty:
                self._send(group)
        except QueueUnavailable as error:
            self._queue_out.failed(error)
            return _QUEUE_RETRY_S
        self._queue_out.worked()
        self._empty_at = stamp if is_empty else None
        return _POLL_S if is_empty else 0.0

    def _send(self, group: Group) -> None:
        """Send an envelope, and record in the queue whether the receiver accepted it."""
        began = time.monotonic()
        body = envelope(group.events)
        try:
            status = self._post(body)
        except NotDelivered as error:
            self._backoff.failed(time.monotonic())
            self._size.failed(error.status, len(body))
            self._complaint.failed(error)
            self._queue.failed(self._name, group, error.status)
            return
        self._backoff.succeeded()
        self._size.succeeded(time.monotonic() - began)
        self._complaint.worked()
        self._unrecorded = group, status
        self._record()

    def _record(self) -> None:
        """Record an accepted envelope, at the latest before the next envelope is sent."""
        if self._unrecorded is not None:
            self._queue.delivered(self._name, *self._unrecorded)
            self._unrecorded = None

    def _run(self) -> None:
        while not self._is_stopped.is_set():
            wait_s = self.turn()
            if wait_s:
                self._news.wait(wait_s)
                self._news.clear()
