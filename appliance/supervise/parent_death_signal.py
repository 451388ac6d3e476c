"""Run a program that ends with its parent: `python -m MODULE PROGRAM ARGUMENT...`.

MODULE is this module. supervisord ends its programs when it stops in order; if supervisord is
killed, the kernel ends them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1  # The constant is of prctl(2); the setting survives execve.


def end_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Request that the kernel sends *number* to this process when its parent dies.

    Raises: OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def execute(argv: Sequence[str]) -> None:
    """Replace this process by the program *argv*, which ends with its parent. Raises: OSError."""
    end_with_parent()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.execvp(argv[0], list(argv))  # noqa: S606 - without a shell, on purpose


if __name__ == "__main__":
    execute(sys.argv[1:])
