"""Read a file of the appliance's own state, which another program may have replaced.

A program with the rights of the serving user may put a pipe, a device or a file without an end into
the run directory. A command of the operator must not wait for such a file or fill the memory with
its content.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

LARGEST: Final = 16 * 1024 * 1024
"""The settings, the largest of these files, have a few MiB at most."""


def read_small_file(path: Path, most: int = LARGEST) -> bytes:
    """Return the content of a regular file of *most* bytes at most, without waiting.

    Raises: OSError, also if the file is not a regular file (EINVAL) or is larger (EFBIG).
    """
    # Without O_NONBLOCK, opening a pipe would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), os.fspath(path))
    return content
