"""Run a program that ends with its parent: `python -m MODULE PROGRAM ARGUMENT...`.

MODULE is this module. supervisord itself ends its programs when it is asked to stop. If supervisord
is killed, the kernel ends the programs, because this module has asked the kernel for that.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from entrepot.runtime.parent_death import end_with_parent


def execute(argv: Sequence[str]) -> None:
    """Replace this process by the program *argv*, which ends with its parent. Raises: OSError."""
    end_with_parent()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.execvp(argv[0], list(argv))  # noqa: S606 - without a shell, on purpose


if __name__ == "__main__":
    execute(sys.argv[1:])
