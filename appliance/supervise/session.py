"""All processes of a session: what supervisord started, and what that started."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

_SESSION = 3  # proc(5), stat: state, parent, group, session, counted behind the name
_DEAD = ("Z", "X")
_STOPPED = ("T", "t")


def members(session: int) -> list[int]:
    """Return the process ids of a session; those that only wait to be reaped are not counted."""
    return [int(each.name) for each in Path("/proc").glob("[0-9]*") if _is_in(each, session)]


def send(session: int, number: signal.Signals) -> None:
    """Send a signal to each of them."""
    for pid in members(session):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def is_stopped(pid: int) -> bool:
    """Whether a signal (SIGSTOP, SIGTSTP) or a debugger has stopped a process."""
    fields = _stat(Path(f"/proc/{pid}"))
    return bool(fields) and fields[0] in _STOPPED


def _is_in(process: Path, session: int) -> bool:
    fields = _stat(process)
    return bool(fields) and fields[0] not in _DEAD and int(fields[_SESSION]) == session


def _stat(process: Path) -> list[str]:
    """Return the fields of proc(5), stat, behind the name; none when the process has ended."""
    try:
        return (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
