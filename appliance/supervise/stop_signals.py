"""Decide which signals stop the appliance.

SIGTERM and SIGINT stop the appliance. SIGHUP stops it only if the terminal of the process was
closed. Many other daemons reload their settings after a SIGHUP. The appliance needs no such signal,
because it notices changed files itself. SIGUSR1 and SIGUSR2 have no effect.
"""

from __future__ import annotations

import logging
import os
import signal
from typing import Final

from entrepot.runtime.signals import Signals

_STOPS: Final = frozenset({signal.SIGINT, signal.SIGTERM})
_OTHERS: Final = frozenset({signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2})
_NO_RELOAD = "changed files are loaded without a signal; other settings need a restart"
# This file is the controlling terminal of the process that opens it (tty(4)).
_TERMINAL = "/dev/tty"

_log = logging.getLogger("serve")


class StopSignals:
    """A `StopSignals` receives the signals that are sent to this process.

    The signals are blocked in the thread that creates this object, in threads that are started
    later, and in forked processes. They stay blocked after execve(2). `wait` receives them.

    `had_terminal` states whether the process began with a controlling terminal. After an execve(2),
    the new program passes the value of the earlier program as *had_terminal*.
    """

    def __init__(self, *, had_terminal: bool | None = None) -> None:
        # The command nohup makes the process ignore SIGHUP.
        is_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        found = _has_terminal() and not is_ignored
        self.had_terminal = found if had_terminal is None else had_terminal
        self._signals = Signals(_STOPS | _OTHERS | {signal.SIGCHLD})

    def wait(self, timeout: float) -> list[signal.Signals]:
        """Wait at most *timeout* seconds for signals, and return those that stop the appliance.

        Signals without an effect are logged.
        """
        caught = self._signals.wait(timeout)
        for each in caught:
            if each in _OTHERS and not self._is_stop(each):
                remedy = {"remedy": _NO_RELOAD} if each is signal.SIGHUP else {}
                _log.info("signal ignored", extra={"signal": each.name, **remedy})
        return [each for each in caught if self._is_stop(each)]

    def wake(self) -> None:
        """Make the current call of `wait`, or else the next one, return immediately.

        Any thread may call this method.
        """
        self._signals.wake()

    def end_wait_with(self, fd: int) -> None:
        """Make `wait` also return when the file descriptor *fd* is readable."""
        self._signals.end_wait_with(fd)

    def close(self) -> None:
        """Close the descriptor; the signals stay blocked."""
        self._signals.close()

    def _is_stop(self, number: signal.Signals) -> bool:
        if number is signal.SIGHUP:
            return self.had_terminal and not _has_terminal()
        return number in _STOPS


def _has_terminal() -> bool:
    try:
        os.close(os.open(_TERMINAL, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True
