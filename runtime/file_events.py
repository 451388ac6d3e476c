"""Watch files for changes with inotify(7), through a file descriptor for poll(2)."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

# The numbers are those of inotify(7).
CHANGED: Final = 0x4
"""The times, the owner, the mode or the names of a file changed (IN_ATTRIB)."""

WRITTEN: Final = 0x2
"""A file was written or truncated (IN_MODIFY)."""

CREATED: Final = 0x100
"""A file was created in a folder (IN_CREATE)."""

MOVED: Final = 0x40 | 0x80
"""A file was renamed out of a folder or into it (IN_MOVED_FROM, IN_MOVED_TO)."""

DELETED: Final = 0x200
"""A file was deleted from a folder (IN_DELETE)."""

_BYTES = 4096  # One event has at most 272 bytes.


class FileEvents:
    """A `FileEvents` has a file descriptor `fd`, which is readable after a watched change.

    The constructor raises OSError if this user has reached the kernel's limit of inotify instances.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def watch(self, path: Path, events: int) -> None:
        """Watch the file or folder *path* for *events*, such as CHANGED | DELETED.

        Raises: OSError.
        """
        self._checked(self._libc.inotify_add_watch(self.fd, os.fsencode(path), events))

    def clear(self) -> None:
        """Discard the events that have arrived."""
        with suppress(BlockingIOError):
            while os.read(self.fd, _BYTES):
                pass

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)

    def _checked(self, result: int) -> int:
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result
