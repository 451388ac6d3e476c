"""Fills HAProxy's memory with what clients only ask about.

containerd and dockerd ask for a tag with HEAD, and no HEAD ever fills HAProxy's memory, although it
answers one from what a GET has left there. So the second HEAD for the same within a minute is
followed by a GET of our own, through HAProxy, by the same URI and with the same credential: whoever
asks next is answered from memory. It is no client's use, and HAProxy writes no line about it.
"""

from __future__ import annotations

import logging
import queue
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

_SOON_S = 60.0
_MOST_ASKED = 4096
_MOST_WAITING = 64
_TIMEOUT_S = 10.0

Asked = tuple[str, str | None]
"""What one HEAD was for: target of the request, and credential."""


class CacheFill:
    """Asks through the socket *front*; `clock` gives s of a clock that does not go back."""

    def __init__(self, front: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._front = front
        self._clock = clock
        self._asked: dict[Asked, float] = {}
        self._waiting: queue.Queue[Asked] = queue.Queue(_MOST_WAITING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def is_asked_again(self, asked: Asked) -> bool:
        """Note a HEAD; tell whether it is the second, and so worth a GET."""
        now = self._clock()
        with self._lock:
            before = self._asked.pop(asked, None)
            if before is not None and now - before < _SOON_S:
                return True
            if len(self._asked) >= _MOST_ASKED:
                del self._asked[next(iter(self._asked))]
            self._asked[asked] = now
            return False

    def fill(self, asked: Asked) -> None:
        """Have it asked for soon; where too much is waiting already, not at all."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._fill_on, name="filler", daemon=True)
                self._thread.start()
        try:
            self._waiting.put_nowait(asked)
        except queue.Full:
            log.debug("memory not filled", extra={"why": "too much at once"})

    def _fill_on(self) -> None:
        while True:
            try:
                self._get(*self._waiting.get())
            except OSError as error:
                log.debug("memory not filled", extra={"why": error})

    def _get(self, target: str, authorization: str | None) -> None:
        """Ask, and read the answer to its end, for that is when HAProxy has it. Raises: OSError."""
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
