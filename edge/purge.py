"""Has HAProxy forget what names something that was removed.

A manifest in its memory may name a blob that went a moment ago, and a client that has a manifest
asks nobody else for its parts. A sweep removes thousands, and forgetting costs everybody a miss:
so all that goes within half a second is forgotten at its end.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from entrepot.edge.cache_epoch import CacheEpoch

log = logging.getLogger(__name__)

_SOON_S = 0.5


class Purge:
    """Raises the generation of *run* soon after something went; where nobody serves, nothing."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._due: threading.Timer | None = None

    def removed(self) -> None:
        """Note that something went. The end of the process waits for what is due."""
        with self._lock:
            if self._due is None:
                self._due = threading.Timer(_SOON_S, self._rise)
                self._due.start()

    def _rise(self) -> None:
        with self._lock:  # before it rises: what goes meanwhile is due anew
            self._due = None
        try:
            CacheEpoch(self._run).rise()
        except OSError as error:
            log.debug("nobody serves", extra={"error": error})
