"""Write a log to files of bounded size: `access.log`, and older files `access.log.1`, ..."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_NEWLINE = ord("\n")


class RotatedLog:
    """A `RotatedLog` writes the file *path*, and renames it to `PATH.1` after *file_bytes* bytes.

    The newest *backups* older files are kept. Each file ends with a complete line. Disk errors are
    raised as OSError, and the failed operation can be repeated. Not thread-safe.
    """

    def __init__(self, path: Path, *, file_bytes: int, backups: int) -> None:
        self._path = path
        self._file_bytes = file_bytes
        self._backups = backups
        self._file = -1
        self._size = 0
        self._is_torn = self._was_torn = False

    def open(self) -> None:
        """Open the current log file. Raises: OSError.

        If the file ends with an incomplete line of a killed process, it is rotated before the next
        write. `append` calls this method if needed.
        """
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o644)
        self._size = os.fstat(self._file).st_size
        last = os.pread(self._file, 1, self._size - 1) if self._size else b"\n"
        self._was_torn, self._is_torn = last != b"\n", False

    def append(self, lines: memoryview) -> int:
        """Append *lines* to the log file, and return how many bytes were written. Raises: OSError.

        If not all bytes were written, the caller must append the rest next, because the file is
        rotated only between two lines.
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
        """Close the log file. A second call has no effect."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _rotate(self) -> None:
        """Rename each file to the next number, and create an empty log file."""
        for age in range(self._backups, 1, -1):
            with suppress(FileNotFoundError):
                self._aged(age - 1).replace(self._aged(age))
        # If another program deleted the log file, there is nothing to rename.
        with suppress(FileNotFoundError):
            self._path.replace(self._aged(1))
        self.close()
        self.open()

    def _aged(self, age: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{age}")
