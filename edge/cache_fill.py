"""Fill HAProxy's cache after repeated HEAD requests.

containerd and dockerd resolve a tag with a HEAD. HAProxy never caches the response to a HEAD, but
it can respond to a HEAD with the cached response to a GET. If a worker gets two HEADs with the same
URI and credential within a minute, it sends HAProxy a GET with this URI and credential. HAProxy
then responds to the next HEAD from its cache. HAProxy does not log this GET, so the GET does not
count as an access.
"""

from __future__ import annotations

import logging
import queue
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from entrepot.runtime.bounded_dict import BoundedDict

log = logging.getLogger(__name__)

_REPEAT_WITHIN_S = 60.0
_MAX_RECENT = 4096
_MAX_QUEUED = 64
_TIMEOUT_S = 10.0

HeadRequest = tuple[str, str | None]
"""A `HeadRequest` has the target of a HEAD request and its header Authorization, or None."""


class CacheFill:
    """A `CacheFill` sends GETs to HAProxy's socket *front*; `clock` returns monotonic seconds."""

    def __init__(self, front: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._front = front
        self._clock = clock
        self._recent: BoundedDict[HeadRequest, float] = BoundedDict(_MAX_RECENT)
        self._queue: queue.Queue[HeadRequest] = queue.Queue(_MAX_QUEUED)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def is_repeated(self, request: HeadRequest) -> bool:
        """Record a HEAD; return True for the second equal HEAD within a minute."""
        now = self._clock()
        with self._lock:
            before = self._recent.pop(request, None)
            if before is not None and now - before < _REPEAT_WITHIN_S:
                return True
            self._recent.keep(request, now)
            return False

    def fill(self, request: HeadRequest) -> None:
        """Queue a GET with the target and credential of *request*; drop it if the queue is full."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="cache-fill", daemon=True)
                self._thread.start()
        try:
            self._queue.put_nowait(request)
        except queue.Full:
            log.debug(
                "cache not filled", extra={"why": "the queue of requests to fill the cache is full"}
            )

    def _run(self) -> None:
        while True:
            try:
                self._get(*self._queue.get())
            except OSError as error:
                log.debug("cache not filled", extra={"why": error})

    def _get(self, target: str, authorization: str | None) -> None:
        """Send a GET and read the whole response, so that HAProxy caches the response.

        Raises: OSError.
        """
        lines = [f"GET {target} HTTP/1.1", "Host: localhost", "Connection: close"]
        lines.append("X-Entrepot-Fill: 1")
        if authorization is not None:
            lines.append(f"Authorization: {authorization}")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_TIMEOUT_S)
            connection.connect(str(self._front))
            connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
            while connection.recv(65536):
                pass
