"""Reserve a little disk space in a file, so that the appliance can start on a full disk.

Without a free disk block the index cannot be opened, and without the index no content can be
evicted.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from entrepot.datastore.budget import BALLAST_BYTES

_NAME = "ballast"


def create(state: Path) -> None:
    """Create the ballast file in the state directory if the file does not exist.

    Do nothing if the disk is full.
    """
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
    """Remove the ballast file, to free its space for the index and the log.

    Return True if the ballast file existed.
    """
    try:
        (state / _NAME).unlink()
    except OSError:
        return False
    return True
