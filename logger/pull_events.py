"""Queue the events of pulls from the access log, and deliver the events of the queue to endpoints.

Separate threads queue and deliver events. One thread reads the access log a second time, so the
logger's work on access times and metrics never waits for the event queue or for an endpoint. The
position of this second reading is committed together with the events. So if the process is killed,
no event is lost or queued twice.
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
# A collector that has read all lines waits this many seconds. If a new line arrives, the logger's
# loop wakes it earlier.
_IDLE_S = 2.0
# If the last read returned this many lines, the collector waits longer before the next read, so
# that one transaction commits more lines.
_MANY_LINES = 64
_BUSY_S = 1.0
_RETRY_S = 1.0
_STOP_S = 0.4
_GARBAGE = 20_000  # The garbage collector runs after this many new objects (see `start`).
_POSITION_S = 1.0
_FEW_LINES = (
    2 * LONGEST
    # If events include the references of manifests, a line can become an event with 64 KiB of
    # descriptors. So one read takes fewer bytes than `CHUNK`.
)


class StoredContents:
    """A `StoredContents` looks up facts about content that are not in the access log."""

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
    """A `PullCollector` queues the events of pulls in a separate thread.

    *open_tail* opens the access log at a stored position. *queued* is called after events were
    queued.
    """

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
        """Queue the events of the remaining lines, and end the thread."""
        self._is_stopped.set()
        self._news.set()
        self._thread.join(_STOP_S)

    def turn(self, now: float) -> float:
        """Queue the events of unread lines, and return how many seconds to wait after that.

        *now* is the time of a monotonic clock in seconds. While the queue is unavailable, each call
        tries the lines of the last read again, and reads no more lines.
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
        """Make an idle collector read the access log, because it has new lines."""
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
    """A `Notifications` has the logger's threads that queue and deliver events."""

    def __init__(
        self, collector: PullCollector, deliveries: Sequence[EventDelivery], queue: EventQueue
    ) -> None:
        self._collector = collector
        self._deliveries = deliveries
        self._queue = queue
        self._statistics: list[Statistics] = []

    def metrics(self) -> list[tuple[Metric, list[tuple[Labels, Amounts]]]]:
        """Return the metrics of the endpoints.

        While the queue is unavailable, the metrics have their last values.
        """
        with suppress(QueueUnavailable):
            self._statistics = self._queue.statistics()
        return notification_metrics.rows(self._statistics)

    def start(self) -> None:
        """Start all threads.

        PERF: by default, the garbage collector of Python 3.11 runs after 700 new objects, and would
        examine the objects of a batch many times. These examinations would be a sixth of the cost
        of queueing.
        """
        gc.set_threshold(_GARBAGE)
        self._collector.start()
        for each in self._deliveries:
            each.start()

    def wake(self) -> None:
        """Make the collector read the access log, because it has new lines."""
        self._collector.wake()

    def stop(self) -> None:
        """Queue the events of the remaining lines, and end all threads.

        Events that are not delivered stay in the queue, which is on disk.
        """
        self._collector.stop()
        for each in self._deliveries:
            each.stop()


def build(settings: Settings, clock: Clock) -> Notifications:
    """Create the threads from the settings, without starting them."""
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
