"""Read signals from a file descriptor, so that a process can wait for signals with poll(2).

This module does not use signal.sigtimedwait. If a stop or a frozen control group interrupts
sigtimedwait at its deadline, CPython returns a siginfo that the kernel never filled in, with a
meaningless signal number.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress

_SET_BYTES = 128  # A sigset_t of glibc and of musl has this size.
_INFO_BYTES = 128  # A struct signalfd_siginfo has this size, signalfd(2).
_NUMBER_BYTES = 4  # The first field of that struct, ssi_signo, has this size.
_MAX_SIGNALS = 64  # One read may return this many signals.
_OTHER_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC


class Signals:
    """A `Signals` receives the signals *numbers* for this process.

    Each signal stays pending until `wait` returns it.

    The signals are blocked in the calling thread permanently. Threads and forked processes inherit
    the blocked signals, and an executed program must unblock them. A forked process needs its own
    `Signals`. Raises: OSError.
    """

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        chosen = frozenset(numbers)
        signal.pthread_sigmask(signal.SIG_BLOCK, chosen)
        self._fd = _signalfd(chosen)
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        for each in (self._fd, self._wake_fd):
            self._poll.register(each, select.POLLIN)

    def wake(self) -> None:
        """End the wait, or the next wait; any thread may call it, also after `close`."""
        if (fd := self._wake_fd) >= 0:
            with suppress(BlockingIOError):  # a full counter ends the wait anyway
                os.eventfd_write(fd, 1)

    def end_wait_with(self, fd: int) -> None:
        """Let the wait end when the descriptor *fd* is readable, too."""
        self._poll.register(fd, select.POLLIN)

    def wait(self, timeout: float) -> list[signal.Signals]:
        """Wait at most *timeout* s, and return the received signals; none after the timeout.

        A signal that arrives several times before it is read is returned once (signal(7)). A call
        of `wake` ends the wait, too.
        """
        # Python continues the call after an interruption (PEP 475).
        self._poll.poll(max(timeout, 0.0) * 1000)
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)
        return list(self._pending())

    def close(self) -> None:
        """Close the descriptors; the signals stay blocked. The call may be repeated."""
        for fd in (self._fd, self._wake_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._wake_fd = -1

    def _pending(self) -> Iterator[signal.Signals]:
        with suppress(BlockingIOError):
            found = os.read(self._fd, _MAX_SIGNALS * _INFO_BYTES)
            for start in range(0, len(found), _INFO_BYTES):
                number = int.from_bytes(found[start : start + _NUMBER_BYTES], sys.byteorder)
                yield signal.Signals(number)


def _signalfd(numbers: Iterable[signal.Signals]) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    mask = ctypes.create_string_buffer(_SET_BYTES)
    libc.sigemptyset(mask)
    for number in numbers:
        libc.sigaddset(mask, int(number))
    fd = int(libc.signalfd(-1, mask, _OTHER_FLAGS))
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return fd
