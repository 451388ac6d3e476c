"""Watch files for changes with inotify(7), through a file descriptor for poll(2)."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

CHANGED: Final = 0x4  # IN_ATTRIB of inotify(7): the times or the owner of a file changed.
DELETED: Final = 0x200  # IN_DELETE: a file was deleted from a folder.

_BYTES = 4096  # One event has at most 272 bytes.


class FileEvents:
    """A `FileEvents` has a file descriptor `fd`, which is readable after a watched change.

    The constructor raises OSError if the kernel permits this user no further inotify instance.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def watch(self, path: Path, events: int) -> None:
        """Watch the file or folder *path* for *events*: CHANGED, DELETED, or both.

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
