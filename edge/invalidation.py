"""Looks at what is watched even while no request comes, and has HAProxy forget when it has changed.

HAProxy answers from memory without us, so a changed password file would wait for the next request
that needs a worker. Every worker looks for itself, and tells after its own view has changed: what
it still allowed by the old view is older than that. The other workers hear of it by the number that
has risen, and look before they answer anything else: no old view gives an answer with a new number.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Protocol

log = logging.getLogger(__name__)

_EVERY_S = 0.25


class Watchable(Protocol):
    """Something watched, as this process sees it."""

    @property
    def generation(self) -> int:
        """Return a number that changes with what is seen."""
        ...

    def refresh(self) -> None:
        """Look at it now."""
        ...


class Epoch(Protocol):
    """The generation of what HAProxy remembers (edge/cache_epoch.py)."""

    def now(self) -> str:
        """Return it."""
        ...

    def rise(self) -> None:
        """Have all forgotten that was remembered."""
        ...

    def settle(self) -> None:
        """Do what could not be done before."""
        ...


class Invalidation:
    """Raises *number* when something watched has changed."""

    def __init__(self, number: Epoch) -> None:
        self._number = number
        self._watched: list[Watchable] = []
        self._seen: list[int] = []
        self._dated = ""
        self._lock = threading.RLock()

    def watch(self, watchable: Watchable) -> None:
        """Look at this one too."""
        self._watched.append(watchable)
        self._seen.append(watchable.generation)

    def date(self) -> str:
        """Return the number for an answer that is begun now, after a look where it is a new one."""
        number = self._number.now()
        if number != self._dated:
            with self._lock:
                if number != self._dated:
                    self._refresh()
                    self._dated = number
        elif self._views() != self._seen:  # before this answer shows it to anybody
            self.look()
        return number

    def look(self) -> None:
        """Look once, as if a request came."""
        with self._lock:
            seen = self._views()
            if seen != self._seen:
                self._seen = seen
                self._number.rise()
            self._number.settle()

    def start(self) -> None:
        """Look for as long as this process lives."""
        threading.Thread(target=self._look_on, name="lookout", daemon=True).start()

    def _views(self) -> list[int]:
        return [each.generation for each in self._watched]

    def _refresh(self) -> None:
        for each in self._watched:
            each.refresh()
        self.look()

    def _look_on(self) -> None:
        while True:
            try:
                self.look()
            except Exception:  # it must outlive whatever a view may raise
                log.exception("look failed")
            time.sleep(_EVERY_S)
