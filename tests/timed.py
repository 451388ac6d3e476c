"""Runs a command, then prints the CPU time and the wall time of all processes that it started.

`python -m tests.timed PROGRAM ARGUMENT...` ends with the command's exit code. The CPU time of two
runs can be compared on a machine that does other work too; the wall time can't.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

_PR_SET_CHILD_SUBREAPER = 36  # the value is from prctl(2)


def main(argv: Sequence[str]) -> int:
    """Run the command *argv* and return its exit code, 128 and the number for a signal's."""
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
    """Become the parent of every descendant whose own parent ends: its CPU time is counted too."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _ended(pid: int) -> int:
    """Wait for the command's process and for children that end before; return its exit code."""
    # a terminal sends Ctrl-C's signal to the command as well
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        found, status = os.waitpid(-1, 0)
        if found == pid:
            _reap_others()
            return os.waitstatus_to_exitcode(status)


def _reap_others() -> None:
    """Count the processes that end within a second of the command, as its daemons do."""
    deadline = time.monotonic() + 1
    with suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
