"""Read a file of the appliance's own state, which another program may have replaced.

A program with the rights of the service user can put a pipe, a device or an endless file into the
run directory. A command of the operator must neither wait for such a file nor fill the memory with
its content.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

LARGEST: Final = 16 * 1024 * 1024
"""The default limit in bytes. The settings file, which is the largest of these files, has at
most a few MiB."""


def read_small_file(path: Path, most: int = LARGEST) -> bytes:
    """Return the content of a regular file with at most *most* bytes, without waiting.

    Raises: OSError; the error is EINVAL if the file is not a regular file, and EFBIG if it is
    larger.
    """
    # Without O_NONBLOCK, `open` would wait for a writer if the file is a pipe.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), os.fspath(path))
    return content
