"""Free space of the file system: other programs may fill it although the cap is not reached."""

from __future__ import annotations

import os
from pathlib import Path

_SPARE_BYTES = 64 * 1024 * 1024
_SPARE_PART = 100


class Disk:
    """The file system of the data directory *root*.

    64 MiB of it are kept free, but at most a hundredth of its size. Without free space the access
    log and the index could not be written, accesses would be lost, and eviction would stop.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def lacking(self, needs: int) -> int:
        """Return the bytes to free so that *needs* more fit; 0 if the free space is unknown."""
        try:
            found = os.statvfs(self._root)
        except OSError:
            return 0
        free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
        return max(needs + min(total // _SPARE_PART, _SPARE_BYTES) - free, 0)
