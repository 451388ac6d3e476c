"""Which source a download asks next, when it pauses, and when it ends. Pure: time is passed in.

A source that fails moves to the end of the order, and the next one is asked at once. The download
pauses only when every source has failed since the last progress: 0.2 s, doubled up to 5 s, with
full jitter, and never less than Retry-After. It ends when no source has delivered a byte for a
while, or when no source is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
