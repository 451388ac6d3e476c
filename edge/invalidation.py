"""Check watched files, such as the password file, and raise the cache epoch after a change.

HAProxy responds from its cache without a worker. Without these checks, a change of the password
file would take effect only at the next request that reaches a worker.

Each worker checks the watched files. After it has read the new content of a changed file, it raises
the cache epoch. So responses that the old content permitted have an older epoch. The other workers
notice the new epoch, and read the changed files before their next response. So no response with the
new epoch reflects the old content of a file.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Protocol

log = logging.getLogger(__name__)

_INTERVAL_S = 0.5
_UNWATCHED_S = 5.0  # Without watched files, the thread only repeats failed updates of HAProxy.


class Watchable(Protocol):
    """A `Watchable` is a file that can be watched, with the content that this process has read."""

    @property
    def generation(self) -> int:
        """Return a number that changes when this process reads new content of the file."""
        ...

    def refresh(self) -> None:
        """Read the file again if the file has changed."""
        ...


class Epoch(Protocol):
    """An `Epoch` is the cache epoch (edge/cache_epoch.py)."""

    def now(self) -> str:
        """Return the current cache epoch."""
        ...

    def increment(self) -> None:
        """Raise the cache epoch, which invalidates all cached responses."""
        ...

    def retry(self) -> None:
        """Send the cache epoch to HAProxy if the last attempt failed."""
        ...


class Invalidation:
    """An `Invalidation` raises *epoch* when a watched file has changed."""

    def __init__(self, epoch: Epoch) -> None:
        self._epoch = epoch
        self._watched: list[Watchable] = []
        self._seen: list[int] = []
        self._last_epoch = ""
        self._lock = threading.RLock()

    def watch(self, watchable: Watchable) -> None:
        """Add a file to the watched files."""
        self._watched.append(watchable)
        self._seen.append(watchable.generation)

    def epoch(self) -> str:
        """Return the cache epoch for a response that starts now.

        If another process has raised the epoch, first read all changed files.
        """
        epoch = self._epoch.now()
        if epoch != self._last_epoch:
            with self._lock:
                if epoch != self._last_epoch:
                    self._refresh()
                    self._last_epoch = epoch
        # If this process has read new content of a file, the epoch must be raised before a response
        # reflects this content.
        elif self._views() != self._seen:
            self.poll()
        return epoch

    def poll(self) -> None:
        """Raise the epoch if this process has read new content of a file since the last call.

        If the last update of HAProxy failed, repeat it.
        """
        with self._lock:
            seen = self._views()
            if seen != self._seen:
                self._seen = seen
                self._epoch.increment()
            self._epoch.retry()

    def start(self) -> None:
        """Check the files every half second in a background thread, until the process exits."""
        threading.Thread(target=self._run, name="invalidation", daemon=True).start()

    def _views(self) -> list[int]:
        return [each.generation for each in self._watched]

    def _refresh(self) -> None:
        for each in self._watched:
            each.refresh()
        self.poll()

    def _run(self) -> None:
        while True:
            try:
                with self._lock:
                    self._refresh()
            except Exception:  # The thread that checks the watched files must survive any error.
                log.exception("the check of the watched files failed")
            time.sleep(_INTERVAL_S if self._watched else _UNWATCHED_S)
