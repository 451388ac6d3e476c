"""Read free space, free inodes and write permission of a file system: statvfs(3)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# With fewer free bytes, the disk counts as full: a row of the index, with its part of the
# write-ahead log, needs about as many.
_LEAST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """A `DiskSpace` has `free` bytes for our user, and `files` that can still be created."""

    free: int
    files: int | None
    is_read_only: bool

    @property
    def problem(self) -> str:
        """Return why no file can be stored: `read-only`, `full`, `out of inodes`; else ""."""
        if self.is_read_only:
            return "read-only"
        if self.free < _LEAST_BYTES:
            return "full"
        return "out of inodes" if self.files == 0 else ""


def disk_space(folder: Path) -> DiskSpace:
    """Return the space on the file system of *folder* or of its nearest parent. Raises: OSError."""
    there = next(each for each in (folder, *folder.parents) if each.is_dir())
    found = os.statvfs(there)
    files = found.f_favail if found.f_files else None
    return DiskSpace(found.f_bavail * found.f_frsize, files, bool(found.f_flag & os.ST_RDONLY))
