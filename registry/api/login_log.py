"""Log failed logins with user and client address, at a limited rate."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

_REPEAT_S = 60.0
# In each minute, at most this many pairs of user and address are logged.
_LARGEST_COUNT = 20
_LONGEST_NAME = 64  # A user's name is truncated to this many characters in the log.


class LoginLog:
    """A `LoginLog` logs the failed logins of one process; *clock* is a monotonic clock in seconds.

    Each pair of user (or reason) and address causes at most one line per minute, and all pairs
    together cause at most `_LARGEST_COUNT` lines per minute. The field `more` of a line contains
    the number of lines that were suppressed since the previous line.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], float] = {}
        self._suppressed = 0

    def failed(self, user: str, address: str, reason: str = "") -> None:
        """Log a failed login; *address* is the client's address, empty if unknown.

        *reason* states why a token was refused; it is empty for a password.
        """
        with self._lock:
            if not self._is_due((reason or user[:_LONGEST_NAME], address)):
                self._suppressed += 1
                return
            suppressed, self._suppressed = self._suppressed, 0
        more = {"more": suppressed} if suppressed else {}
        fields = {"reason": reason} if reason else {"user": user[:_LONGEST_NAME]}
        log.warning("login failed", extra={**fields, "address": address, **more})

    def _is_due(self, pair: tuple[str, str]) -> bool:
        now = self._clock()
        self._seen = {each: at for each, at in self._seen.items() if now - at < _REPEAT_S}
        if pair in self._seen or len(self._seen) >= _LARGEST_COUNT:
            return False
        self._seen[pair] = now
        return True
