"""Make the kernel send a process a signal when its parent exits, even if the parent was killed."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1  # This option of prctl(2) survives execve(2); fork(2) clears it.


def end_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Make the kernel send the signal *number* to this process when its parent exits.

    Raises: OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
