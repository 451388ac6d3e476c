"""Compute how many bytes must be freed on the disk, which other programs can fill too."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryFile

_SPARE_BYTES = 64 * 1024 * 1024
_SPARE_FILES = 4096
_SPARE_PART = 100


class Disk:
    """A `Disk` is the file system of the data directory *root*.

    The cleaner keeps 64 MiB and 4096 inodes of the file system free. On a small file system, it
    keeps only a hundredth of the bytes and of the inodes free. Without free space, neither the
    access log nor the index could be written. The index would then lack recent uses, and the
    cleaner evicts nothing in this case. Without free inodes, no file could be stored.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def lacking(self, needs: int) -> int:
        """Return how many bytes to free so that *needs* more bytes fit; 0 if that is unknown.

        If the file system has too few free inodes, files must be removed to free inodes. In that
        case, the result is at least the size of these files, which is estimated from the average
        file size.
        """
        try:
            found = os.statvfs(self._root)
        except OSError:
            return 0
        free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
        lacks = max(needs + min(total // _SPARE_PART, _SPARE_BYTES) - free, 0)
        return max(lacks, self._lacking_files(found) * _bytes_per_file(found))

    def _lacking_files(self, found: os.statvfs_result) -> int:
        """Return how many inodes to free; 0 for a file system without a limit on inodes.

        A file system without such a limit reports an `f_files` of 0. Some file systems always
        report 0 free inodes, even if a file can be created. Therefore the method tries to create a
        file in that case.
        """
        spare = min(found.f_files // _SPARE_PART, _SPARE_FILES)
        if found.f_favail == 0 and spare and self._has_room_for_a_file():
            return 0
        return max(spare - found.f_favail, 0)

    def _has_room_for_a_file(self) -> bool:
        try:
            with TemporaryFile(dir=self._root):
                return True
        except OSError:
            return False


def _bytes_per_file(found: os.statvfs_result) -> int:
    used = (found.f_blocks - found.f_bfree) * found.f_frsize
    return used // max(found.f_files - found.f_ffree, 1) + 1
