"""A bound on the lines of a process's own log: clients without a password can cause some."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

PERIOD_S = 60.0
FEW = 60
"""Lines of one message that a period has, from warnings on."""
MANY = 1000
"""And of one that only informs. Who asks for debug lines gets them all."""
_MESSAGES = 256  # that are told apart; all others are counted as one


class LogLimit(logging.Filter):
    """Passes so many lines of each message in a minute; the next one counts what was left out.

    Messages are fixed texts, and differ by level. `reached` is called for each line left out;
    *clock* gives s and never goes back.
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
        self._left_out: dict[tuple[int, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line is written."""
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
        """Return how many were left out before this line, None if it is one more of them."""
        most = FEW if record.levelno > logging.INFO else MANY
        with self._lock:
            if self._clock() - self._began >= PERIOD_S:
                self._began = self._clock()
                self._written.clear()
            key = self._key(record)
            if self._written.get(key, 0) >= most:
                self._left_out[key] = self._left_out.get(key, 0) + 1
                return None
            self._written[key] = self._written.get(key, 0) + 1
            return self._left_out.pop(key, 0)

    def _key(self, record: logging.LogRecord) -> tuple[int, str]:
        key = (record.levelno, str(record.msg))
        is_known = key in self._written or key in self._left_out
        room = len(self._written.keys() | self._left_out.keys()) < _MESSAGES
        return key if is_known or room else (record.levelno, "")
