"""`Spool` releases the space that is reserved for uploads that no client continues."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from entrepot.cleaner.spool import Spool
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.datastore.index import Reservation
from entrepot.datastore.locks import try_lock
from entrepot.datastore.refs import Repository
from tests.clock import Clock

_NAME = Repository("team/app")
_MINUTE = 60.0


@pytest.fixture
def spool(store: DataDirectory, clock: Clock) -> Spool:
    """Return the object with which the cleaner removes spool files and uploads."""
    (store.state / layout.UPLOADS).mkdir(parents=True)
    return Spool(store, clock)


def _upload(store: DataDirectory, clock: Clock, size: int, number: str = "1") -> Path:
    """Create the files and the reservation of an upload whose worker was killed.

    The upload has received *size* bytes; its announced size is 3,000 bytes.
    """
    path = store.state / layout.UPLOADS / layout.upload(_NAME, number)
    path.write_bytes(b"x" * size)
    path.with_name(layout.upload_digest(path.name)).write_text("boot 1 sha256:0")
    os.utime(path, (clock.now, clock.now))
    store.index.reservations.reserve(layout.upload_reservation(path.name), 3000, None, clock.now)
    return path


@pytest.mark.parametrize("size", [0, 1000, 3000])
def test_the_reservation_of_a_dead_upload_shrinks_to_its_file(
    store: DataDirectory, spool: Spool, clock: Clock, size: int
) -> None:
    """The reservation of an upload without a writer shrinks to the size of its file.

    The file stays, because the client can continue the upload.
    """
    path = _upload(store, clock, size)
    promise = Reservation(layout.upload_reservation(path.name), size, clock.now)
    clock.now += 2 * _MINUTE

    spool.settle()

    assert store.index.reservations.all() == ([promise] if size else [])
    assert path.exists()


def test_a_running_upload_keeps_its_reservation(
    store: DataDirectory, spool: Spool, clock: Clock
) -> None:
    """While a worker has the lock of an upload, the file and the reservation of the upload stay."""
    path = _upload(store, clock, 1000)
    clock.now += 2 * _MINUTE

    with try_lock(path) or pytest.fail("refused"):
        spool.settle()
        spool.make_room(lambda: False)

    assert [each.size for each in store.index.reservations.all()] == [3000]
    assert path.exists()


def test_an_upload_without_a_reservation_is_counted(
    store: DataDirectory, spool: Spool, clock: Clock
) -> None:
    """If an upload has a file but no reservation, the size of the file is reserved."""
    path = _upload(store, clock, 1000)
    store.index.reservations.release(layout.upload_reservation(path.name))

    spool.settle()

    assert [each.size for each in store.index.reservations.all()] == [1000]


def test_idle_uploads_are_removed_for_space(
    store: DataDirectory, spool: Spool, clock: Clock
) -> None:
    """If space is needed, idle uploads are removed, the oldest first; a recent upload stays."""
    paths = [_upload(store, clock, 1000, "1")]
    clock.now += 3 * _MINUTE
    paths.append(_upload(store, clock, 1000, "2"))
    clock.now += 2 * _MINUTE
    paths.append(_upload(store, clock, 1000, "3"))
    looks = iter([False, True])
    spool.make_room(lambda: next(looks))
    assert [path.exists() for path in paths] == [False, True, True]

    spool.make_room(lambda: False)

    assert [path.exists() for path in paths] == [False, False, True]
    assert len(store.index.reservations.all()) == 1
    assert not path_of_digest_note(paths[0]).exists()


def path_of_digest_note(path: Path) -> Path:
    """Return the path of an upload's `.digest` file."""
    return path.with_name(layout.upload_digest(path.name))
