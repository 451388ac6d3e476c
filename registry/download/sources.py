"""Decide which source a download uses next, how long it pauses and when it ends.

A source that fails moves to the end of the order, and the download uses the next source at once.
The download pauses only if every source has failed since the last progress. The first pause lasts a
random time of up to 0.2 s. This maximum doubles with each further pause, up to 5 s. A pause lasts
at least until the Retry-After of one source has passed. A source is removed if it does not have the
blob, denies access, sends wrong bytes, or sends invalid responses repeatedly. A download fails when
no source is left. A download also fails when no byte has arrived for `Limits.silence` seconds and
every source has been tried since the last byte.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType

from entrepot.registry.errors import Absent, Denied, Unavailable, UpstreamError
from entrepot.registry.upstream.protocol import Fetch, RemoteBlob

_LEAST_PROGRESS = 64 * 1024
"""A source has made progress when it has sent this many bytes.

A source that sends one byte per connection makes no progress, so the download pauses before it uses
that source again.
"""

_MOST_REFUSALS = 2
"""If a source sends this many invalid responses in a row, the download drops that source."""

MOST_DENIALS = 6
"""A source that delivered bytes is dropped after this many 401, 403 or 404 responses in a row.

This number is larger than `_MOST_REFUSALS`, because a source that has the blob may send these
responses if it accepts only one connection at a time.
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """A `Limits` holds the time limits of a download, in seconds.

    A download ends if no byte arrives for `silence` seconds and every source has been tried. Pauses
    grow from `first_pause` to `longest_pause`. The download replaces a connection that delivers
    less than `min_rate` bytes/s over `slow_span`.
    """

    silence: float = 30.0
    min_rate: float = 0
    slow_span: float = 15.0
    first_pause: float = 0.2
    longest_pause: float = 5.0


DEFAULT = Limits()


@dataclass(frozen=True, slots=True)
class AskSource:
    """An `AskSource` is the decision to send the next request to the source with this number."""

    source: int


@dataclass(frozen=True, slots=True)
class Pause:
    """A `Pause` is the decision to wait for this many seconds and then decide again."""

    seconds: float


@dataclass(frozen=True, slots=True)
class End:
    """An `End` is the decision to end the download."""


class RetryPolicy:
    """A `RetryPolicy` decides which sources of one download are used.

    The sources are numbered from 0 in order of preference.

    The policy reads no clock; the caller passes the time to every method, in seconds on a monotonic
    clock. *count* is the number of sources; *jitter* returns a factor from 0 to 1. Not thread-safe.
    """

    def __init__(self, count: int, limits: Limits, now: float, jitter: Callable[[], float]) -> None:
        self._limits = limits
        self._jitter = jitter
        self._order = list(range(count))
        self._failed: set[int] = set()
        self._asked: set[int] = set()
        self._not_before: dict[int, float] = {}
        self._refusals: dict[int, int] = {}
        self._last_byte_at = now
        self._pauses = 0
        self._bytes_since_reset = 0

    def decide(self, now: float) -> AskSource | Pause | End:
        """Decide at the time *now* whether to send a request, to pause or to end the download."""
        left = self._last_byte_at + self._limits.silence - now
        is_over = left <= 0 and bool(self._failed)
        ready = (each for each in self._order if self._is_usable(each, now))
        source = next((each for each in ready if not is_over or each not in self._asked), None)
        if source is not None:
            self._asked.add(source)
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
        """Record that a source delivered *count* bytes."""
        self._last_byte_at = now
        self._asked.clear()
        self._bytes_since_reset += count
        if self._bytes_since_reset >= _LEAST_PROGRESS:
            self._bytes_since_reset = self._pauses = 0
            self._failed.clear()
            self._refusals.pop(source, None)

    def failed(self, source: int, now: float, retry_after: float | None = None) -> None:
        """Record that a connection to a source failed, or that the source is unavailable."""
        if source not in self._order:
            return
        self._order.remove(source)
        self._order.append(source)
        self._failed.add(source)
        self._bytes_since_reset = 0
        self._not_before[source] = now + (retry_after or 0.0)

    def refused(self, source: int, now: float, most: int = _MOST_REFUSALS) -> None:
        """Record a response that would probably be the same if the request were repeated.

        Remove the source after *most* such responses in a row.
        """
        self._refusals[source] = self._refusals.get(source, 0) + 1
        if self._refusals[source] >= most:
            self.remove(source)
        else:
            self.failed(source, now)

    def remove(self, source: int) -> None:
        """Remove a source that does not have the blob, refuses access, or sent wrong bytes."""
        if source in self._order:
            self._order.remove(source)
        self._failed.discard(source)

    def _is_usable(self, source: int, now: float) -> bool:
        return source not in self._failed and self._not_before.get(source, now) <= now


