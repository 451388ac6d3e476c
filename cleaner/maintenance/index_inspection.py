"""Check the index periodically in a thread, and repair it if it is damaged."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from entrepot.datastore.errors import DatastoreError
from entrepot.datastore.index import AccessIndex

log = logging.getLogger(__name__)

_EVERY_S = 30.0
_THOROUGHLY_S = 24 * 3600.0
# After an inspection, the thread waits at least this many times as long as the inspection took. So
# inspections use at most 1/200 of the time of a CPU.
_SHARE = 200


class Inspection:
    """An `Inspection` checks *index*: its counters every 30 s, and all its pages once a day.

    The first check includes all pages. After a repair, *wake* is called to start a round. `timer`
    returns monotonic time (s).
    """

    def __init__(
        self,
        index: AccessIndex,
        wake: Callable[[], None] = lambda: None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._index = index
        self._wake = wake
        self._timer = timer
        self._read_all: float | None = None

    def start(self, stop: threading.Event) -> None:
        """Start a thread that inspects the index until *stop* is set."""
        threading.Thread(target=self._run, args=(stop,), name="inspection", daemon=True).start()

    def look(self) -> float:
        """Inspect the index once; return the time to wait until the next inspection (s)."""
        began = self._timer()
        is_due = self._read_all is None or began - self._read_all >= _THOROUGHLY_S
        try:
            wrong = self._index.inspect(thoroughly=is_due)
        except DatastoreError as error:
            log.debug("index not inspected", extra={"error": error})
            return _EVERY_S
        if is_due:
            self._read_all = began
        if wrong:
            log.warning("the access index was wrong, and was repaired", extra={"wrong": wrong})
            self._wake()
        return max(_EVERY_S, _SHARE * (self._timer() - began))

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(self.look()):
            pass
