"""Limit the lines of a process's log, because clients without a password can cause some lines."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

PERIOD_S = 60.0
FEW = 60
"""This many warnings and errors with one message are written in a period."""
MANY = 1000
"""This many info lines with one message are written in a period. Debug lines are not limited."""
_MAX_MESSAGES = 256  # This many messages have a separate count; all other messages share one count.


class LogLimit(logging.Filter):
    """Passes a limited number of lines of each message in a minute, and counts the others.

    The next line that passes has the number of dropped lines. Messages are fixed texts; equal
    messages of different levels count separately. `reached` is called for each dropped line;
    *clock* is monotonic (s).
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
        """Return whether a log line is written."""
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
        """Return how many lines were dropped before this line; None if this line is dropped."""
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
