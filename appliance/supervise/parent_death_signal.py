"""Run a program that gets a SIGTERM when its parent process exits.

The command is `python -m MODULE PROGRAM ARGUMENT...`, with this module as MODULE. supervisord stops
its programs when it gets a stop signal. If supervisord is killed instead, it cannot stop its
programs. So this module asks the kernel to send the program a SIGTERM when supervisord exits.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from entrepot.runtime.parent_death import end_with_parent


def execute(argv: Sequence[str]) -> None:
    """Replace this process by the program *argv*, which gets a SIGTERM when its parent exits.

    Raises: OSError.
    """
    end_with_parent()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.execvp(argv[0], list(argv))  # noqa: S606 - without a shell, on purpose


if __name__ == "__main__":
    execute(sys.argv[1:])
