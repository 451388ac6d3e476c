"""A log of whole lines in files of bounded size: `access.log`, and older ones as `.1`, `.2` ..."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_NEWLINE = ord("\n")


class RotatedLog:
    """The file *path*, renamed to `.1` once it has *file_bytes*; *backups* of those are kept.

    For one thread. Errors of the disk leave it as OSError, and what failed may be repeated.
    """

    def __init__(self, path: Path, *, file_bytes: int, backups: int) -> None:
        self._path = path
        self._file_bytes = file_bytes
        self._backups = backups
        self._file = -1
        self._size = 0
        self._is_torn = self._was_torn = False

    def open(self) -> None:
        """Go on with what is there, unless it ends with the half of a line of who was killed.

        Raises: OSError. `append` does it by itself.
        """
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o644)
        self._size = os.fstat(self._file).st_size
        last = os.pread(self._file, 1, self._size - 1) if self._size else b"\n"
        self._was_torn, self._is_torn = last != b"\n", False

    def append(self, lines: memoryview) -> int:
        """Write at the end, and return how many bytes of *lines* are there now. Raises: OSError.

        A new file is begun only between two lines: who has written a part of one goes on with it.
        """
        if self._file < 0:
            self.open()
        if self._was_torn or (self._size >= self._file_bytes and not self._is_torn):
            self._rotate()
        written = os.write(self._file, lines)
        self._size += written
        self._is_torn = lines[written - 1] != _NEWLINE
        return written

    def close(self) -> None:
        """Let go of the file. May be repeated."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _rotate(self) -> None:
        """Give each file the next number, and begin an empty one at once."""
        for age in range(self._backups, 1, -1):
            with suppress(FileNotFoundError):
                self._aged(age - 1).replace(self._aged(age))
        with suppress(FileNotFoundError):  # somebody deleted it
            self._path.replace(self._aged(1))
        self.close()
        self.open()

    def _aged(self, age: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{age}")
