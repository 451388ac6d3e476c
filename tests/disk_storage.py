"""Opens the storage driver for a local disk in the way that the appliance's programs open it."""

from __future__ import annotations

from pathlib import Path

from entrepot.datastore.drivers.table import on_disk, open_storage
from entrepot.datastore.storage import Storage


def disk_storage(root: Path) -> Storage:
    """Return the storage of the data directory *root*."""
    return open_storage(on_disk(root))
