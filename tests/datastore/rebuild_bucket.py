"""Rebuild the index of a bucket that a test has generated, write its snapshot, and print figures.

A test runs this program as a separate process, so that its memory can be measured.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from entrepot.cleaner.maintenance.index_snapshot import IndexSnapshot
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.datastore.drivers.objects.setup import parts_of
from entrepot.datastore.drivers.objects.snapshots import BucketSnapshots
from entrepot.datastore.drivers.objects.storage import ObjectStorage
from entrepot.datastore.drivers.table import open_index
from entrepot.datastore.index import ContentKind
from entrepot.datastore.rebuild import rebuild
from tests.s3_signatures import Account
from tests.s3_storage import Held, keys_of


def _most_memory() -> int:
    """Return the largest resident size of this process so far, in bytes.

    `ru_maxrss` cannot be used: it includes the size of the process that started this program.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


def main(url: str, state: Path) -> None:
    """Rebuild the index in *state* from the bucket at *url*."""
    state.mkdir()
    parts = parts_of("s3", keys_of(url, "images", Account(), state), time.time)
    snapshots = BucketSnapshots(parts.client, parts.journal, Held())
    index = open_index(state)
    store = DataDirectory(
        ObjectStorage(parts.client, parts.journal, Held()), index, state / layout.SPOOL
    )
    rebuild(store.storage, index, time.time(), snapshots=snapshots)
    IndexSnapshot(store, snapshots, time.time).write()
    (newest,) = index.oldest(None, 1)
    manifests = (row for row in index.oldest(None, 1000) if row.kind is ContentKind.MANIFEST)
    found = {
        "rows": index.count(),
        "used": newest.used,
        "edges": len(index.children(next(manifests).digest)),
        "memory": _most_memory(),
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
