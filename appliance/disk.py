"""Check, when the appliance starts, whether its disks can be written to.

The appliance starts even if a disk is full or read-only: it still serves stored content and passes
everything else through. If it refused to start, a container with `restart: always` would restart
for ever.
"""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

# With fewer free bytes than this, the disk counts as full. A few transactions of the index, with
# SQLite's write-ahead log, fit into this number of bytes.
_BYTES = 256 * 1024
# With fewer free inodes than this, the disk counts as full too. The files and folders that a start
# of the appliance creates need fewer inodes.
_FILES = 32
_CONDITIONS = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "over its quota",
    errno.EROFS: "read-only",
    errno.EIO: "broken",
}


def condition(folder: Path) -> str:
    """Return why *folder* cannot be written to, such as "full" or "read-only".

    Return an empty text if the folder can be written to. Raises: OSError for other causes, such as
    missing permissions or a missing folder.
    """
    try:
        with ExitStack() as opened:
            # Each of these unnamed test files needs an inode.
            for _ in range(_FILES):
                file = opened.enter_context(tempfile.TemporaryFile(dir=folder))
            os.posix_fallocate(file.fileno(), 0, _BYTES)
    except OSError as error:
        if folder.is_dir() and (found := _CONDITIONS.get(error.errno or 0)):
            return found
        raise
    return ""
