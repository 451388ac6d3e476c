"""The sources of one download, shared by all threads that fetch parts of it."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from entrepot.registry.download.patience import (
    DEFAULT,
    MOST_DENIALS,
    AskSource,
    Limits,
    Patience,
    Pause,
)
from entrepot.registry.errors import Absent, Denied, Unavailable, UpstreamError
from entrepot.registry.upstream.protocol import Fetch

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
