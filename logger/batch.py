"""Collect the values of log lines that are read but not yet committed to the index.

One transaction commits the access times, the metrics and the log positions of the whole batch.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable

from entrepot.datastore.accesslog import AccessLine, AccessLog, parse_event
from entrepot.datastore.errors import InvalidLine
from entrepot.datastore.index import Index, KeyValueStore
from entrepot.datastore.refs import Digest
from entrepot.logger import event_metrics, metrics, storage_metrics, traffic
from entrepot.logger.accesses import note_uses, stamps
from entrepot.logger.dropped_lines import DroppedLines
from entrepot.logger.event_metrics import EventMetrics
from entrepot.logger.labels import UpstreamLabels
from entrepot.logger.metrics import Metric, Registry
from entrepot.logger.position import LogPosition
from entrepot.logger.tail import Batch
from entrepot.runtime.clock import Clock

log = logging.getLogger(__name__)

ACCESS = "access"
EVENTS = "events"
NEWS = "news"
DROPPED = "dropped"
_HAPROXY = "logger:haproxy"
_LOST = "logger:lost"
_RUN = "logger:run"
_MARK = "logger:mark"
_LATEST = "logger:latest"
_OWN = (f"position:{ACCESS}", f"position:{EVENTS}", _HAPROXY, _LOST, _RUN, _LATEST)
_PROBE = "/healthz?news="
_PROBED = "unix"  # A request over HAProxy's unix socket has this source address in the access log.
# A batch with this many lines or access times is full. The two limits bound how long its commit
# blocks other writers of the index.
_FULL_LINES = 50_000
_FULL_STAMPS = 10_000

LINES = Metric("entrepot_log_lines", "counter", "Lines read.", ("log",))
UNREADABLE = Metric(
    "entrepot_log_unreadable", "counter", "Lines that could not be parsed.", ("log",)
)
OVERLONG = Metric(
    "entrepot_log_overlong", "counter", "Lines that exceeded the length limit.", ("log",)
)
GAPS = Metric(
    "entrepot_log_gaps", "counter", "Number of times that lines were deleted unread.", ("log",)
)
LOST = Metric("entrepot_log_dropped", "counter", "Lines that HAProxy could not write.")
METRICS = (
    *traffic.METRICS,
    *event_metrics.METRICS,
    *(LINES, UNREADABLE, OVERLONG, GAPS, LOST),
)


class LogBatch:
    """A `LogBatch` collects values from log lines until they are committed to *index*.

    Only one thread may use a `LogBatch`. Counters continue from their values in *index*. The
    constructor can raise IndexUnavailable.

    Some metrics have a label with the host of an upstream. The hosts *upstreams* are values of this
    label from the start; any other host becomes a value when a line names it, up to a limit. *run*
    is the name of this run of the appliance, which began *since* seconds after the UTC epoch. The
    states of circuit breakers from earlier runs are dropped.

    If the wall clock is set, the times in HAProxy's lines jump with it. Therefore each time is
    converted to a time of *clock*, and is limited to the period from the last committed access time
    until now.
    """

    def __init__(
        self,
        index: Index,
        *,
        upstreams: Iterable[str] = (),
        run: str = "",
        since: float = 0,
        clock: Clock | None = None,
    ) -> None:
        self._index = index
        self._clock = clock
        self._registry = Registry(METRICS)
        self.committed = _committed(index.notes)
        self._registry.load(self.committed)
        self._upstreams = UpstreamLabels({*upstreams, *_seen(self._registry)})
        self._happenings = EventMetrics(self._registry, self._upstreams, since=since)
        self._dropped = DroppedLines.load(self.committed.get(_HAPROXY))
        # The number of losses of access log lines in this run (see `commit`).
        self._lost = int(self.committed.get(_LOST, 0))
        self._latest = float(self.committed.get(_LATEST, 0.0))
        self._log = AccessLog()
        self._uses: dict[str, float] = {}
        self._notes: dict[str, str] = {_MARK: secrets.token_hex(8)}
        self._lines = 0
        self.news: str | None = None
        self.last: float | None = None
        if self.committed.get(_RUN) != run:
            self._registry.clear(event_metrics.BREAKER)
            self._registry.clear(storage_metrics.STORAGE_CIRCUIT)
            # A new HAProxy process counts dropped lines from 0. In a container, it can have the
            # process id of the old one, so the id does not show that the process is new.
            self._dropped = DroppedLines(total=self._dropped.total)
            self._lost = 0
            self._notes |= {_RUN: run, _LOST: "0"}

    @property
    def is_full(self) -> bool:
        """Return whether the batch must be committed before more lines are read."""
        return self._lines >= _FULL_LINES or len(self._uses) >= _FULL_STAMPS

    @property
    def is_empty(self) -> bool:
        """Return True if there is nothing to commit, apart from a log barrier request."""
        return not self._notes

    @property
    def dropped(self) -> DroppedLines:
        """Return HAProxy's last count of dropped log lines."""
        return self._dropped

    def position(self, name: str) -> LogPosition | None:
        """Return the committed position of a log, or None if the log was never read."""
        return LogPosition.load(self.committed.get(_position(name)))

    def access(self, batch: Batch) -> None:
        """Add lines of the access log to the batch."""
        lines, errors = self._log.read(batch.lines)
        for error in errors:
            self._unreadable(ACCESS, error)
        requests = [each for each in lines if not self._is_probe(each[0])]
        note_uses(requests, self._uses)
        traffic.count(requests, self._registry, self._upstreams)
        self._lose(batch.gaps)
        self.last = max((line.end for line, _ in lines), default=self.last)
        self._take(ACCESS, batch)

    def events(self, batch: Batch) -> None:
        """Add lines of the events file to the batch."""
        for text in batch.lines:
            try:
                self._happenings.count(parse_event(text))
            except (InvalidLine, ValueError) as error:
                self._unreadable(EVENTS, error)
        self._take(EVENTS, batch)

    def drop(self, dropped: DroppedLines) -> None:
        """Add HAProxy's current count of dropped log lines."""
        if dropped == self._dropped:
            return
        lost = dropped.total - self._dropped.total
        if lost:
            log.warning("HAProxy dropped access log lines", extra={"lines": lost})
            self._registry.add(LOST, lost)
        self._lose(lost)
        self._dropped = dropped
        self._notes[_HAPROXY] = dropped.dump()

    def commit(self, *, is_whole: bool) -> dict[Digest, float]:
        """Commit the batch to the index in one transaction, and return the access times.

        *is_whole* is True if the batch includes HAProxy's current count of dropped lines. Only such
        a commit responds to a log barrier request of the cleaner, with the number of losses in this
        run. A loss is a line that HAProxy dropped, or a rotation that deleted unread lines.

        Raises: IndexUnavailable; nothing is committed, and the batch keeps its content.
        """
        notes = self._notes | self._registry.changed()
        if is_whole and self.news is not None:
            notes |= {NEWS: self.news, DROPPED: str(self._lost)}
        accesses = self._on_clock(stamps(self._uses))
        latest = max(accesses.values(), default=self._latest)
        notes |= {_LATEST: repr(latest)} if latest > self._latest else {}
        self._index.touch(accesses, notes)
        self._latest = latest
        self.committed |= notes
        self._registry.committed()
        if is_whole:
            self.news = None
        self._uses, self._notes, self._lines = {}, {}, 0
        return accesses

    def heal(self) -> bool:
        """Return whether the index was deleted and created again since the last commit.

        If so, the next commit writes all values. Raises: IndexUnavailable.
        """
        if self._index.notes.get(_MARK) == self.committed.get(_MARK):
            return False
        self._registry.touch_all()
        kept = {name: self.committed[name] for name in (*_OWN, _MARK) if name in self.committed}
        self._notes = kept | self._notes
        return True

    def _on_clock(self, accesses: dict[Digest, float]) -> dict[Digest, float]:
        """Convert the times in *accesses* from the wall clock to the appliance's clock.

        No returned time is earlier than the latest committed time or later than now.
        """
        if self._clock is None or not accesses:
            return accesses
        now, shift, latest = self._clock(), self._clock.shift(), self._latest
        return {digest: min(max(at + shift, latest), now) for digest, at in accesses.items()}

    def _take(self, name: str, batch: Batch) -> None:
        if batch.position is None:
            return
        self._notes[_position(name)] = batch.position.dump()
        self._lines += len(batch.lines)
        for metric, amount in (
            (LINES, len(batch.lines)),
            (OVERLONG, batch.overlong),
            (GAPS, batch.gaps),
        ):
            if amount:
                self._registry.add(metric, amount, name)
        if batch.gaps:
            log.warning("log lines were deleted before they were read", extra={"log": name})

    def _lose(self, times: int) -> None:
        self._lost += times
        self._notes |= {_LOST: str(self._lost)} if times else {}

    def _unreadable(self, name: str, error: Exception) -> None:
        if not self._registry.values(UNREADABLE).get((name,)):
            log.warning("a log line could not be parsed", extra={"log": name, "error": error})
        self._registry.add(UNREADABLE, 1, name)

    def _is_probe(self, line: AccessLine) -> bool:
        """Return whether *line* is a log barrier request of the cleaner, and remember its id."""
        if line.source != _PROBED or not line.uri.startswith(_PROBE):
            return False
        self.news = line.uri.removeprefix(_PROBE)
        return True


def _position(name: str) -> str:
    return f"position:{name}"


def _committed(notes: KeyValueStore) -> dict[str, str]:
    names = [*_OWN, *(metrics.note(metric) for metric in METRICS)]
    found = ((name, notes.get(name)) for name in names)
    return {name: text for name, text in found if text is not None}


def _seen(registry: Registry) -> Iterable[str]:
    """Return the upstreams that occur as label values in the committed metrics."""
    for metric in METRICS:
        if "upstream" in metric.labels:
            place = metric.labels.index("upstream")
            yield from (labels[place] for labels in registry.values(metric))
