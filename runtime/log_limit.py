"""Limit the number of log lines, so that clients without a password cannot fill the log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

PERIOD_S = 60.0
FEW = 60
"""In a period, at most this many warnings or errors with the same message are logged."""
MANY = 1000
"""In a period, at most this many info lines with the same message are logged. Debug lines are
not limited."""
_MAX_MESSAGES = 256  # At most this many messages are counted separately; the others share a count.


class LogLimit(logging.Filter):
    """A logging filter that passes a limited number of lines with the same message in a minute.

    It drops and counts the lines beyond this number. The next line that passes contains the number
    of dropped lines in the field `more`. Equal messages of different levels are counted separately.
    The filter calls `reached` for each dropped line. *clock* is a monotonic clock in seconds.
    """

    def __init__(
        self,
        reached: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.reached = reached
        self._clock = clock
        self._lock = threading.Lock()
        self._began = clock()
        self._written: dict[tuple[int, str], int] = {}
        self._dropped: dict[tuple[int, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the log line of *record* is written."""
        if record.levelno < logging.INFO:
            return True
        more = self._count(record)
        if more is None:
            self.reached()
            return False
        if more:
            record.more = more + getattr(record, "more", 0)
        return True

    def _count(self, record: logging.LogRecord) -> int | None:
        """Return how many equal lines were dropped since the last written one.

        Return None to drop *record*.
        """
        most = FEW if record.levelno > logging.INFO else MANY
        with self._lock:
            if self._clock() - self._began >= PERIOD_S:
                self._began = self._clock()
                self._written.clear()
            key = self._key(record)
            if self._written.get(key, 0) >= most:
                self._dropped[key] = self._dropped.get(key, 0) + 1
                return None
            self._written[key] = self._written.get(key, 0) + 1
            return self._dropped.pop(key, 0)

    def _key(self, record: logging.LogRecord) -> tuple[int, str]:
        key = (record.levelno, str(record.msg))
        is_known = key in self._written or key in self._dropped
        room = len(self._written.keys() | self._dropped.keys()) < _MAX_MESSAGES
        return key if is_known or room else (record.levelno, "")
