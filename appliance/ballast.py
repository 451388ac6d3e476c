"""Reserve a little disk space in a ballast file, so that the appliance can start on a full disk.

If no disk block is free, SQLite cannot open the index, and without the index the cleaner cannot
evict content. So an appliance that starts on a full disk deletes the ballast file first.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from entrepot.datastore.budget import BALLAST_BYTES

_NAME = "ballast"


def create(state: Path) -> None:
    """Create the ballast file in the state directory, unless it exists with its full size.

    If the disk is full, create no file.
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
    """Delete the ballast file, so that the index and the log can use its space.

    Return whether the file was deleted.
    """
    try:
        (state / _NAME).unlink()
    except OSError:
        return False
    return True
