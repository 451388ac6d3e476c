"""One log line for a failed login: who tried, from where; however many there are, few lines."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

_AGAIN_S = 60.0
_MOST = 20  # pairs of user and address that are told apart within that time
_LONGEST = 64  # characters of a user's name


class LoginLog:
    """Notes failed logins of one process; *clock* gives s and never goes back.

    A user from an address has one line a minute, all together have 20; the next line counts what
    was left out.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], float] = {}
        self._left_out = 0

    def failed(self, user: str, address: str) -> None:
        """Note one; *address* is the client's, empty where it is not known."""
        with self._lock:
            if not self._is_due((user[:_LONGEST], address)):
                self._left_out += 1
                return
            left_out, self._left_out = self._left_out, 0
        more = {"more": left_out} if left_out else {}
        log.warning("login failed", extra={"user": user[:_LONGEST], "address": address, **more})

    def _is_due(self, pair: tuple[str, str]) -> bool:
        now = self._clock()
        self._seen = {each: at for each, at in self._seen.items() if now - at < _AGAIN_S}
        if pair in self._seen or len(self._seen) >= _MOST:
            return False
        self._seen[pair] = now
        return True
