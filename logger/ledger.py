"""What was read of the logs and is not in the index yet; one transaction takes all of it there."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable

from datastore.accesslog import AccessLine, AccessLog, parse_event
from datastore.errors import InvalidLine
from datastore.index import AccessIndex
from datastore.refs import Digest
from logger import happenings, metrics, traffic
from logger.happenings import Happenings
from logger.haproxy import Dropped
from logger.labels import Upstreams
from logger.metrics import Metric, Registry
from logger.position import Position
from logger.stamper import note_uses, stamps
from logger.tail import Batch
from runtime.clock import Clock

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
_PROBED = "unix"  # the source of a request that came over HAProxy's own socket
_FULL_LINES = 50_000
_FULL_STAMPS = 10_000  # for so long others that write to the index have to wait

LINES = Metric("entrepot_log_lines", "counter", "Lines read.", ("log",))
UNREADABLE = Metric(
    "entrepot_log_unreadable", "counter", "Lines that could not be understood.", ("log",)
)
OVERLONG = Metric("entrepot_log_overlong", "counter", "Lines too long to be read.", ("log",))
GAPS = Metric(
    "entrepot_log_gaps", "counter", "Times that lines went before they were read.", ("log",)
)
LOST = Metric("entrepot_log_dropped", "counter", "Lines that HAProxy could not write.")
METRICS = (
    *traffic.METRICS,
    *happenings.METRICS,
    *(LINES, UNREADABLE, OVERLONG, GAPS, LOST),
)


class Ledger:
    """The open account: for one thread.

    *upstreams* are the names to tell apart from the start. *run* names this run of the appliance,
    which began at *since* (s, UTC epoch): what an earlier one said of its breakers is void.
    *clock* places HAProxy's times, which jump with the wall clock, between the uses before and now.
    Counters begin with what *index* holds. Raises: IndexUnavailable.
    """

    def __init__(
        self,
        index: AccessIndex,
        *,
        upstreams: Iterable[str] = (),
        run: str = "",
        since: float = 0,
        clock: Clock | None = None,
    ) -> None:
        self._index = index
        self._clock = clock
        self._registry = Registry(METRICS)
        self.committed = _notes(index)
        self._registry.load(self.committed)
        self._upstreams = Upstreams({*upstreams, *_seen(self._registry)})
        self._happenings = Happenings(self._registry, self._upstreams, since=since)
        self._dropped = Dropped.load(self.committed.get(_HAPROXY))
        self._lost = int(self.committed.get(_LOST, 0))  # how often, in this run
        self._latest = float(self.committed.get(_LATEST, 0.0))
        self._log = AccessLog()
        self._uses: dict[str, float] = {}
        self._notes: dict[str, str] = {_MARK: secrets.token_hex(8)}
        self._lines = 0
        self.news: str | None = None
        self.last: float | None = None
        if self.committed.get(_RUN) != run:
            self._registry.clear(happenings.BREAKER)
            # another HAProxy, although in a container it has the same number
            self._dropped = Dropped(total=self._dropped.total)
            self._lost = 0
            self._notes |= {_RUN: run, _LOST: "0"}

    @property
    def is_full(self) -> bool:
        """Whether it is time to commit before more is read."""
        return self._lines >= _FULL_LINES or len(self._uses) >= _FULL_STAMPS

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit; news that waits for HAProxy is not counted."""
        return not self._notes

    @property
    def dropped(self) -> Dropped:
        """What HAProxy said last of the lines that it could not write."""
        return self._dropped

    def position(self, name: str) -> Position | None:
        """Return where a log was read to, as the index has it."""
        return Position.load(self.committed.get(_position(name)))

    def access(self, batch: Batch) -> None:
        """Take in a batch of the access log."""
        lines, errors = self._log.read(batch.lines)
        for error in errors:
            self._unreadable(ACCESS, error)
        told = [each for each in lines if not self._is_probe(each[0])]
        note_uses(told, self._uses)
        traffic.count(told, self._registry, self._upstreams)
        self._lose(batch.gaps)
        self.last = max((line.end for line, _ in lines), default=self.last)
        self._take(ACCESS, batch)

    def events(self, batch: Batch) -> None:
        """Take in a batch of the events file."""
        for text in batch.lines:
            try:
                self._happenings.count(parse_event(text))
            except (InvalidLine, ValueError) as error:
                self._unreadable(EVENTS, error)
        self._take(EVENTS, batch)

    def drop(self, dropped: Dropped) -> None:
        """Take in what HAProxy says of the lines that it could not write."""
        if dropped == self._dropped:
            return
        lost = dropped.total - self._dropped.total
        if lost:
            log.warning("access lines dropped by haproxy", extra={"lines": lost})
            self._registry.add(LOST, lost)
        self._lose(lost)
        self._dropped = dropped
        self._notes[_HAPROXY] = dropped.dump()

    def commit(self, *, is_whole: bool) -> dict[Digest, float]:
        """Bring all of it into the index, at once, and return the stamps.

        Only if it *is_whole*, lines that were dropped included, the cleaner gets its news, and
        is told how often lines were lost in this run: dropped, or rotated away unread.
        Raises: IndexUnavailable: nothing of it is there, and nothing of it is forgotten here.
        """
        notes = self._notes | self._registry.changed()
        if is_whole and self.news is not None:
            notes |= {NEWS: self.news, DROPPED: str(self._lost)}
        told = self._placed(stamps(self._uses))
        latest = max(told.values(), default=self._latest)
        notes |= {_LATEST: repr(latest)} if latest > self._latest else {}
        self._index.touch(told, notes)
        self._latest = latest
        self.committed |= notes
        self._registry.committed()
        if is_whole:
            self.news = None
        self._uses, self._notes, self._lines = {}, {}, 0
        return told

    def heal(self) -> bool:
        """Have everything written anew if the index is another one: somebody deleted the last.

        Raises: IndexUnavailable.
        """
        if self._index.note(_MARK) == self.committed.get(_MARK):
            return False
        self._registry.touch_all()
        kept = {name: self.committed[name] for name in (*_OWN, _MARK) if name in self.committed}
        self._notes = kept | self._notes
        return True

    def _placed(self, told: dict[Digest, float]) -> dict[Digest, float]:
        """Return the uses on the appliance's clock, none of them before those of earlier commits.

        Their order within a commit is that of the wall clock, as far as it ran evenly meanwhile.
        """
        if self._clock is None or not told:
            return told
        now, shift, latest = self._clock(), self._clock.shift(), self._latest
        return {digest: min(max(at + shift, latest), now) for digest, at in told.items()}

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
            log.warning("log lines gone before they were read", extra={"log": name})

    def _lose(self, times: int) -> None:
        self._lost += times
        self._notes |= {_LOST: str(self._lost)} if times else {}

    def _unreadable(self, name: str, error: Exception) -> None:
        if not self._registry.values(UNREADABLE).get((name,)):
            log.warning("log line not understood", extra={"log": name, "error": error})
        self._registry.add(UNREADABLE, 1, name)

    def _is_probe(self, line: AccessLine) -> bool:
        """Tell the cleaner's request from a client's; the last one counts."""
        if line.source != _PROBED or not line.uri.startswith(_PROBE):
            return False
        self.news = line.uri.removeprefix(_PROBE)
        return True


def _position(name: str) -> str:
    return f"position:{name}"


def _notes(index: AccessIndex) -> dict[str, str]:
    names = [*_OWN, *(metrics.note(metric) for metric in METRICS)]
    found = ((name, index.note(name)) for name in names)
    return {name: text for name, text in found if text is not None}


def _seen(registry: Registry) -> Iterable[str]:
    """Return the upstreams that were told apart before."""
    for metric in METRICS:
        if "upstream" in metric.labels:
            place = metric.labels.index("upstream")
            yield from (labels[place] for labels in registry.values(metric))
