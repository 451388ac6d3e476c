"""Replace a file as a whole: readers, also after a crash, see the old or the new content.

This module writes all small files of the appliance's own state. Two other modules have writers of
their own: `datastore.drivers.filesystem`, which can find the unfinished files of a crash by their
names, and `appliance.privileges.secret_copies`, which writes relative to an open folder.
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
    """Write *content* beside *path*, and rename it; leave no other file after a failure.

    *mode* has the exact permissions; None: the permissions that the umask allows. *is_durable*
    flushes the content and the folder, so that a power cut after the return cannot lose the
    content. Without *is_durable*, a power cut may leave the old content. Raises: OSError.
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
