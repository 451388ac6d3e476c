"""Run functions in threads that are reused: after a function, a thread waits for the next one.

The start of a thread costs a few system calls, and the new thread competes with the thread that
started it for the interpreter lock. The use of a waiting thread costs only one wake-up.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

_IDLE_S = 10.0
"""A thread exits after it has waited this many seconds for a function."""
_MOST_IDLE = 8
"""At most this many threads wait for a function. A thread beyond this number exits after its
function."""

Work = Callable[[], None]


class ReusedThreads:
    """A `ReusedThreads` runs functions in daemon threads and reuses idle threads.

    If no thread is idle, a new one is started, so a function never waits for a thread. Any thread
    may use this object. A child that is forked after the first call of `start` must create
    another object, because a child inherits no threads.
    """

    def __init__(self, idle_s: float = _IDLE_S, most_idle: int = _MOST_IDLE) -> None:
        self._idle_s = idle_s
        self._most_idle = most_idle
        self._idle: list[queue.SimpleQueue[tuple[Work, str]]] = []
        self._lock = threading.Lock()

    def start(self, work: Work, name: str) -> None:
        """Run *work* in a thread, which has the name *name* until *work* returns.

        Raises: RuntimeError if no thread can be started.
        """
        with self._lock:
            waiting = self._idle.pop() if self._idle else None
        if waiting is not None:
            waiting.put((work, name))
            return
        threading.Thread(target=self._run_all, args=([work],), name=name, daemon=True).start()

    def _run_all(self, works: list[Work]) -> None:
        """Run the function in the list *works*, and those that `start` passes to this thread later.

        A function is removed from the list before it runs. So a waiting thread does not keep the
        last function, and the objects to which it refers, in memory.
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
        """Wait for the next function, and append it to *works* if it arrives in time."""
        try:
            work, name = own.get(timeout=self._idle_s)
        except queue.Empty:
            with self._lock:
                if own in self._idle:
                    self._idle.remove(own)
                    return
            work, name = own.get()  # `start` has removed `own` from the list: a function arrives.
        threading.current_thread().name = name
        works.append(work)
