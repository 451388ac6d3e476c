"""Notes what is used, and brings it into the index in batches, in a thread of this process.

For an application that nothing stands before. In the appliance the logger does this, off the
access log, for what HAProxy answers from memory too.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from entrepot.datastore.accesslog import ACCESS_DELAY_S
from entrepot.datastore.errors import IndexUnavailable
from entrepot.datastore.index import AccessIndex
from entrepot.datastore.refs import Digest

log = logging.getLogger(__name__)


class AccessTracker:
    """What was used and the index does not know yet; any thread may note. *clock*: s, UTC epoch."""

    def __init__(self, index: AccessIndex, *, clock: Callable[[], float] = time.time) -> None:
        self._index = index
        self._clock = clock
        self._lock = threading.Lock()
        self._stamps: dict[Digest, float] = {}
        self._some = threading.Event()
        self._stopped = threading.Event()
        self._is_failing = False

    def note(self, digest: Digest) -> None:
        """Note that something was used now."""
        with self._lock:
            self._stamps[digest] = self._clock()
        self._some.set()

    def flush(self) -> bool:
        """Bring all of it into the index; False when it did not answer: nothing is forgotten."""
        with self._lock:
            self._some.clear()
            stamps, self._stamps = self._stamps, {}
        if not stamps:
            return True
        try:
            self._index.touch(stamps)
        except IndexUnavailable as error:
            self._put_back(stamps)
            if not self._is_failing:
                log.warning("uses not noted in the index yet", extra={"error": error})
            self._is_failing = True
            return False
        self._is_failing = False
        return True

    def start(self) -> None:
        """Flush from time to time, for as long as this process lives."""
        self._stopped.clear()
        threading.Thread(target=self._go_on, name="tracker", daemon=True).start()

    def stop(self) -> None:
        """Flush for the last time."""
        self._stopped.set()
        self._some.set()
        self.flush()

    def _go_on(self) -> None:
        while not self._stopped.is_set():
            self._some.wait()
            self._stopped.wait(ACCESS_DELAY_S)
            self.flush()

    def _put_back(self, stamps: Mapping[Digest, float]) -> None:
        with self._lock:
            self._stamps = {**stamps, **self._stamps}
        self._some.set()
