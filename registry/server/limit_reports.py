"""Count the connections and requests that a limit ended or rejected, for the logger's metrics."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

_PAUSE_S = 1.0


class LimitReports:
    """A `LimitReports` calls *report* for each limit that was reached, once in *pause* seconds.

    *report* receives the event's name, "limit", and the fields `limit` and `count`, which is the
    number of times that the limit was reached.
    """

    def __init__(self, report: Callable[..., None], pause: float = _PAUSE_S) -> None:
        self._report = report
        self._pause = pause
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, limit: str, times: int = 1) -> None:
        """Count that the limit *limit* was reached, *times* times."""
        with self._lock:
            is_first = not self._counts
            self._counts[limit] += times
        if is_first:
            timer = threading.Timer(self._pause, self._send)
            timer.daemon = True
            timer.start()

    def _send(self) -> None:
        with self._lock:
            counts, self._counts = self._counts, Counter()
        for limit, count in counts.items():
            self._report("limit", limit=limit, count=count)
