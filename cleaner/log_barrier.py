"""Check that the index has every access up to now before any content is evicted.

The logger writes uses to the index. While the logger is down, the index does not show which content
clients request. Therefore the cleaner sends a request through HAProxy, and waits until the logger
has committed the log line of this request. The logger commits lines in order. So when this line is
committed, all earlier lines are committed too. Until then, no content is evicted, neither for age
nor for size, because the last use of content may be later than the last use in the index. If a pull
finds no space in the meantime, its content is passed through to the client.

Some lines never reach the index: HAProxy dropped them, or the log was rotated before the logger
read them. A round that detects such a loss evicts nothing. After a loss, any content may have been
used immediately before the detection. So in later rounds, all content counts as used at the time of
this detection (`blind`) or later.
"""

from __future__ import annotations

import http.client
import logging
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path

from entrepot.datastore.index import KeyValueStore

log = logging.getLogger(__name__)

_PATIENCE_S = 5.0
_POLL_S = 0.01


class LogBarrier:
    """A `LogBarrier` sends a request through HAProxy, and waits until its log line is committed.

    *front* is the unix socket of HAProxy. *notes* are texts in the index, which the logger commits
    together with the accesses. *pause* waits for a number of seconds, and returns True if the
    process must exit. *clock* returns the time in seconds since the UTC epoch; *timer* returns
    monotonic time in seconds. `blind` is the time at which lost lines were last detected (seconds
    since the UTC epoch).
    """

    def __init__(
        self,
        front: Path,
        notes: KeyValueStore,
        *,
        pause: Callable[[float], bool],
        clock: Callable[[], float],
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._front = front
        self._notes = notes
        self._pause = pause
        self._clock = clock
        self._timer = timer
        self._dropped = 0
        self.blind = 0.0

    def fetch(self) -> str:
        """Return why accesses may be missing from the index; an empty text if none are missing.

        Raises: IndexUnavailable.
        """
        probe = secrets.token_hex(8)
        try:
            _get(self._front, f"/healthz?news={probe}")
        except (OSError, http.client.HTTPException):
            return "HAProxy does not respond to the cleaner"
        if not self._is_committed(probe):
            return "the logger does not follow the access log"
        return "log lines were dropped" if self._lost_lines() else ""

    def _is_committed(self, probe: str) -> bool:
        deadline = self._timer() + _PATIENCE_S
        while self._notes.get("news") != probe:
            if self._timer() > deadline or self._pause(_POLL_S):
                return False
        return True

    def _lost_lines(self) -> bool:
        """Return whether log lines were lost since the last call.

        The logger counts the lost lines; the count begins at 0 at each start of the appliance.
        """
        dropped = int(self._notes.get("dropped") or 0)
        before = self._dropped if dropped >= self._dropped else 0
        self._dropped = dropped
        if dropped > before:
            self.blind = self._clock()
        return dropped > before


class _UnixConnection(http.client.HTTPConnection):
    """A `_UnixConnection` is an HTTP connection to a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _get(front: Path, uri: str) -> None:
    """Send a GET request, so that HAProxy writes a log line; ignore the response.

    Raises: OSError.
    """
    connection = _UnixConnection(front)
    try:
        connection.request("GET", uri)
        connection.getresponse().read()
    finally:
        connection.close()
