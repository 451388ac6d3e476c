"""Read signals from a file descriptor, so that a process can wait for signals with poll(2).

This module does not use signal.sigtimedwait, because of an error in CPython. If the process is
suspended (by SIGSTOP or a frozen control group) at the deadline of sigtimedwait, the result has a
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

_SET_BYTES = 128  # This is the size of a sigset_t in glibc and musl.
_INFO_BYTES = 128  # This is the size of a struct signalfd_siginfo (signalfd(2)).
_NUMBER_BYTES = 4  # This is the size of ssi_signo, the first field of a signalfd_siginfo.
_MAX_SIGNALS = 64  # One read returns at most this many signals.
_OTHER_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC


class Signals:
    """A `Signals` receives the signals *numbers* that are sent to this process.

    Each signal stays pending until `wait` returns it. The signals are blocked permanently in the
    thread that creates this object. Threads that it starts, forked processes and executed programs
    inherit the blocked signals; an executed program must unblock them itself. A forked process
    must create another `Signals`. The constructor raises OSError.
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
        """Make the running call of `wait` return at once, or the next call if none is running.

        Any thread may call this method, even after `close`.
        """
        if (fd := self._wake_fd) >= 0:
            with suppress(BlockingIOError):  # If the counter is full, `wait` returns anyway.
                os.eventfd_write(fd, 1)

    def end_wait_with(self, fd: int) -> None:
        """Make `wait` also return when the file descriptor *fd* is readable."""
        self._poll.register(fd, select.POLLIN)

    def wait(self, timeout: float) -> list[signal.Signals]:
        """Wait at most *timeout* seconds for signals, and return those that have arrived.

        A signal that arrived several times is returned once (signal(7)). After a call of `wake`,
        the result can be empty.
        """
        # If a signal interrupts this call, Python continues it (PEP 475).
        self._poll.poll(max(timeout, 0.0) * 1000)
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)
        return list(self._pending())

    def close(self) -> None:
        """Close the descriptors; the signals stay blocked. `close` may be called again."""
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
