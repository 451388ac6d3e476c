"""The logger's work, a turn at a time: read, commit, show; whoever calls has clock and patience."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from datastore.errors import IndexUnavailable
from logger import haproxy
from logger.complaint import Complaint
from logger.display import Display
from logger.filetimes import FileTimes
from logger.ledger import ACCESS, EVENTS, Ledger
from logger.tail import Batch, Tail

log = logging.getLogger(__name__)

_COMMIT_S = 0.1
_BEHIND_COMMIT_S = 1.0
_POLL_S = 1.0
_SHOW_S = 1.0
_IDLE_SHOW_S = 5.0
_ASK_S = 10.0
_ASK_AGAIN_S = 0.25
_LIVELY_S = 1.0
_GRACE_S = 1.0
_FIRST_RETRY_S = 0.1
_LAST_RETRY_S = 5.0
_FLUSH_S = 0.4
_NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class Places:
    """Where things lie: both logs and HAProxy's admin socket.

    The events file is rotated once it has `events_bytes`.
    """

    access: Path
    events: Path
    admin: Path
    events_bytes: int = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Work:
    """What the loop works with; `open_ledger` may raise IndexUnavailable and is then repeated.

    `wall` gives s, UTC epoch.
    """

    places: Places
    times: FileTimes
    display: Display
    open_ledger: Callable[[], Ledger]
    wall: Callable[[], float]


class Loop:
    """Everything that the logger does, for one thread; *now* is s on a clock that never goes back.

    While the index does not answer, what was read is kept, and the log itself keeps the rest.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._ledger: Ledger | None = None
        self._tails: dict[str, Tail] = {}
        self._committed = self._shown = self._asked = self._unanswered = _NEVER
        self._read_at = _NEVER
        self._retry_at, self._retry_s = _NEVER, _FIRST_RETRY_S
        self._is_changed = self._is_behind = False
        self._index_out = Complaint(log, "access index unavailable", "access index available again")
        self._disk_out = Complaint(log, "log not readable", "log readable again")

    def turn(self, now: float) -> float:
        """Do what is due, and return how many s to wait at most."""
        if self._ledger is None:
            self._ledger = self._open(now)
        if self._ledger is None:
            self._show_without_index(now)
            return max(self._retry_at - now, 0)
        more = self._read(self._ledger, now)
        if self._is_due(self._ledger, now):
            self._commit(self._ledger, now)
        if now >= self._shown + (_SHOW_S if self._is_changed else _IDLE_SHOW_S):
            self._tend(self._ledger, now)
        return self._patience(self._ledger, now, more=more)

    def is_lively(self, now: float) -> bool:
        """Whether lines flow: one was read within the last second."""
        return now - self._read_at < _LIVELY_S

    def finish(self, now: float) -> None:
        """Commit what was read, and leave the files' times and the metrics as they are then."""
        if self._ledger is not None:
            self._commit(self._ledger, now)
            self._work.times.flush(_FLUSH_S)
            self._work.display.show(self._ledger.committed, self._lag(self._ledger))
        for tail in self._tails.values():
            tail.close()

    def _open(self, now: float) -> Ledger | None:
        """Take up the work where the index says that it was left."""
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
        """Show sizes of the disk, and counters at 0, while the index has never answered."""
        if now >= self._shown + _IDLE_SHOW_S:
            self._work.display.show({}, 0.0)
            self._shown = now

    def _patience(self, ledger: Ledger, now: float, *, more: bool) -> float:
        """Return how long nothing will be due if no log changes."""
        if more and not ledger.is_full:
            return 0
        until = now + _POLL_S
        if self._is_changed:
            until = min(until, self._shown + _SHOW_S)
        if not ledger.is_empty:
            until = min(until, max(self._committed + _COMMIT_S, self._retry_at))
        if ledger.news is not None:
            until = min(until, max(self._unanswered + _ASK_AGAIN_S, self._retry_at))
        return max(until - now, 0)

    # ---- reading

    def _read(self, ledger: Ledger, now: float) -> bool:
        """Look at both logs once; True when there is more."""
        if ledger.is_full:
            return False
        access, events = self._look(ACCESS, now), self._look(EVENTS, now)
        ledger.access(access)
        ledger.events(events)
        self._is_behind = access.more
        return access.more or events.more

    def _look(self, name: str, now: float) -> Batch:
        try:
            batch = self._tails[name].read(now)
        except OSError as error:
            self._disk_out.failed(error)
            return Batch()
        if batch.lines:
            self._read_at = now
            self._disk_out.worked()
        return batch

    # ---- committing

    def _is_due(self, ledger: Ledger, now: float) -> bool:
        """Tell whether to commit: now and then, at once what the cleaner waits for.

        PERF: to stamp a row among a million costs more than to read ten lines; of many lines
        that wait to be read, many are about the same row.
        """
        if now < self._retry_at:
            return False
        if ledger.news is not None and now - self._unanswered >= _ASK_AGAIN_S:
            return True
        after = _BEHIND_COMMIT_S if self._is_behind else _COMMIT_S
        return not ledger.is_empty and (ledger.is_full or now >= self._committed + after)

    def _commit(self, ledger: Ledger, now: float) -> None:
        is_whole = ledger.news is None or self._ask(ledger, now)
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

    def _ask(self, ledger: Ledger, now: float) -> bool:
        """Ask HAProxy what it dropped; False when it does not say."""
        self._asked = now
        dropped = haproxy.ask(self._work.places.admin, ledger.dropped)
        if dropped is None:
            self._unanswered = now
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

    # ---- tending

    def _tend(self, ledger: Ledger, now: float) -> None:
        """Do what is done by the second: metrics, a rotation, a look at index and HAProxy."""
        if now - self._asked >= _ASK_S:
            self._ask(ledger, now)
        with suppress(IndexUnavailable):  # the next commit says so
            if ledger.is_empty and ledger.heal():
                log.warning("access index is a new one")
                self._work.times.flush(_FLUSH_S)
        if ledger.is_empty:
            self._rotate_events()
        self._work.display.show(ledger.committed, self._lag(ledger))
        self._shown, self._is_changed = now, False

    def _lag(self, ledger: Ledger) -> float:
        """Return the age of what was read last while something waits: to be read, or committed."""
        if ledger.last is None or (ledger.is_empty and not self._is_behind):
            return 0.0
        return max(self._work.wall() - ledger.last, 0.0)

    def _rotate_events(self) -> None:
        """Begin a new events file once all of the old one is in the index.

        Whoever has the old one open goes on to write to it, and is read there.
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
