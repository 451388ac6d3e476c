"""Queue the events of pulls from the access log, and deliver all events.

Queueing and delivery have separate threads.

This module reads the access log a second time. Its own position is committed together with the
events. Therefore no event is lost or queued twice if the process is killed. Because this reading is
separate, the logger's other work, access times and metrics, never waits for the event queue or for
a receiver of events.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from entrepot.config.schema import Settings
from entrepot.datastore import layout
from entrepot.datastore.drivers.table import open_index, open_storage
from entrepot.datastore.errors import DatastoreError
from entrepot.datastore.index import AccessIndex
from entrepot.datastore.manifest import LARGEST
from entrepot.datastore.refs import Digest
from entrepot.datastore.storage import Storage
from entrepot.logger import notification_metrics
from entrepot.logger.metrics import Amounts, Labels, Metric
from entrepot.logger.position import LogPosition
from entrepot.logger.tail import CHUNK, LONGEST, Batch, Tail
from entrepot.notifications import events, setup
from entrepot.notifications.delivery import EventDelivery
from entrepot.notifications.endpoint import EventEndpoint
from entrepot.notifications.errors import QueueUnavailable
from entrepot.notifications.post import Poster
from entrepot.notifications.pulls import PullEvents
from entrepot.notifications.queue import EventQueue, Statistics
from entrepot.notifications.recorder import wanted
from entrepot.runtime import outbound
from entrepot.runtime.clock import Clock
from entrepot.runtime.log_once import LogOnce
from entrepot.runtime.proxies import Proxies

log = logging.getLogger(__name__)

_BUSY_POLL_S = 0.05
_POLL_S = 0.25
# A collector that has read all lines waits this long; a new line ends the wait, because the loop of
# the logger wakes the collector.
_IDLE_S = 2.0
# After a read of this many lines, the collector waits longer, so that one transaction has more
# lines.
_MANY_LINES = 64
_BUSY_S = 1.0
_RETRY_S = 1.0
_STOP_S = 0.4
_GARBAGE = 20_000  # The garbage collector runs after this many new objects; see `start`.
_POSITION_S = 1.0
_FEW_LINES = (
    2 * LONGEST
    # If events list the references of manifests, each line may become an event with 64 KiB of
    # descriptors, so one read takes fewer lines.
)


class StoredContents:
    """A `StoredContents` looks up facts about stored content that the access log does not have."""

    def __init__(self, storage: Storage, index: AccessIndex) -> None:
        self._storage = storage
        self._index = index

    def size(self, digest: Digest) -> int | None:
        """Return the size of stored content in bytes; None if the content is not stored."""
        with suppress(DatastoreError):
            entry = self._index.entry(digest)
            return entry.size if entry else None
        return None

    def references(self, digest: Digest) -> Sequence[Mapping[str, Any]] | None:
        """Return the descriptors in a stored manifest; None if the manifest is not stored."""
        with suppress(DatastoreError, ValueError, TypeError, AttributeError):
            return events.references(self._storage.read(layout.blob(digest), LARGEST))
        return None


class PullCollector:
    """A `PullCollector` queues the events of pulls, in its own thread."""

    def __init__(
        self,
        open_tail: Callable[[str | None], Tail],
        pulls: PullEvents,
        queue: EventQueue,
        endpoints: Sequence[EventEndpoint],
        queued: Callable[[], None],
    ) -> None:
        self._open_tail = open_tail
        self._pulls = pulls
        self._queue = queue
        self._endpoints = endpoints
        self._on_queued = queued
        self._tail: Tail | None = None
        self._unqueued: Batch | None = None
        self._read_at = self._position_at = float("-inf")
        self._is_stopped = threading.Event()
        self._news = threading.Event()
        self._queue_out = LogOnce(
            log, "event queue unavailable", "the event queue is available again"
        )
        self._disk_out = LogOnce(
            log,
            "the access log is not readable for events",
            "the access log is readable for events again",
        )
        self._thread = threading.Thread(target=self._run, name="pull events", daemon=True)

    def start(self) -> None:
        """Start the thread that queues events."""
        self._thread.start()

    def stop(self) -> None:
        """Queue the events of the last lines, and end the thread."""
        self._is_stopped.set()
        self._news.set()
        self._thread.join(_STOP_S)

    def turn(self, now: float) -> float:
        """Queue the events of unread lines; return how long to wait before the next call, in s.

        *now* is the time of a monotonic clock. While the queue is unavailable, the lines that were
        read last are tried again, and no more lines are read.
        """
        try:
            tail = self._tail = self._tail or self._open()
            batch = self._unqueued or tail.read(now)
            self._unqueued = batch
            self._append(batch, now)
        except QueueUnavailable as error:
            self._queue_out.failed(error)
            return _RETRY_S
        except OSError as error:
            self._disk_out.failed(error)
            return _RETRY_S
        self._unqueued = None
        self._queue_out.worked()
        self._disk_out.worked()
        if batch.more:
            return 0.0
        if now - self._read_at >= _BUSY_S:
            return _IDLE_S
        return _BUSY_POLL_S if len(batch.lines) < _MANY_LINES else _POLL_S

    def wake(self) -> None:
        """End the wait of an idle collector, because the access log has new lines."""
        self._news.set()

    def _open(self) -> Tail:
        lost = self._queue.keep_only([each.name for each in self._endpoints])
        if lost:
            log.warning("the events of removed endpoints were dropped", extra={"events": lost})
        return self._open_tail(self._queue.position())

    def _append(self, batch: Batch, now: float) -> None:
        if batch.lines:
            self._read_at = now
        if batch.gaps:
            log.warning("log lines were deleted before their events were queued")
        found = self._pulls.of(batch.lines)
        is_late = batch.lines and now - self._position_at >= _POSITION_S
        if batch.position is None or not (found or is_late):
            return
        self._queue.append(wanted(self._endpoints, found), batch.position.dump())
        self._position_at = now
        self._on_queued()

    def _run(self) -> None:
        while not self._is_stopped.is_set():
            seconds = self.turn(time.monotonic())
            waiting = self._news if seconds == _IDLE_S else self._is_stopped
            waiting.wait(seconds)
            self._news.clear()
        while self.turn(time.monotonic()) == 0:
            pass


class Notifications:
    """A `Notifications` has the threads of the logger that queue and deliver events."""

    def __init__(
        self, collector: PullCollector, deliveries: Sequence[EventDelivery], queue: EventQueue
    ) -> None:
        self._collector = collector
        self._deliveries = deliveries
        self._queue = queue
        self._statistics: list[Statistics] = []

    def metrics(self) -> list[tuple[Metric, list[tuple[Labels, Amounts]]]]:
        """Return the metrics of the endpoints; their last values while the queue is unavailable."""
        with suppress(QueueUnavailable):
            self._statistics = self._queue.statistics()
        return notification_metrics.rows(self._statistics)

    def start(self) -> None:
        """Start all threads.

        PERF: with Python's default of 700 objects, the garbage collector examined all objects of a
        batch again and again, which was a sixth of the cost of queueing.
        """
        gc.set_threshold(_GARBAGE)
        self._collector.start()
        for each in self._deliveries:
            each.start()

    def wake(self) -> None:
        """Tell the collector that the access log has new lines."""
        self._collector.wake()

    def stop(self) -> None:
        """Queue the events of the last lines, and end all threads; queued events stay queued."""
        self._collector.stop()
        for each in self._deliveries:
            each.stop()


def build(settings: Settings, clock: Clock) -> Notifications:
    """Build the threads from the settings without starting them."""
    state = settings.storage.statedir
    queue = setup.queue(settings, is_durable=False)
    handed = outbound.handed_over(settings.run)
    proxies = Proxies(handed.proxies, handed.exempt)
    endpoints = setup.endpoints(settings)
    deliveries = [EventDelivery(each, queue, Poster(each, proxies.choose)) for each in endpoints]
    contents = StoredContents(open_storage(settings.storage, clock), open_index(state, clock))

    def wake() -> None:
        for each in deliveries:
            each.wake()

    source = setup.source(settings)
    chunk = _FEW_LINES if source.references else CHUNK
    collector = PullCollector(
        lambda text: Tail(state / layout.ACCESS_LOG, LogPosition.load(text), chunk=chunk),
        PullEvents(source, contents),
        queue,
        endpoints,
        wake,
    )
    return Notifications(collector, deliveries, queue)
