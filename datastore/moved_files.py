"""What a file that is moved aside needs: it may have been replaced at the last moment."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_ABSENT = (FileNotFoundError, NotADirectoryError)


def is_open_as(path: str, file: BinaryIO) -> bool:
    """Whether *path* leads to the file that is open as *file*. Raises: OSError."""
    try:
        return os.path.samestat(Path(path).stat(), os.fstat(file.fileno()))
    except _ABSENT:
        return False


def put_back(aside: str, path: str) -> None:
    """Give a file its name back, unless the name was taken meanwhile. Raises: OSError."""
    with suppress(FileExistsError, *_ABSENT):
        Path(path).hardlink_to(aside)
    with suppress(*_ABSENT):
        Path(aside).unlink()
