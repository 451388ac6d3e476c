"""Whether the index knows of every use until now: the cleaner acts on news, not on silence.

What nobody asked for and what somebody asked for while the logger was dead look the same in the
index. So before anything goes, a request of our own passes through HAProxy, and is waited for:
once the logger has committed its line, it has committed all lines before it. Until that happens
nothing is evicted at all, neither for age nor for size: a row with an old stamp may have been used
since, unnoticed, and pulls that find no room stream unstored meanwhile.

Lines that HAProxy dropped never come, nor do those that were rotated away before the logger read
them. The round that learns of them evicts nothing; after it, ages count from that moment (`blind`),
for any row may have been used just before.
"""

from __future__ import annotations

import http.client
import logging
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path

from entrepot.datastore.index import AccessIndex

log = logging.getLogger(__name__)

_PATIENCE_S = 5.0
_POLL_S = 0.01


class LogBarrier:
    """Asks through *front*, HAProxy's own socket, and reads the answer in the index.

    *pause* waits for so many s, and is true when there is no use in going on. *clock* gives s,
    UTC epoch; *timer* s of any clock that does not go back.
    """

    def __init__(
        self,
        front: Path,
        index: AccessIndex,
        *,
        pause: Callable[[float], bool],
        clock: Callable[[], float],
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._front = front
        self._index = index
        self._pause = pause
        self._clock = clock
        self._timer = timer
        self._dropped = 0
        self.blind = 0.0

    def fetch(self) -> str:
        """Return what is wrong with the news; nothing when it is good.

        Raises: IndexUnavailable.
        """
        probe = secrets.token_hex(8)
        try:
            _get(self._front, f"/healthz?news={probe}")
        except (OSError, http.client.HTTPException):
            return "the front does not answer"
        if not self._is_committed(probe):
            return "the logger does not follow the access log"
        return "log lines were dropped" if self._lost_lines() else ""

    def _is_committed(self, probe: str) -> bool:
        deadline = self._timer() + _PATIENCE_S
        while self._index.note("news") != probe:
            if self._timer() > deadline or self._pause(_POLL_S):
                return False
        return True

    def _lost_lines(self) -> bool:
        """Whether lines were lost since it was last asked; HAProxy counts anew when restarted."""
        dropped = int(self._index.note("dropped") or 0)
        before = self._dropped if dropped >= self._dropped else 0
        self._dropped = dropped
        if dropped > before:
            self.blind = self._clock()
        return dropped > before


class _UnixConnection(http.client.HTTPConnection):
    """HTTP to a socket in the file system."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _get(front: Path, uri: str) -> None:
    """Ask; whatever is answered is logged, and nothing else is asked for. Raises: OSError."""
    connection = _UnixConnection(front)
    try:
        connection.request("GET", uri)
        connection.getresponse().read()
    finally:
        connection.close()
