"""Purge HAProxy's content cache a short time after content was removed.

A manifest in HAProxy's cache may reference a blob that was just removed, and a client that has
pulled this manifest can get the manifest's blobs nowhere else. A sweep removes thousands of blobs,
and each purge turns the next request for every cached response into a miss. Therefore all removals
within 0.5 s share one purge at the end of the 0.5 s.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from entrepot.edge.cache_epoch import CacheEpoch

log = logging.getLogger(__name__)

_DELAY_S = 0.5


class Purge:
    """Raises the cache epoch of the run directory *run* 0.5 s after the first of some removals.

    If there is no run directory, the appliance does not run, and no cache is purged.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._due: threading.Timer | None = None

    def removed(self) -> None:
        """Schedule a purge, if no purge is scheduled yet.

        The cleaner does not end before the scheduled purge.
        """
        with self._lock:
            if self._due is None:
                self._due = threading.Timer(_DELAY_S, self._rise)
                self._due.start()

    def _rise(self) -> None:
        # The timer is forgotten before the purge, because content that is removed during this purge
        # needs another purge.
        with self._lock:
            self._due = None
        try:
            CacheEpoch(self._run).increment()
        except OSError as error:
            log.debug("cache not purged", extra={"error": error})
