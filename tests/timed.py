"""Runs a command, then prints the CPU time and the elapsed time of all its processes.

`python -m tests.timed PROGRAM ARGUMENT...` exits with the command's code. The CPU times of two runs
can be compared even on a busy machine; the elapsed times cannot.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

_PR_SET_CHILD_SUBREAPER = 36  # from prctl(2)


def main(argv: Sequence[str]) -> int:
    """Run the command *argv*; return its exit code, or 128 plus the signal that killed it."""
    _adopt_orphans()
    begun = time.monotonic()
    ended = _ended(os.spawnvp(os.P_NOWAIT, argv[0], list(argv)))
    used = os.times()
    user, system = used.children_user, used.children_system
    sys.stdout.write(
        f"{time.monotonic() - begun:.0f} s of wall time; {user + system:.0f} s of CPU time"
        f" ({user:.0f} user, {system:.0f} system) on {len(os.sched_getaffinity(0))} cores\n"
    )
    return ended if ended >= 0 else 128 - ended


def _adopt_orphans() -> None:
    """Become the parent of descendants whose parent has exited, so that their CPU time counts."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _ended(pid: int) -> int:
    """Wait until the command exits; return its exit code.

    Other children that exit before the command are reaped too.
    """
    # Ctrl-C sends SIGINT to the command as well; this program ignores the signal to print the
    # summary.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        found, status = os.waitpid(-1, 0)
        if found == pid:
            _reap_others()
            return os.waitstatus_to_exitcode(status)


def _reap_others() -> None:
    """Reap the processes that exit within a second after the command, such as its daemons."""
    deadline = time.monotonic() + 1
    with suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
