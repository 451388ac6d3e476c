"""Deliver the queued events of one endpoint in order, and repeat failed attempts.

As in docker distribution, an attempt is repeated immediately after each of the first failures.
After `threshold` failures in a row, the delivery waits for `backoff` before each later attempt.
`threshold` and `backoff` are settings of the endpoint.
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
"""A `Post` sends an envelope and returns the HTTP status of the response. Raises: NotDelivered."""

_POLL_S = 0.25
_QUEUE_RETRY_S = 1.0
_MOST_EVENTS = 1024
_MOST_BYTES = 512 * 1024
_SAFE_BYTES = 64 * 1024  # Some receivers refuse a body of 100 kB.
_QUICK = 4  # Envelopes become larger only if a response took less than a quarter of the time-out.


class Backoff:
    """A `Backoff` counts failures in a row.

    After *threshold* failures and after each later failure, the delivery waits *backoff* seconds.
    """

    def __init__(self, threshold: int, backoff: float) -> None:
        self._threshold = threshold
        self._backoff = backoff
        self._failures = 0
        self._last = 0.0

    def wait_s(self, now: float) -> float:
        """Return the seconds to wait before the next attempt; *now* is in monotonic seconds."""
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
    """An `EnvelopeSize` has the largest numbers of events and of bytes for the next envelope.

    While the receiver responds quickly, the number of events doubles after each envelope, up to
    1,024. So a long queue is delivered soon, and each event costs little. After a failure, the next
    envelope has one event, because a receiver that needs some time for each event may be unable to
    process many events within the time-out. After the failure of an envelope above 64 KiB, the
    events of each later envelope have at most 64 KiB, unless a single event is larger.
    """

    def __init__(self, timeout: float) -> None:
        self._quick_s = timeout / _QUICK
        self._most = _MOST_EVENTS
        self.events = 1
        self.bytes = _MOST_BYTES

    def succeeded(self, seconds: float) -> None:
        """Record that the receiver accepted an envelope after *seconds*."""
        if seconds < self._quick_s:
            self.events = min(2 * self.events, self._most)
        else:
            self.events = max(self.events // 2, 1)

    def failed(self, status: int | None, size: int) -> None:
        """Record that an envelope of *size* bytes failed; *status* is None without a response.

        After status 413 (Content Too Large) for an envelope of at most 64 KiB, later envelopes have
        at most half as many events as that envelope could have.
        """
        if size > _SAFE_BYTES:
            self.bytes = _SAFE_BYTES
        elif status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            self._most = max(self.events // 2, 1)
        self.events = 1


class EventDelivery:
    """An `EventDelivery` sends the events of *endpoint* in a separate thread."""

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
        """Make the thread exit, and wait up to *wait_s* seconds for its exit.

        The thread may be waiting for a response, so it can exit later.
        """
        self._is_stopped.set()
        self._news.set()
        self._thread.join(wait_s)

    def wake(self) -> None:
        """Make the thread read the queue immediately, because it has new events."""
        self._news.set()

    def turn(self) -> float:
        """Send one envelope if there are events; return the seconds to wait afterwards."""
        wait_s = self._backoff.wait_s(time.monotonic())
        if wait_s > 0:
            self._is_stopped.wait(wait_s)
            return 0.0
        # PERF: to read the stamp of the file takes a tenth of the time of a query. If the stamp is
        # unchanged, the queue is not read. The stamp is read before the query. If events are
        # appended between these two reads, the next turn finds that the stamp has changed.
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
        """Send an envelope with the events of *group*; record in the queue whether it succeeded."""
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
        """Record that the receiver accepted the last envelope, unless this is already recorded.

        If the queue was unavailable after the delivery, the record is made before the next envelope
        is sent.
        """
        if self._unrecorded is not None:
            self._queue.delivered(self._name, *self._unrecorded)
            self._unrecorded = None

    def _run(self) -> None:
        while not self._is_stopped.is_set():
            wait_s = self.turn()
            if wait_s:
                self._news.wait(wait_s)
                self._news.clear()
