"""Record access times and write them to the index in batches, in a thread of this process.

Programs without HAProxy use this module. In the appliance, the logger reads the accesses from the
access log, which also contains the requests that HAProxy serves from its cache.
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
    """An `AccessTracker` keeps access times until they are written to the index.

    Any thread may add an access time. *clock* returns the time in seconds since the UTC epoch.
    """

    def __init__(self, index: AccessIndex, *, clock: Callable[[], float] = time.time) -> None:
        self._index = index
        self._clock = clock
        self._lock = threading.Lock()
        self._times: dict[Digest, float] = {}
        self._has_times = threading.Event()
        self._stopped = threading.Event()
        self._is_failing = False

    def note(self, digest: Digest) -> None:
        """Record that content was used now."""
        with self._lock:
            self._times[digest] = self._clock()
        self._has_times.set()

    def flush(self) -> bool:
        """Write all recorded access times to the index.

        If the index is unavailable, keep all access times and return False.
        """
        with self._lock:
            self._has_times.clear()
            times, self._times = self._times, {}
        if not times:
            return True
        try:
            self._index.touch(times)
        except IndexUnavailable as error:
            self._restore(times)
            if not self._is_failing:
                log.warning(
                    "the access times could not be written to the index", extra={"error": error}
                )
            self._is_failing = True
            return False
        self._is_failing = False
        return True

    def start(self) -> None:
        """Start a thread that flushes the access times periodically until `stop`."""
        self._stopped.clear()
        threading.Thread(target=self._run, name="tracker", daemon=True).start()

    def stop(self) -> None:
        """Stop the thread and flush the access times for the last time."""
        self._stopped.set()
        self._has_times.set()
        self.flush()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._has_times.wait()
            self._stopped.wait(ACCESS_DELAY_S)
            self.flush()

    def _restore(self, times: Mapping[Digest, float]) -> None:
        with self._lock:
            self._times = {**times, **self._times}
        self._has_times.set()