class Pace:
    """A `Pace` detects a connection that is too slow; times are in seconds on a monotonic clock.

    A `Pace` divides the time of a connection into spans and counts the bytes of each span. If a
    connection is too slow, the caller replaces it, and the spans of the next connection are twice
    as long. So each connection to a slow source lasts longer than the previous one. This helps with
    a source that ignores ranges: each of its responses begins with byte 0, so only a connection
    that lasts long enough delivers the end of the blob.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._span = limits.slow_span
        self._span_began = 0.0
        self._received = 0

    def begin(self, now: float) -> None:
        """Start a new span at the time *now*."""
        self._span_began, self._received = now, 0

    def is_too_slow(self, now: float, count: int) -> bool:
        """Count *count* more bytes of the connection.

        Return True if a span has ended with too few bytes.
        """
        self._received += count
        elapsed = now - self._span_began
        if not self._limits.min_rate or elapsed < self._span:
            return False
        is_slow = self._received < self._limits.min_rate * elapsed
        self.begin(now)
        if is_slow:
            self._span *= 2
        return is_slow


log = logging.getLogger(__name__)


@dataclass(slots=True)
class _SentAhead:
    """A `_SentAhead` is a `Fetch` whose request was sent before the `Fetch` is used.

    It is used only once, and yields `remote`, the response to the request, or raises `error`.
    """

    opened: ExitStack = field(default_factory=ExitStack)
    remote: RemoteBlob | None = None
    error: Exception | None = None

    def send(self, fetch: Fetch, start: int) -> None:
        try:
            self.remote = self.opened.enter_context(fetch(start, None))
        except Exception as error:  # noqa: BLE001 - raised again by the thread that uses the response
            self.error = error

    def __call__(self, _start: int, _stop: int | None = None, /) -> _SentAhead:
        return self

    def __enter__(self) -> RemoteBlob:
        if self.remote is None:
            raise self.error or AssertionError("no request was sent")
        return self.remote

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return self.opened.__exit__(kind, error, trace)


class Sources:
    """A `Sources` holds the sources of a download, in order of preference.

    Any thread may call the methods of a `Sources`.

    All threads that fetch parts of a blob share one `Sources`. *without* contains the numbers of
    sources that sent wrong bytes earlier and must not be used. Only tests pass *clock*, *sleep* and
    *jitter*.
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
        self._policy = RetryPolicy(len(self._fetches), self.limits, clock(), jitter)
        for each in without:
            self._policy.remove(each)
        self._delivered: set[int] = set()
        self._errors: dict[int, UpstreamError] = {}
        self._last: UpstreamError | None = None
        self._ahead: tuple[int, _SentAhead] | None = None
        self._lock = threading.Lock()

    def send_ahead(self, start: int) -> RemoteBlob | None:
        """Send the first request of a download now, for the bytes from *start* to the end.

        The next call of `choose` returns a `Fetch` that yields this response or raises the error.
        This method also returns the response, or None after an error.
        """
        try:
            source, fetch = self.choose()
        except UpstreamError:  # The next call of `choose` raises the error again.
            return None
        ahead = _SentAhead()
        ahead.send(fetch, start)
        self._ahead = source, ahead
        return ahead.remote

    def close(self) -> None:
        """Close the response to a request that was sent ahead, if it has not been used."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead[1].opened.close()

    def choose(self) -> tuple[int, Fetch]:
        """Return the source for the next request; pause first if a pause is due.

        Raises: when the download ends, the UpstreamError of the last source in order of preference,
        or else the most recent UpstreamError.
        """
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            return ahead
        while True:
            with self._lock:
                decision = self._policy.decide(self._clock())
                if isinstance(decision, AskSource):
                    return decision.source, self._fetches[decision.source]
                if not isinstance(decision, Pause):
                    raise self._error()
            self._sleep(decision.seconds)

    def choose_now(self) -> tuple[int, Fetch]:
        """Return the source for the next request at once, without a pause.

        Raises: UpstreamError if a pause is due or the download has ended.
        """
        with self._lock:
            decision = self._policy.decide(self._clock())
            if isinstance(decision, AskSource):
                return decision.source, self._fetches[decision.source]
            raise self._error()

    def now(self) -> float:
        """Return the time, in seconds, on the clock of the retry policy."""
        return self._clock()

    @property
    def delivered(self) -> frozenset[int]:
        """Return the numbers of the sources that delivered bytes."""
        return frozenset(self._delivered)

    def progressed(self, source: int, count: int) -> None:
        """Record that a source delivered *count* bytes."""
        with self._lock:
            self._delivered.add(source)
            self._policy.progressed(source, self._clock(), count)

    def failed(self, source: int, error: UpstreamError, *, start: int) -> None:
        """Record the error of a request to a source for the bytes from *start* on."""
        with self._lock:
            self._errors[source] = self._last = error
            now = self._clock()
            is_refusal = isinstance(error, Absent | Denied)
            is_final = isinstance(error, Unavailable) and error.is_final
            if is_final or (is_refusal and source not in self._delivered):
                self._policy.remove(source)
            elif is_refusal:
                self._policy.refused(source, now, MOST_DENIALS)
            elif isinstance(error, Unavailable) and not error.is_temporary:
                self._policy.refused(source, now)
            else:
                after = error.retry_after if isinstance(error, Unavailable) else None
                self._policy.failed(source, now, after)
        log.info(
            "a source of a download failed", extra={"upstream": error.upstream, "start": start}
        )

    def _error(self) -> UpstreamError:
        """Return the error of the last source (the upstream), or else the most recent error."""
        preferred = self._errors.get(len(self._fetches) - 1) or self._last
        assert preferred is not None  # noqa: S101 - a download ends only after a failure
        return preferred
