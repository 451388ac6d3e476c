"""Whether the disks of an appliance can be written to at its start; it starts where they cannot.

A cache on a full or read-only disk still serves what it has and passes everything else through. A
start that is refused would, with `restart: always`, be repeated for ever instead.
"""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

_BYTES = 256 * 1024  # what an index and its log need for a few transactions
_CONDITIONS = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "over its quota",
    errno.EROFS: "read-only",
    errno.EIO: "broken",
}


def condition(folder: Path) -> str:
    """Return why nothing can be written to an existing *folder*: full, read-only, ...; else "".

    Raises: OSError for any other reason, such as missing rights or a missing folder.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, _BYTES)
    except OSError as error:
        if folder.is_dir() and (found := _CONDITIONS.get(error.errno or 0)):
            return found
        raise
    return ""
