"""All processes of a session: what supervisord started, and what that started."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

_SESSION = 3  # proc(5), stat: state, parent, group, session, counted behind the name
_DEAD = ("Z", "X")


def members(session: int) -> list[int]:
    """Return the process ids of a session; those that only wait to be reaped are not counted."""
    return [int(each.name) for each in Path("/proc").glob("[0-9]*") if _is_in(each, session)]


def send(session: int, number: signal.Signals) -> None:
    """Send a signal to each of them."""
    for pid in members(session):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _is_in(process: Path, session: int) -> bool:
    try:
        told = (process / "stat").read_text(errors="replace")
    except OSError:  # it has ended meanwhile
        return False
    fields = told.rpartition(")")[2].split()
    return fields[0] not in _DEAD and int(fields[_SESSION]) == session
