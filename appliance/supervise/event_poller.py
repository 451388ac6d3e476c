"""Make supervisord wait for events instead of waking up once a second.

supervisord's own poller waits for one second, and then checks for signals and for programs that
have exited. A signal does not end the wait, because Python continues an interrupted poll (PEP 475).
So supervisord would notice the exit of a program up to a second late, and would wake up every
second even when idle.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

from supervisor.poller import PollPoller

_IDLE_S = 60.0
_CHANGING_S = 0.1  # A program that has exited is restarted within this many seconds.
_BYTES = 4096


class EventPoller(PollPoller):  # type: ignore[misc]  # supervisor ships no types
    """An `EventPoller` waits for events of file descriptors and for signals.

    Python writes a byte into a pipe for each signal, so a signal also ends the wait. If
    `is_settled` returns True, no program changes its state without an event, so a wait may take up
    to a minute. Otherwise a wait takes 0.1 s at most. supervisord handles only one signal after
    each wait, although several may have arrived. So after a signal `has_signals` is true, and the
    next wait returns immediately.
    """

    is_settled: Callable[[], bool] = staticmethod(lambda: False)
    has_signals = False
    _reader = _writer = -1

    def watch_signals(self) -> None:
        """Create the pipe into which Python writes a byte for each signal."""
        self._reader, self._writer = os.pipe()
        for each in (self._reader, self._writer):
            os.set_blocking(each, False)
        self._poller.register(self._reader, self.READ)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)

    def poll(self, timeout: float) -> tuple[list[int], list[int]]:
        """Wait for events, and return the readable and writable descriptors.

        The class itself determines the length of a wait, so *timeout* is ignored.
        """
        del timeout
        readable, writable = super().poll(self._seconds())
        if self._reader in readable:
            with suppress(BlockingIOError):
                os.read(self._reader, _BYTES)
            readable.remove(self._reader)
        return readable, writable

    def _seconds(self) -> float:
        if self.has_signals:
            return 0.0
        return _IDLE_S if self.is_settled() else _CHANGING_S

    def close(self) -> None:
        """Close the pipe."""
        signal.set_wakeup_fd(-1)
        for each in (self._reader, self._writer):
            with suppress(OSError):
                os.close(each)
