"""A poller for supervisord that waits for events instead of looking once a second.

supervisord's own poller waits at most one second, and then looks for signals and ended programs.
Python continues a poll that a signal has interrupted (PEP 475). With its own poller, supervisord
would notice the end of a program up to a second late, and would wake up every second even when
idle.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

from supervisor.poller import PollPoller

_IDLE_S = 60.0
_CHANGING_S = 0.1  # an ended program is started again within this time, in s
_BYTES = 4096


class EventPoller(PollPoller):  # type: ignore[misc]  # supervisor ships no types
    """A poller that also ends its wait after a signal, by Python's wake-up descriptor.

    A wait takes up to a minute if `is_settled` returns True, which means that no program will
    change its state without an event. Otherwise a wait takes 0.1 s at most. supervisord handles one
    signal after each wait; if it handled one, `has_signals` is set, and the next wait ends at once.
    """

    is_settled: Callable[[], bool] = staticmethod(lambda: False)
    has_signals = False
    _reader = _writer = -1

    def watch_signals(self) -> None:
        """Create the pipe that signals write to."""
        self._reader, self._writer = os.pipe()
        for each in (self._reader, self._writer):
            os.set_blocking(each, False)
        self._poller.register(self._reader, self.READ)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)

    def poll(self, timeout: float) -> tuple[list[int], list[int]]:
        """Wait for events, and return the readable and writable descriptors.

        The class itself decides how long a wait may take, so *timeout* has no effect.
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
