"""Run functions in threads that wait a while for the next function before they end.

To start a thread costs a few system calls, and the new thread competes with its starter for the
interpreter lock. To give the function to a thread that already waits costs one wake-up.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

_IDLE_S = 10.0
"""A thread that has waited this long for a function, in s, ends."""
_MOST_IDLE = 8
"""At most this many threads wait; a further thread ends at once after its function."""

Work = Callable[[], None]


class ReusedThreads:
    """A `ReusedThreads` has the idle daemon threads of one process; any thread may use it.

    Functions never wait for a thread: if none is idle, a new one starts. A child that is forked
    after the first call of `start` needs a `ReusedThreads` of its own.
    """

    def __init__(self, idle_s: float = _IDLE_S, most_idle: int = _MOST_IDLE) -> None:
        self._idle_s = idle_s
        self._most_idle = most_idle
        self._idle: list[queue.SimpleQueue[tuple[Work, str]]] = []
        self._lock = threading.Lock()

    def start(self, work: Work, name: str) -> None:
        """Run *work* in a thread, which has this *name* meanwhile.

        Raises: RuntimeError if the process can start no thread.
        """
        with self._lock:
            waiting = self._idle.pop() if self._idle else None
        if waiting is not None:
            waiting.put((work, name))
            return
        threading.Thread(target=self._run_all, args=([work],), name=name, daemon=True).start()

    def _run_all(self, works: list[Work]) -> None:
        """Run the function in *works*, and those that `start` passes to this thread later.

        The list is emptied, so that a waiting thread keeps no function and nothing it refers to.
        """
        own: queue.SimpleQueue[tuple[Work, str]] = queue.SimpleQueue()
        while works:
            works.pop()()
            with self._lock:
                if len(self._idle) >= self._most_idle:
                    return
                self._idle.append(own)
            self._wait(own, works)

    def _wait(self, own: queue.SimpleQueue[tuple[Work, str]], works: list[Work]) -> None:
        """Append the next function to *works*, if one comes in time."""
        try:
            work, name = own.get(timeout=self._idle_s)
        except queue.Empty:
            with self._lock:
                if own in self._idle:
                    self._idle.remove(own)
                    return
            work, name = own.get()  # `start` has just chosen this thread.
        threading.current_thread().name = name
        works.append(work)
