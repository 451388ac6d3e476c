"""`Spool` keeps a spool file without a writer for a day, and reserves only the file's size."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from entrepot.cleaner.spool import Spool
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.datastore.drivers.sqlite import SqliteIndex
from entrepot.datastore.drivers.sqlite_file import SqliteFile
from entrepot.datastore.drivers.sqlite_parts import SqliteReservations
from entrepot.datastore.index import ContentKind, Reservation
from entrepot.datastore.locks import try_lock
from entrepot.datastore.refs import Digest
from tests.cleaner.stock import put_blob
from tests.clock import Clock
from tests.images import filler, image

_CONTENT = filler(3000)
_DIGEST = Digest.of(_CONTENT)
_HOUR = 3600.0


@pytest.fixture
def spool(store: DataDirectory, clock: Clock) -> Spool:
    """Return the object with which the cleaner removes spool files and corrects reservations."""
    store.spool.mkdir()
    return Spool(store, clock)


def _leave(store: DataDirectory, content: bytes, digest: Digest = _DIGEST) -> Path:
    """Create a spool file and its size file, as a killed process leaves them."""
    path = store.spool / layout.spool(digest)
    path.write_bytes(content)
    (store.spool / layout.spool_size(digest)).write_text("3000")
    return path


def test_the_reservation_of_a_dead_download_shrinks_to_its_file(
    store: DataDirectory, spool: Spool, clock: Clock
) -> None:
    """The reservation of a download without a writer shrinks to the size of its spool file.

    The file stays, because another download can continue it.
    """
    path = _leave(store, b"x" * 1000)
    store.index.reservations.reserve(_DIGEST, 3000, None, clock.now)

    spool.settle()

    assert store.index.reservations.all() == [Reservation(_DIGEST, 1000, clock.now)]
    assert path.exists()


def test_a_running_download_keeps_its_reservation(
    store: DataDirectory, spool: Spool, clock: Clock
) -> None:
    """While a process has the lock of a spool file, the file and its reservation stay."""
    path = _leave(store, b"x" * 1000)
    store.index.reservations.reserve(_DIGEST, 3000, None, clock.now)
    clock.now += 48 * _HOUR
    running = try_lock(path)
    assert running

    with running:
        spool.settle()

    assert [promise.size for promise in store.index.reservations.all()] == [3000]
    assert path.exists()


def test_a_spool_file_without_a_reservation_is_counted(store: DataDirectory, spool: Spool) -> None:
    """If a spool file has no reservation, the size of the file is reserved."""
    _leave(store, b"x" * 1000)

    spool.settle()

    assert [promise.size for promise in store.index.reservations.all()] == [1000]


def test_an_unresumed_spool_file_is_removed_after_a_day(
    store: DataDirectory, spool: Spool, clock: Clock
) -> None:
    """If no download continues a spool file for a day, it is removed.

    Its size file and its reservation are removed too.
    """
    path = _leave(store, b"x" * 1000)
    store.index.reservations.reserve(_DIGEST, 3000, None, clock.now)
    clock.now += 23 * _HOUR
    spool.settle()
    assert path.exists()
    clock.now += 2 * _HOUR

    spool.settle()

    assert list(store.spool.iterdir()) == []
    assert store.index.reservations.all() == []


def test_an_empty_spool_file_is_removed_at_once(store: DataDirectory, spool: Spool) -> None:
    """An empty spool file without a writer is removed immediately."""
    path = _leave(store, b"")

    spool.settle()

    assert not path.exists()


def test_a_reservation_without_a_file_is_released_after_a_minute(
    store: DataDirectory, spool: Spool, clock: Clock
) -> None:
    """A reservation without a spool file is released after a minute.

    A manifest that is being fetched has such a reservation, because it is not written to a file.
    """
    store.index.reservations.reserve(_DIGEST, 3000, None, clock.now)
    clock.now += 59
    spool.settle()
    assert len(store.index.reservations.all()) == 1
    clock.now += 2

    spool.settle()

    assert store.index.reservations.all() == []
    assert list(store.spool.iterdir()) == []


def test_a_blob_without_a_row_is_recorded_from_its_reservation(
    store: DataDirectory, spool: Spool, clock: Clock
) -> None:
    """If a process died after the commit of a blob and before it wrote the row, the row is added.

    The cleaner finds the digest in the reservation of the blob, which still exists.
    """
    store.blobs.write(_DIGEST, _CONTENT)
    store.index.reservations.reserve(_DIGEST, 3000, None, clock.now)
    clock.now += 61

    spool.settle()

    row = store.index.entry(_DIGEST)
    assert row
    assert (row.size, row.kind) == (3000, ContentKind.BLOB)
    assert store.index.reservations.all() == []


def test_a_manifest_without_a_row_is_recorded_with_its_parts(
    store: DataDirectory, spool: Spool, clock: Clock
) -> None:
    """If the row of a committed manifest is missing, it is added with the manifest's edges."""
    made = image([b"a layer"])
    store.blobs.write(made.digest, made.manifest)
    store.index.reservations.reserve(made.digest, len(made.manifest), None, clock.now)
    clock.now += 61

    spool.settle()

    row = store.index.entry(made.digest)
    assert row
    assert row.kind is ContentKind.MANIFEST
    assert store.index.children(made.digest) == [Digest.of(blob) for blob in made.blobs]


