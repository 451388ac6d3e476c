"""The sources of one download, shared by all threads that fetch parts of it."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from entrepot.registry.errors import Absent, Denied, Unavailable, UpstreamError
from entrepot.registry.upstream.protocol import Fetch

_LEAST_PROGRESS = 64 * 1024
"""Bytes that count as progress: a source that sends one byte a connection is not asked at once."""

_MOST_REFUSALS = 2
"""Answers in a row that make no sense after which a source is not asked again."""

MOST_DENIALS = 6
"""Refusals in a row by a source that delivered before: it may take one connection at a time."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: `silence` without a byte ends a download; pauses grow from the first to the last.

    `min_rate` (bytes/s) over `slow_span` s is what a connection must bring not to be replaced.
    """

    silence: float = 30.0
    min_rate: float = 0
    slow_span: float = 15.0
    first_pause: float = 0.2
    longest_pause: float = 5.0


DEFAULT = Limits()


@dataclass(frozen=True, slots=True)
class AskSource:
    """Ask the source with this number."""

    source: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for so many seconds, then decide again."""

    seconds: float


@dataclass(frozen=True, slots=True)
class End:
    """Give up."""


class Patience:
    """The decisions of one download over *count* sources, numbered from 0 in order of preference.

    Times are in s on a monotonic clock; *jitter* returns a factor from 0 to 1. Not thread-safe.
    """

    def __init__(self, count: int, limits: Limits, now: float, jitter: Callable[[], float]) -> None:
        self._limits = limits
        self._jitter = jitter
        self._order = list(range(count))
        self._failed: set[int] = set()
        self._not_before: dict[int, float] = {}
        self._refusals: dict[int, int] = {}
        self._heard = now
        self._pauses = 0
        self._since_reset = 0

    def decide(self, now: float) -> AskSource | Pause | End:
        """Return what to do at *now*."""
        left = self._heard + self._limits.silence - now
        ready = (each for each in self._order if self._may_be_asked(each, now))
        source = next(ready, None)
        if source is not None and (left > 0 or not self._failed):
            return AskSource(source)
        if not self._order or left <= 0:
            return End()
        wait = min(self._not_before.get(each, now) for each in self._order) - now
        if wait > left:
            return End()
        longest = min(self._limits.first_pause * 2**self._pauses, self._limits.longest_pause)
        self._pauses = min(self._pauses + 1, 16)
        self._failed.clear()
        return Pause(min(max(longest * self._jitter(), wait), left))

    def progressed(self, source: int, now: float, count: int) -> None:
        """Note that a source delivered *count* bytes."""
        self._heard = now
        self._since_reset += count
        if self._since_reset >= _LEAST_PROGRESS:
            self._since_reset = self._pauses = 0
            self._failed.clear()
            self._refusals.pop(source, None)

    def failed(self, source: int, now: float, retry_after: float | None = None) -> None:
        """Note that a source broke, stalled or said that it is unavailable."""
        if source not in self._order:
            return
        self._order.remove(source)
        self._order.append(source)
        self._failed.add(source)
        self._since_reset = 0
        self._not_before[source] = now + (retry_after or 0.0)

    def refused(self, source: int, now: float, most: int = _MOST_REFUSALS) -> None:
        """Note an answer that another request will hardly change; *most* in a row are the last."""
        self._refusals[source] = self._refusals.get(source, 0) + 1
        if self._refusals[source] >= most:
            self.remove(source)
        else:
            self.failed(source, now)

    def remove(self, source: int) -> None:
        """Never ask a source again: it has no such blob, refuses it, or sent wrong bytes."""
        if source in self._order:
            self._order.remove(source)
        self._failed.discard(source)

    def _may_be_asked(self, source: int, now: float) -> bool:
        return source not in self._failed and self._not_before.get(source, now) <= now


class Pace:
    """Decides whether a connection is too slow, span by span; times in s on a monotonic clock.

    After each connection that was replaced the span doubles. So a source that is slow for everyone
    is left alone more and more, and a blob over it ends, also without ranges.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._span = limits.slow_span
        self._since = 0.0
        self._came = 0

    def begin(self, now: float) -> None:
        """Note that another connection has been opened."""
        self._since, self._came = now, 0

    def is_too_slow(self, now: float, count: int) -> bool:
        """Note *count* bytes, and return whether the last span brought too few."""
        self._came += count
        elapsed = now - self._since
        if not self._limits.min_rate or elapsed < self._span:
            return False
        is_slow = self._came < self._limits.min_rate * elapsed
        self.begin(now)
        if is_slow:
            self._span *= 2
        return is_slow


log = logging.getLogger(__name__)


class Sources:
    """Where a download gets its bytes, in order of preference; safe in any thread.

    *without* are the numbers of those that are not asked: they sent wrong bytes before. *clock*,
    *sleep* and *jitter* are passed in by tests.
    """

    def __init__(
        self,
        fetches: Sequence[Fetch],
        limits: Limits = DEFAULT,
        *,
        without: Iterable[int] = (),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._fetches = tuple(fetches)
        self._clock = clock
        self._sleep = sleep
        self.limits = limits
        self._patience = Patience(len(self._fetches), self.limits, clock(), jitter)
        for each in without:
            self._patience.remove(each)
        self._delivered: set[int] = set()
        self._errors: dict[int, UpstreamError] = {}
        self._last: UpstreamError | None = None
        self._lock = threading.Lock()

    def choose(self) -> tuple[int, Fetch]:
        """Return the source to ask now, after the pause that is due.

        Raises: UpstreamError, the last source's in order of preference, when the download ends.
        """
        while True:
            with self._lock:
                decision = self._patience.decide(self._clock())
                if isinstance(decision, AskSource):
                    return decision.source, self._fetches[decision.source]
                if not isinstance(decision, Pause):
                    raise self._error()
            self._sleep(decision.seconds)

    def first(self) -> tuple[int, Fetch]:
        """Return the source that would be asked now, without a pause.

        Raises: UpstreamError when a pause is due.
        """
        with self._lock:
            decision = self._patience.decide(self._clock())
            if isinstance(decision, AskSource):
                return decision.source, self._fetches[decision.source]
            raise self._error()

    def now(self) -> float:
        """Return the time, in s on the clock of the patience."""
        return self._clock()

    @property
    def delivered(self) -> frozenset[int]:
        """Return the numbers of the sources that delivered bytes."""
        return frozenset(self._delivered)

    def progressed(self, source: int, count: int) -> None:
        """Note that a source delivered *count* bytes."""
        with self._lock:
            self._delivered.add(source)
            self._patience.progressed(source, self._clock(), count)

    def failed(self, source: int, error: UpstreamError, *, start: int) -> None:
        """Note what went wrong with a source at *start* (bytes)."""
        with self._lock:
            self._errors[source] = self._last = error
            now = self._clock()
            if isinstance(error, Absent | Denied) and source not in self._delivered:
                self._patience.remove(source)
            elif isinstance(error, Absent | Denied):
                self._patience.refused(source, now, MOST_DENIALS)
            elif isinstance(error, Unavailable) and not error.is_temporary:
                self._patience.refused(source, now)
            else:
                after = error.retry_after if isinstance(error, Unavailable) else None
                self._patience.failed(source, now, after)
        log.info("source failed", extra={"upstream": error.upstream, "start": start})

    def _error(self) -> UpstreamError:
        """Return the error to report: that of the last source in the order of preference."""
        preferred = self._errors.get(len(self._fetches) - 1) or self._last
        assert preferred is not None  # noqa: S101 - it ends after a failure only
        return preferred
