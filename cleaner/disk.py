"""The disk itself: others may fill it, and then the cap is no measure of what still fits."""

from __future__ import annotations

import os
from pathlib import Path

_SPARE_BYTES = 64 * 1024 * 1024
_SPARE_PART = 100


class Disk:
    """The file system of the data directory *root*.

    A little of it is kept free, at most a hundredth: without room for their lines and pages, log
    and index would not know what is used, and nothing could be evicted.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def lacking(self, needs: int) -> int:
        """Return how many bytes must go for *needs* more to fit; none where nobody can tell."""
        try:
            found = os.statvfs(self._root)
        except OSError:
            return 0
        free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
        return max(needs + min(total // _SPARE_PART, _SPARE_BYTES) - free, 0)
