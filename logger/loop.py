"""Run the loop of the logger: read the logs, commit to the index, write the metrics.

`LoggerLoop.turn` does the work that is due; the caller passes the time and waits between two calls.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from entrepot.datastore.errors import IndexUnavailable
from entrepot.logger import dropped_lines
from entrepot.logger.batch import ACCESS, EVENTS, LogBatch
from entrepot.logger.display import Display
from entrepot.logger.filetimes import FileTimes
from entrepot.logger.tail import Batch, Tail
from entrepot.runtime.log_once import LogOnce

log = logging.getLogger(__name__)

_COMMIT_S = 0.1
_BEHIND_COMMIT_S = 1.0
POLL_S, WATCHED_POLL_S = 1.0, 8.0
"""The time in seconds between two reads of logs that do not change.

WATCHED_POLL_S applies while inotify reports changes. `serve` writes the access log on this machine,
and inotify reports such writes on every file system. So new lines are read at once, and
WATCHED_POLL_S only bounds the time until a jump of the wall clock is noticed.
"""
_SHOW_S = 1.0
_IDLE_SHOW_S = 8.0
_DROPPED_S = 10.0
_DROPPED_AGAIN_S = 0.25
_BUSY_S = 1.0
_GRACE_S = 1.0
_FIRST_RETRY_S = 0.1
_LAST_RETRY_S = 5.0
_FLUSH_S = 0.4
_NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class LogPaths:
    """A `LogPaths` has the paths of the access log, the events file and HAProxy's admin socket.

    The events file is rotated when its size reaches `events_bytes`.
    """

    access: Path
    events: Path
    admin: Path
    events_bytes: int = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Work:
    """A `Work` has the objects and functions that the loop uses.

    `open_ledger` returns an empty batch. If it raises IndexUnavailable, the loop calls it again
    after a pause. `wall` returns the time of the wall clock in seconds since the UTC epoch.
    """

    places: LogPaths
    times: FileTimes
    display: Display
    open_ledger: Callable[[], LogBatch]
    wall: Callable[[], float]


class LoggerLoop:
    """A `LoggerLoop` does the work of the logger. Only one thread may use it.

    The parameter *now* of its methods is the time of a monotonic clock in seconds. While the index
    is unavailable, the lines that were read stay in memory. When the batch is full, no more lines
    are read.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._ledger: LogBatch | None = None
        self._tails: dict[str, Tail] = {}
        self._committed = self._shown = self._dropped_read_at = self._dropped_failed_at = _NEVER
        self._read_at = _NEVER
        self._retry_at, self._retry_s = _NEVER, _FIRST_RETRY_S
        self._is_changed = self._is_behind = False
        self._index_out = LogOnce(
            log, "access index unavailable", "the access index is available again"
        )
        self._disk_out = LogOnce(log, "log not readable", "log readable again")

    def turn(self, now: float, *, poll_s: float = POLL_S) -> float:
        """Do the work that is due, and return after how many seconds to call this method again.

        While the index is available, the result is at most *poll_s*.
        """
        if self._ledger is None:
            self._ledger = self._open(now)
        if self._ledger is None:
            self._show_without_index(now)
            return max(self._retry_at - now, 0)
        more = self._read(self._ledger, now)
        if self._is_due(self._ledger, now):
            self._commit(self._ledger, now)
        if now >= self._shown + (_SHOW_S if self._is_changed else _IDLE_SHOW_S):
            self._do_periodic_work(self._ledger, now)
        return min(self._time_until_due(self._ledger, now, more=more), poll_s)

    def is_lively(self, now: float) -> bool:
        """Return whether a line was read within the last second."""
        return now - self._read_at < _BUSY_S

    def finish(self, now: float) -> None:
        """Commit the lines that were read, and write the times of files and the metrics."""
        if self._ledger is not None:
            self._commit(self._ledger, now)
            self._work.times.flush(_FLUSH_S)
            self._work.display.show(self._ledger.committed, self._lag(self._ledger))
        for tail in self._tails.values():
            tail.close()

    def _open(self, now: float) -> LogBatch | None:
        """Open a batch, and both logs at their committed positions.

        Return None if the index is unavailable.
        """
        if now < self._retry_at:
            return None
        try:
            ledger = self._work.open_ledger()
        except IndexUnavailable as error:
            self._failed(error, now)
            return None
        self._worked()
        places = self._work.places
        self._tails[ACCESS] = Tail(places.access, ledger.position(ACCESS))
        self._tails[EVENTS] = Tail(places.events, ledger.position(EVENTS), grace=_GRACE_S)
        return ledger

    def _show_without_index(self, now: float) -> None:
        """Write metrics while the index is unavailable: sizes of disks, and counters of 0."""
        if now >= self._shown + _IDLE_SHOW_S:
            self._work.display.show({}, 0.0)
            self._shown = now

    def _time_until_due(self, ledger: LogBatch, now: float, *, more: bool) -> float:
        """Return the seconds until work is due, if no log changes meanwhile."""
        if more and not ledger.is_full:
            return 0
        until = now + WATCHED_POLL_S
        if self._is_changed:
            until = min(until, self._shown + _SHOW_S)
        if not ledger.is_empty:
            until = min(until, max(self._committed + _COMMIT_S, self._retry_at))
        if ledger.news is not None:
            until = min(until, max(self._dropped_failed_at + _DROPPED_AGAIN_S, self._retry_at))
        return max(until - now, 0)

    # ---- reading the logs

    def _read(self, ledger: LogBatch, now: float) -> bool:
        """Read both logs once. Return True if the logs may have more lines."""
        if ledger.is_full:
            return False
        access, events = self._read_log(ACCESS, now), self._read_log(EVENTS, now)
        ledger.access(access)
        ledger.events(events)
        self._is_behind = access.more
        return access.more or events.more

    def _read_log(self, name: str, now: float) -> Batch:
        try:
            batch = self._tails[name].read(now)
        except OSError as error:
            self._disk_out.failed(error)
            return Batch()
        if batch.lines:
            self._read_at = now
            self._disk_out.worked()
        return batch

    # ---- committing to the index

    def _is_due(self, ledger: LogBatch, now: float) -> bool:
        """Return whether a commit is due: at intervals, or at once if the cleaner waits for it.

        PERF: to update one row among a million costs more than to read ten lines. If many lines are
        unread, the interval is longer. In a longer interval, more lines change the same row, and
        the commit updates the row only once.
        """
        if now < self._retry_at:
            return False
        if ledger.news is not None and now - self._dropped_failed_at >= _DROPPED_AGAIN_S:
            return True
        after = _BEHIND_COMMIT_S if self._is_behind else _COMMIT_S
        return not ledger.is_empty and (ledger.is_full or now >= self._committed + after)

    def _commit(self, ledger: LogBatch, now: float) -> None:
        is_whole = ledger.news is None or self._read_dropped(ledger, now)
        if ledger.is_empty and ledger.news is None:
            return
        try:
            stamps = ledger.commit(is_whole=is_whole)
        except IndexUnavailable as error:
            self._failed(error, now)
            return
        self._worked()
        self._committed, self._is_changed = now, True
        self._work.times.follow(stamps)

    def _read_dropped(self, ledger: LogBatch, now: float) -> bool:
        """Read HAProxy's count of dropped lines. Return False if HAProxy does not respond."""
        self._dropped_read_at = now
        dropped = dropped_lines.read_dropped(self._work.places.admin, ledger.dropped)
        if dropped is None:
            self._dropped_failed_at = now
            return False
        ledger.drop(dropped)
        return True

    def _failed(self, error: IndexUnavailable, now: float) -> None:
        self._index_out.failed(error)
        self._retry_at = now + self._retry_s
        self._retry_s = min(2 * self._retry_s, _LAST_RETRY_S)

    def _worked(self) -> None:
        self._index_out.worked()
        self._retry_at, self._retry_s = _NEVER, _FIRST_RETRY_S

    # ---- periodic work

    def _do_periodic_work(self, ledger: LogBatch, now: float) -> None:
        """Write the metrics, rotate the events file, and check the index and HAProxy."""
        if now - self._dropped_read_at >= _DROPPED_S:
            self._read_dropped(ledger, now)
        with suppress(IndexUnavailable):  # The next commit will log an error of the index.
            if ledger.is_empty and ledger.heal():
                log.warning("the access index was created again")
                self._work.times.flush(_FLUSH_S)
        if ledger.is_empty:
            self._rotate_events()
        self._work.display.show(ledger.committed, self._lag(ledger))
        self._shown, self._is_changed = now, False

    def _lag(self, ledger: LogBatch) -> float:
        """Return the age (s) of the last line that was read; 0 if all lines are committed."""
        if ledger.last is None or (ledger.is_empty and not self._is_behind):
            return 0.0
        return max(self._work.wall() - ledger.last, 0.0)

    def _rotate_events(self) -> None:
        """Rotate the events file if it is large enough and all of its lines are in the index.

        A process can still have the rotated file open and append a line. The logger reads such
        lines too, because it follows the rotated file for a while.
        """
        events = self._work.places.events
        try:
            size = events.stat().st_size
            if size >= self._work.places.events_bytes and self._tails[EVENTS].is_caught_up():
                events.replace(events.with_name(f"{events.name}.1"))
        except FileNotFoundError:
            return
        except OSError as error:
            self._disk_out.failed(error)
