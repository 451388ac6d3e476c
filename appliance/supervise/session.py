"""Find and signal all processes of a session: supervisord, its programs, and their children."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

# The index of the session in /proc/PID/stat (proc(5)), counted from the field after the name of the
# process: state, parent, group, session.
_SESSION = 3
_DEAD = ("Z", "X")
_STOPPED = ("T", "t")


def members(session: int) -> list[int]:
    """Return the process ids of a session, without zombies."""
    return [int(each.name) for each in Path("/proc").glob("[0-9]*") if _is_in(each, session)]


def send(session: int, number: signal.Signals) -> None:
    """Send a signal to each process of a session; skip processes that have just exited."""
    for pid in members(session):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def is_stopped(pid: int) -> bool:
    """Return whether a signal (SIGSTOP, SIGTSTP) or a debugger has suspended a process."""
    fields = _stat(Path(f"/proc/{pid}"))
    return bool(fields) and fields[0] in _STOPPED


def _is_in(process: Path, session: int) -> bool:
    fields = _stat(process)
    return bool(fields) and fields[0] not in _DEAD and int(fields[_SESSION]) == session


def _stat(process: Path) -> list[str]:
    """Return the fields of /proc/PID/stat after the process's name; [] if it has exited."""
    try:
        return (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
