"""A queue for something scarce in which whoever comes often waits behind whoever comes seldom."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from entrepot.registry.errors import Overloaded


class FairQueue:
    """Lets *at_once* through at a time; at most *waiting* wait, and *each* of one key.

    The keys take turns, however many wait of each.
    """

    def __init__(self, at_once: int, *, waiting: int, each: int) -> None:
        self._free = at_once
        self._waiting = waiting
        self._each = each
        self._queues: dict[str, deque[threading.Event]] = {}
        self._lock = threading.Lock()

    @property
    def is_busy(self) -> bool:
        """Whether somebody would have to wait now."""
        return self._free <= 0

    @contextmanager
    def turn(self, key: str, patience: float) -> Iterator[None]:
        """Wait for a turn, *patience* s at most. Raises: Overloaded, at once if too many wait."""
        mine = self._enter(key)
        if mine is not None and not mine.wait(patience) and self._leave(key, mine):
            raise _overloaded()
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
                raise _overloaded()
            mine = threading.Event()
            queue.append(mine)
            self._queues[key] = queue
            return mine

    def _leave(self, key: str, mine: threading.Event) -> bool:
        """Wait no longer; False where the turn has come meanwhile."""
        with self._lock:
            if mine.is_set():
                return False
            queue = self._queues[key]
            queue.remove(mine)
            if not queue:
                del self._queues[key]
            return True

    def _pass_on(self) -> None:
        """Give the turn to the key that has waited longest for one."""
        with self._lock:
            if not self._queues:
                self._free += 1
                return
            key = next(iter(self._queues))
            queue = self._queues.pop(key)
            queue.popleft().set()
            if queue:
                self._queues[key] = queue  # behind all others


def _overloaded() -> Overloaded:
    return Overloaded("too many passwords are being checked; try again")
