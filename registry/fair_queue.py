"""Queue the callers for a scarce resource; each caller has a key, and the keys take turns."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from entrepot.registry.errors import Overloaded


class FairQueue:
    """A `FairQueue` admits *at_once* callers at a time.

    At most *waiting* callers wait in total, and at most *each* callers with the same key. The keys
    take turns, regardless of the number of callers that wait with each key. *busy* is the message
    of the exception Overloaded.
    """

    def __init__(self, at_once: int, *, waiting: int, each: int, busy: str) -> None:
        self._free = at_once
        self._busy = busy
        self._waiting = waiting
        self._each = each
        self._queues: dict[str, deque[threading.Event]] = {}
        self._lock = threading.Lock()

    @property
    def is_busy(self) -> bool:
        """True if a caller would have to wait now."""
        return self._free <= 0

    @contextmanager
    def turn(self, key: str, patience: float) -> Iterator[None]:
        """Wait up to *patience* seconds for admission to the resource.

        Raises: Overloaded after *patience* seconds, or at once if too many callers wait.
        """
        event = self._enter(key)
        if event is not None and not event.wait(patience) and self._leave(key, event):
            raise Overloaded(self._busy)
        try:
            yield
        finally:
            self._pass_on()

    def _enter(self, key: str) -> threading.Event | None:
        with self._lock:
            if self._free > 0:
                self._free -= 1
                return None
            queue = self._queues.get(key, deque[threading.Event]())
            if len(queue) >= self._each or sum(map(len, self._queues.values())) >= self._waiting:
                raise Overloaded(self._busy)
            event = threading.Event()
            queue.append(event)
            self._queues[key] = queue
            return event

    def _leave(self, key: str, event: threading.Event) -> bool:
        """Remove a caller from its queue; return False if it was admitted in the meantime."""
        with self._lock:
            if event.is_set():
                return False
            queue = self._queues[key]
            queue.remove(event)
            if not queue:
                del self._queues[key]
            return True

    def _pass_on(self) -> None:
        """Admit a caller with the key whose last turn was longest ago."""
        with self._lock:
            if not self._queues:
                self._free += 1
                return
            key = next(iter(self._queues))
            queue = self._queues.pop(key)
            queue.popleft().set()
            if queue:
                # Other callers with this key still wait, so the key moves to the end of the order.
                self._queues[key] = queue
