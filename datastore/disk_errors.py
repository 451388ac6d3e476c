"""Disk errors on content that an upstream has: the request goes on without the disk."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

_EVERY_S = 10.0


class DiskTrouble:
    """Logs such errors, one line in ten seconds: a broken disk fails every request.

    `timer` gives s of a clock that never goes back.
    """

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._timer = timer
        self._lock = threading.Lock()
        self._silent_until = float("-inf")
        self._unsaid = 0

    def note(self, error: Exception) -> None:
        """Log that a request was passed through because of *error*, unless that was just done."""
        with self._lock:
            now = self._timer()
            if now < self._silent_until:
                self._unsaid += 1
                return
            self._silent_until = now + _EVERY_S
            unsaid, self._unsaid = self._unsaid, 0
        names = {"error": error, "before": unsaid}
        log.warning("disk not readable: passed through from the upstream", extra=names)
