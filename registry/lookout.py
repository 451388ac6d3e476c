"""Looks at what is watched even while no request comes, and tells when it has changed.

HAProxy answers from memory without us, so a changed password file would wait for the next request
that needs a worker. Every worker looks for itself, and tells after its own view has changed: what
it still allowed by the old view is older than that.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

_EVERY_S = 0.25

View = Callable[[], int]
"""Returns a number that changes with what one process sees of something watched."""


class Lookout:
    """Calls *changed* when one of its views has; *always* at each look. One thread looks."""

    def __init__(
        self, changed: Callable[[], None], always: Callable[[], None] = lambda: None
    ) -> None:
        self._changed = changed
        self._always = always
        self._views: list[View] = []
        self._seen: list[int] | None = None

    def watch(self, view: View) -> None:
        """Look at this one too."""
        self._views.append(view)

    def look(self) -> None:
        """Look once; the first look only remembers."""
        now = [view() for view in self._views]
        before, self._seen = self._seen, now
        if before is not None and before != now:
            self._changed()
        self._always()

    def start(self) -> None:
        """Look for as long as this process lives."""
        self.look()
        threading.Thread(target=self._look_on, name="lookout", daemon=True).start()

    def _look_on(self) -> None:
        while True:
            time.sleep(_EVERY_S)
            try:
                self.look()
            except Exception:  # it must outlive whatever a view may raise
                log.exception("look failed")
