"""End a process when its parent dies, also when the parent could not stop it."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1  # prctl(2); survives execve, and is cleared by fork


def end_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Request that the kernel sends *number* to this process when its parent dies.

    Raises: OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
