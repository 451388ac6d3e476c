"""supervisord's poller, which waits for events instead of looking once a second.

supervisord polls with a time-out of one second, and looks then for signals and ended programs.
Python continues a poll that a signal has interrupted (PEP 475), so a program that ended was noticed
up to a second later, and an idle supervisord woke up every second.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

from supervisor.poller import PollPoller

_IDLE_S = 60.0
_CHANGING_S = 0.1  # a program that ended is started again so soon
_BYTES = 4096


class EventPoller(PollPoller):  # type: ignore[misc]  # supervisor ships no types
    """A poller that also ends its wait after a signal, by Python's wake-up descriptor.

    `is_settled` returns True if no program will change its state without an event: then a wait
    takes up to a minute. Otherwise a wait takes 0.1 s at most, whatever the time-out. supervisord
    handles one signal after each wait; after one, `has_signals` lets it look for the next at once.
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
        """Wait for events; *timeout* is replaced. Return the readable and writable descriptors."""
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