def test_a_reservation_of_recorded_content_is_released(
    store: DataDirectory, spool: Spool, clock: Clock
) -> None:
    """If content has both a row and an old reservation, the reservation is released.

    Otherwise the content would count twice. The last use in the row does not change.
    """
    put_blob(store, _CONTENT, used=5)
    store.index.reservations.reserve(_DIGEST, 3000, None, clock.now)
    clock.now += 61

    spool.settle()

    row = store.index.entry(_DIGEST)
    assert row
    assert row.used == 5
    assert store.index.reservations.all() == []


def test_a_download_committed_during_the_check_keeps_its_reservation(
    store: DataDirectory, spool: Spool, clock: Clock
) -> None:
    """If a download is committed after its spool file was listed, its reservation stays.

    The spool file has become the blob, and the writer is about to write the row.
    """
    path = _leave(store, _CONTENT)
    store.index.reservations.reserve(_DIGEST, 3000, None, clock.now)
    (seen,) = spool._files()
    store.blobs.commit_file(path, _DIGEST)

    spool._settle_file(seen, store.index.reservations.all()[0])

    assert len(store.index.reservations.all()) == 1
    assert not path.exists()
    assert store.blobs.read(_DIGEST) == _CONTENT


def test_the_oldest_leftovers_are_removed_first(store: DataDirectory, spool: Spool) -> None:
    """If space is needed, the oldest spool files without a writer are removed first."""
    digests = [Digest.of(filler(10, seed)) for seed in range(3)]
    paths = [_leave(store, b"x" * 1000, digest) for digest in digests]
    for path, at in zip(paths, (30, 10, 20), strict=True):
        os.utime(path, (at, at))
    running = try_lock(paths[1])
    assert running

    with running:
        spool.make_room(lambda: not paths[2].exists())

    assert [path.exists() for path in paths] == [True, True, False]


def test_orphaned_size_and_lock_files_are_removed_after_a_day(
    store: DataDirectory, spool: Spool, clock: Clock
) -> None:
    """After a day, unlocked lock files and size files without a spool file are removed.

    A lock file that is locked stays, and so does a size file that has a spool file.
    """
    _leave(store, b"x")
    orphan = store.spool / layout.spool_size(Digest.of(b"gone"))
    orphan.write_text("10")
    turns = store.spool.parent / layout.PULL_LOCKS
    turns.mkdir()
    free, taken = turns / "free", turns / "taken"
    free.touch()
    clock.now += 25 * _HOUR
    held = try_lock(taken)
    assert held

    with held:
        spool.purge()

    assert [path.name for path in turns.iterdir()] == ["taken"]
    assert not orphan.exists()
    assert (store.spool / layout.spool_size(_DIGEST)).exists()


class _Releasing(SqliteReservations):
    """Reservations that record at each release whether the spool file could be locked."""

    was_free: bool | None = None
    spooled: Path

    def release(self, digest: Digest) -> None:
        lock = try_lock(self.spooled)
        self.was_free = lock is not None
        if lock:
            lock.close()
        super().release(digest)


def test_space_is_released_before_another_writer_can_start(
    store: DataDirectory, clock: Clock
) -> None:
    """The reservation of a removed spool file is released while the file is still locked.

    Otherwise another download of the same blob could begin, and lose its new reservation.
    """
    store.spool.mkdir()
    index = SqliteIndex(store.state / layout.INDEX, clock=clock)
    index.reservations = released = _Releasing(SqliteFile(store.state / layout.INDEX, 2.0))
    released.spooled = _leave(store, b"")
    index.reservations.reserve(_DIGEST, 3000, None, clock.now)

    Spool(DataDirectory(store.storage, index, store.spool), clock).settle()
    index.close()

    assert released.was_free is False
    assert store.index.reservations.all() == []


def test_young_size_and_lock_files_stay(store: DataDirectory, spool: Spool) -> None:
    """Size and lock files that are younger than a day stay, because a process may use them."""
    turns = store.spool.parent / layout.PULL_LOCKS
    turns.mkdir()
    (turns / "young").touch()
    (store.spool / layout.spool_size(_DIGEST)).write_text("10")

    spool.purge()

    assert len(list(turns.iterdir())) == 1
    assert (store.spool / layout.spool_size(_DIGEST)).exists()


def test_a_missing_spool_folder_is_no_error(store: DataDirectory, clock: Clock) -> None:
    """If the spool folder does not exist yet, the cleaner raises no error."""
    spool = Spool(store, clock)

    spool.settle()
    spool.purge()

    assert not store.spool.exists()
