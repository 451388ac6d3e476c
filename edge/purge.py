"""Purge HAProxy's content cache a short time after content was removed.

HAProxy's cache may have a manifest that references a blob that was just removed. A client that
pulls this manifest could not get the blob. So the cache must be purged.

After a purge, the next request for each cached response is a miss. The cleaner can remove thousands
of blobs one after the other. Therefore all removals within 0.5 s share one purge, at the end of
this time.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from entrepot.edge.cache_epoch import CacheEpoch

log = logging.getLogger(__name__)

_DELAY_S = 0.5


class Purge:
    """A `Purge` raises the cache epoch in the run directory *run* after removals.

    If there is no run directory, the appliance does not run, and there is no cache to purge.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._due: threading.Timer | None = None

    def removed(self) -> None:
        """Schedule a purge in 0.5 s, if none is scheduled yet.

        The process does not exit before the scheduled purge.
        """
        with self._lock:
            if self._due is None:
                self._due = threading.Timer(_DELAY_S, self._rise)
                self._due.start()

    def _rise(self) -> None:
        # The timer is dropped before the purge: if content is removed during this purge, `removed`
        # must schedule another purge.
        with self._lock:
            self._due = None
        try:
            CacheEpoch(self._run).increment()
        except OSError as error:
            log.debug("cache not purged", extra={"error": error})
