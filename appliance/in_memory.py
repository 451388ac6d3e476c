"""Empty the folder of `storage.inmemory` when the appliance starts and when it exits.

All content is in memory, in a folder on a tmpfs. So all workers can read the content, and they use
the driver for disks. The appliance deletes only its own entries, because the folder can contain
other files.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from entrepot.config.errors import ConfigError, Problem
from entrepot.config.schema import Settings
from entrepot.datastore import layout
from entrepot.datastore.budget import Budget

_log = logging.getLogger(__name__)

_OWN = (layout.V2.partition("/")[0], layout.OWN, layout.FETCHED_LIST)


def begin(settings: Settings) -> None:
    """Delete the content that a killed appliance left behind, and log the size limit.

    The caller must make sure that no other appliance uses the folder. Raises: ConfigError if the
    content cannot be deleted.
    """
    root = settings.storage.rootdirectory
    _clear(root)
    cap = Budget(settings.cleaner.maxsize, settings.cleaner.threshold).cap
    fields = {"path": root, "maxsize": settings.cleaner.maxsize, "cap": cap}
    _log.info("all content is in memory, and lost when the appliance exits", extra=fields)
    if cap is not None and cap > (size := _size(root)):
        _log.warning(
            "the tmpfs is smaller than the size limit",
            extra={"path": root, "bytes": size, "remedy": f"mount the tmpfs with size={cap}"},
        )


def end(settings: Settings) -> None:
    """Delete the appliance's content from the folder."""
    try:
        _clear(settings.storage.rootdirectory)
    except ConfigError as error:
        _log.warning("the content in memory could not be deleted", extra={"error": error})


def _clear(root: Path) -> None:
    try:
        for name in _OWN:
            path = root / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        message = f"the folder cannot be emptied: {(error.strerror or str(error)).lower()}"
        remedy = "name a folder that no other program or account uses"
        source = f"storage.inmemory.rootdirectory={root}"
        raise ConfigError([Problem(source, message, remedy)]) from error


def _size(root: Path) -> int:
    there = next(each for each in (root, *root.parents) if each.exists())
    found = os.statvfs(there)
    return found.f_blocks * found.f_frsize
