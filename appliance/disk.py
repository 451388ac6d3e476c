"""Check at the start whether the disks can be written to.

The appliance starts even if a check fails.

On a full or read-only disk the cache still serves stored content and passes everything else
through. If the appliance refused to start, `restart: always` would restart the container for ever.
"""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

# With fewer free bytes than this, the disk counts as full; they are enough for a few transactions
# of the index and its write-ahead log.
_BYTES = 256 * 1024
# With fewer free inodes than this, the disk counts as out of inodes. A start creates fewer files:
# the test files of datastore/probe.py, folders, the index.
_FILES = 32
_CONDITIONS = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "over its quota",
    errno.EROFS: "read-only",
    errno.EIO: "broken",
}


def condition(folder: Path) -> str:
    """Return why *folder* cannot be written to ("full", "read-only", ...); "" if it can be.

    Raises: OSError for other causes, such as missing permissions or a missing folder.
    """
    try:
        with ExitStack() as opened:
            # The test files of the disk check have no name, and each file needs an inode.
            for _ in range(_FILES):
                file = opened.enter_context(tempfile.TemporaryFile(dir=folder))
            os.posix_fallocate(file.fileno(), 0, _BYTES)
    except OSError as error:
        if folder.is_dir() and (found := _CONDITIONS.get(error.errno or 0)):
            return found
        raise
    return ""
