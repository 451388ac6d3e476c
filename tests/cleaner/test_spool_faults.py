"""If one spool file or upload causes a disk error, `Spool` continues with the other files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from entrepot.cleaner.spool import Spool
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.datastore.refs import Digest
from tests.cleaner.stock import HOSTED
from tests.clock import Clock


def _left(store: DataDirectory, clock: Clock) -> list[Path]:
    """Create the files of two killed downloads and of one upload; return them, the oldest first."""
    paths = [store.spool / layout.spool(Digest.of(bytes([n]))) for n in range(2)]
    paths.append(store.state / layout.UPLOADS / layout.upload(HOSTED, "0" * 8))
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
        at = clock() - 1000 + number
        os.utime(path, (at, at))
    return paths


@pytest.mark.parametrize("refused", range(3))
def test_a_faulty_file_is_skipped_and_others_are_removed(
    store: DataDirectory, clock: Clock, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    """If one file cannot be removed, it is skipped, and the others are removed.

    A bad sector is permanent, so such a file can never be removed. If the round ended at this file,
    the cleaner would never evict again.
    """
    paths = _left(store, clock)
    unlink = Path.unlink

    def fails(path: Path, *, missing_ok: bool = False) -> None:
        if path == paths[refused]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", fails)
    spool = Spool(store, clock)

    spool.settle()
    spool.make_room(lambda: False)

    assert [path.exists() for path in paths] == [number == refused for number in range(3)]
