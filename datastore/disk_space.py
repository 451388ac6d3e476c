"""Read the free space of a file system, its free inodes and whether it is read-only (statvfs)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# With fewer free bytes than this, the disk counts as full. A new row of the index, with its part of
# the write-ahead log, needs about this many bytes.
_LEAST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """A `DiskSpace` has the free bytes of a file system, and how many files can still be created.

    `free` is the number of bytes that a process without root privileges can use. `files` is None if
    the file system does not limit the number of files.
    """

    free: int
    files: int | None
    is_read_only: bool

    @property
    def problem(self) -> str:
        """Return why no file can be stored: `read-only`, `full` or `out of inodes`.

        Return an empty text if a file can be stored.
        """
        if self.is_read_only:
            return "read-only"
        if self.free < _LEAST_BYTES:
            return "full"
        return "out of inodes" if self.files == 0 else ""


def disk_space(folder: Path) -> DiskSpace:
    """Return the space on the file system of *folder*, or of its nearest parent that exists.

    Raises: OSError.
    """
    there = next(each for each in (folder, *folder.parents) if each.is_dir())
    found = os.statvfs(there)
    files = found.f_favail if found.f_files else None
    return DiskSpace(found.f_bavail * found.f_frsize, files, bool(found.f_flag & os.ST_RDONLY))
