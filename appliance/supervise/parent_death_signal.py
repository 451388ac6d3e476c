"""Ends a program with its parent: `python -m MODULE PROGRAM ARGUMENT...`, with this module.

supervisord ends its programs when it is asked to; killed, it can't. Then the kernel does it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1  # prctl(2); survives execve


def tether(number: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel send us *number* when our parent dies. Raises: OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def become(argv: Sequence[str]) -> None:
    """Turn this process into the program *argv*, tied to our parent. Raises: OSError."""
    tether()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.execvp(argv[0], list(argv))  # noqa: S606 - no shell is what we want


if __name__ == "__main__":
    become(sys.argv[1:])
