"""Replace a file atomically: even after a crash, it has either the old or the new content.

The appliance writes most small files of its own state with this module. The module
`datastore.drivers.filesystem` cannot use it, because it must find its unfinished files by their
names after a crash. `appliance.privileges.copied_files` cannot use it either, because it writes
relative to an open folder.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_atomically(
    path: Path, content: bytes, *, mode: int | None = None, is_durable: bool = False
) -> None:
    """Write *content* to a temporary file beside *path*, and rename that file to *path*.

    After a failure the temporary file is deleted. *mode* is the file's mode; if it is None, the
    umask determines the mode. If *is_durable* is true, the content and the folder are flushed to
    the disk, so that a later power cut cannot lose the content. Otherwise the file can still have
    its old content after a power cut. Raises: OSError.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(beside, _NEW, 0o666 if mode is None else 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if mode is not None:
                os.fchmod(descriptor, mode)
            if is_durable:
                file.flush()
                os.fsync(descriptor)
        beside.replace(path)
        if is_durable:
            _sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
