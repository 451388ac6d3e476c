"""A file that keeps a little room on the disk, for a start on a full one.

Without a free block the index cannot even be opened, and so nothing could be evicted to make room.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from entrepot.datastore.budget import BALLAST_BYTES

_NAME = "ballast"


def keep(state: Path) -> None:
    """Make the file in the state directory, if it is not there; a disk without room forgoes it."""
    path = state / _NAME
    with suppress(OSError):
        if path.exists() and path.stat().st_size == BALLAST_BYTES:
            return
        try:
            with path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, BALLAST_BYTES)
        except OSError:
            path.unlink(missing_ok=True)


def release(state: Path) -> bool:
    """Remove the file, and return whether it was there: its room is for the index and the log."""
    try:
        (state / _NAME).unlink()
    except OSError:
        return False
    return True
