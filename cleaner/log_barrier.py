"""Check that the index has every access up to now before any content is evicted.

In the index, content that no client requested looks like content that was requested while the
logger was down. Therefore the cleaner sends a request of its own through HAProxy and waits until
the logger has committed the log line of this request. When the logger has committed the line of
this request, all earlier lines are committed too. Until the log line of the cleaner's own request
is committed, no content is evicted, neither for age nor for size, because content with an old
access time may have been used since. Pulls that find no space meanwhile are passed through.

Lines that HAProxy dropped, or that were rotated away before the logger read them, never arrive. The
round of the cleaner that detects lost lines evicts nothing. After lost lines, ages of content count
from the round that detected the loss (`blind`), because any content may have been used just before.
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
    """Sends a probe through *front*, HAProxy's local socket, and finds the probe in *notes*.

    *pause* waits for the given seconds and returns True when the process ends. *clock* returns s,
    UTC epoch; *timer* is a monotonic clock (s). `blind` is the time at which lost lines were last
    detected (s, UTC epoch).
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
        """Return why accesses may be missing from the index; empty if none can be missing.

        Raises: IndexUnavailable.
        """
        probe = secrets.token_hex(8)
        try:
            _get(self._front, f"/healthz?news={probe}")
        except (OSError, http.client.HTTPException):
            return "HAProxy does not answer the cleaner"
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

        HAProxy's counter starts at zero again when HAProxy is restarted.
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
    """Send a GET request, of which only the log line matters, not the response. Raises: OSError."""
    connection = _UnixConnection(front)
    try:
        connection.request("GET", uri)
        connection.getresponse().read()
    finally:
        connection.close()
