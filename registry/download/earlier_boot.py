"""Discards partial downloads that an earlier boot of the machine has written.

They are not flushed byte by byte. After a power cut their length may count bytes that never reached
the disk, and a reader would be sent those before the digest of the whole refuses them.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from entrepot.datastore import layout
from entrepot.datastore.errors import DatastoreError
from entrepot.datastore.locks import try_lock
from entrepot.registry.download.spoolfile import size_path

log = logging.getLogger(__name__)


def discard_partial_downloads(state: Path, boot: str) -> None:
    """Remove the spool files in the state directory, unless *boot* has written them.

    Where nothing tells one boot from another, *boot* is empty and all are kept. A restart of the
    appliance alone keeps them. A disk that refuses it is logged.
    """
    marker = state / layout.BOOT
    try:
        if boot and _read(marker) != boot:
            _discard(marker.parent)
            marker.write_text(boot)
    except (OSError, DatastoreError) as error:
        log.warning("partial downloads not discarded", extra={"error": error})


def _read(marker: Path) -> str:
    with suppress(FileNotFoundError):
        return marker.read_text()
    return ""


def _discard(spool: Path) -> None:
    spool.mkdir(parents=True, exist_ok=True)
    paths = [path for path in spool.iterdir() if layout.spool_of(path.name) is not None]
    for path in paths:
        locked = try_lock(path)
        if locked is None:
            continue
        with locked:
            size_path(path).unlink(missing_ok=True)
            locked.unlink()
    if paths:
        log.info("partial downloads of an earlier boot discarded", extra={"files": len(paths)})
