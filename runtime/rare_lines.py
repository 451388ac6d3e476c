"""Limit how often a process logs a line of one kind.

Without this limit, an outage would cause a log line for every request.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable


class RareLines:
    """A `RareLines` permits one log line of each kind in *span* seconds.

    *clock* is a monotonic clock in seconds.
    """

    def __init__(self, span: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._span = span
        self._clock = clock
        self._lock = threading.Lock()
        self._quiet_until: dict[object, float] = {}
        self._suppressed: dict[object, int] = {}

    def due(self, kind: object) -> int | None:
        """Return how many lines of *kind* were omitted since the last one that was logged.

        Return None if the next line must be omitted.
        """
        with self._lock:
            now = self._clock()
            if now < self._quiet_until.get(kind, -math.inf):
                self._suppressed[kind] = self._suppressed.get(kind, 0) + 1
                return None
            self._quiet_until[kind] = now + self._span
            return self._suppressed.pop(kind, 0)
