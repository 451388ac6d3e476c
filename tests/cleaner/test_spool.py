"""What dead downloads left: kept for the next try, counted for what it is, gone after a day."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from entrepot.cleaner.spool import Spool
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.datastore.drivers.sqlite import SqliteIndex
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
    """Return the settler of an empty spool folder."""
    store.spool.mkdir()
    return Spool(store, clock)


def _grow(store: DataDirectory, content: bytes, digest: Digest = _DIGEST) -> Path:
    """Leave a spool file, as a download does that dies."""
    path = store.spool / layout.spool(digest)
    path.write_bytes(content)
    (store.spool / layout.spool_size(digest)).write_text("3000")
    return path


def test_a_promise_shrinks_to_what_a_dead_download_left(
    store: DataDirectory, spool: Spool, clock: Clock
) -> None:
    """What it will not fetch is free again; what it fetched is still there for the next try."""
    path = _grow(store, b"x" * 1000)
    store.index.reserve(_DIGEST, 3000, None, clock.now)

    spool.settle()

    assert store.index.reservations() == [Reservation(_DIGEST, 1000, clock.now)]
    assert path.exists()


def test_a_running_download_keeps_its_promise(
    store: DataDirectory, spool: Spool, clock: Clock
) -> None:
    """Whoever holds the file locked is alive, however old the file is."""
    path = _grow(store, b"x" * 1000)
    store.index.reserve(_DIGEST, 3000, None, clock.now)
    clock.now += 48 * _HOUR
    running = try_lock(path)
    assert running

    with running:
        spool.settle()

    assert [promise.size for promise in store.index.reservations()] == [3000]
    assert path.exists()


def test_a_spool_file_without_a_promise_is_counted(store: DataDirectory, spool: Spool) -> None:
    """The index was lost, and the bytes are on the disk all the same."""
    _grow(store, b"x" * 1000)

    spool.settle()

    assert [promise.size for promise in store.index.reservations()] == [1000]


def test_what_nobody_went_on_with_for_a_day_goes(
    store: DataDirectory, spool: Spool, clock: Clock
) -> None:
    """With its length and its promise; an hour earlier all of it stays."""
    path = _grow(store, b"x" * 1000)
    store.index.reserve(_DIGEST, 3000, None, clock.now)
    clock.now += 23 * _HOUR
    spool.settle()
    assert path.exists()
    clock.now += 2 * _HOUR

    spool.settle()

    assert list(store.spool.iterdir()) == []
    assert store.index.reservations() == []


def test_an_empty_spool_file_goes_at_once(store: DataDirectory, spool: Spool) -> None:
    """There is nothing in it to go on from."""
    path = _grow(store, b"")

    spool.settle()

    assert not path.exists()


def test_a_promise_without_a_file_is_free_again_after_a_minute(
    store: DataDirectory, spool: Spool, clock: Clock
) -> None:
    """Not sooner: a manifest is written without a spool file."""
    store.index.reserve(_DIGEST, 3000, None, clock.now)
    clock.now += 59
    spool.settle()
    assert len(store.index.reservations()) == 1
    clock.now += 2

    spool.settle()

    assert store.index.reservations() == []
    assert list(store.spool.iterdir()) == []


def test_a_blob_whose_writer_died_before_its_row_gets_one(
    store: DataDirectory, spool: Spool, clock: Clock
) -> None:
    """Its promise is what remembers it: nothing on the disk goes uncounted."""
    store.blobs.write(_DIGEST, _CONTENT)
    store.index.reserve(_DIGEST, 3000, None, clock.now)
    clock.now += 61

    spool.settle()

    row = store.index.entry(_DIGEST)
    assert row
    assert (row.size, row.kind) == (3000, ContentKind.BLOB)
    assert store.index.reservations() == []


def test_a_manifest_whose_writer_died_before_its_row_gets_one_with_its_names(
    store: DataDirectory, spool: Spool, clock: Clock
) -> None:
    """Its bytes show that it is one."""
    made = image([b"a layer"])
    store.blobs.write(made.digest, made.manifest)
    store.index.reserve(made.digest, len(made.manifest), None, clock.now)
    clock.now += 61

    spool.settle()

    row = store.index.entry(made.digest)
    assert row
    assert row.kind is ContentKind.MANIFEST
    assert store.index.children(made.digest) == [Digest.of(blob) for blob in made.blobs]


def test_a_promise_for_what_has_its_row_is_free_again(
    store: DataDirectory, spool: Spool, clock: Clock
) -> None:
    """It is counted once, and its last use stays."""
    put_blob(store, _CONTENT, used=5)
    store.index.reserve(_DIGEST, 3000, None, clock.now)
    clock.now += 61

    spool.settle()

    row = store.index.entry(_DIGEST)
    assert row
    assert row.used == 5
    assert store.index.reservations() == []


def test_a_download_that_lands_while_it_is_looked_at_keeps_its_promise(
    store: DataDirectory, spool: Spool, clock: Clock
) -> None:
    """Its file is the blob now, and whoever wrote it is about to record it."""
    path = _grow(store, _CONTENT)
    store.index.reserve(_DIGEST, 3000, None, clock.now)
    (seen,) = spool._files()
    store.blobs.adopt(path, _DIGEST)

    spool._settle_file(seen, store.index.reservations()[0])

    assert len(store.index.reservations()) == 1
    assert not path.exists()
    assert store.blobs.read(_DIGEST) == _CONTENT


def test_when_room_is_short_the_oldest_leftovers_go_first(
    store: DataDirectory, spool: Spool
) -> None:
    """And only as many of them as must."""
    digests = [Digest.of(filler(10, seed)) for seed in range(3)]
    paths = [_grow(store, b"x" * 1000, digest) for digest in digests]
    for path, at in zip(paths, (30, 10, 20), strict=True):
        os.utime(path, (at, at))
    running = try_lock(paths[1])
    assert running

    with running:
        spool.make_room(lambda: not paths[2].exists())

    assert [path.exists() for path in paths] == [True, True, False]


def test_lengths_and_turns_that_belong_to_nobody_go_after_a_day(
    store: DataDirectory, spool: Spool, clock: Clock
) -> None:
    """A turn that somebody has taken stays, and the length of a download that is still there."""
    _grow(store, b"x")
    orphan = store.spool / layout.spool_size(Digest.of(b"gone"))
    orphan.write_text("10")
    turns = store.spool.parent / layout.TURNS
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


class _Releasing(SqliteIndex):
    """Tells whether others could have begun the download when its room was given back."""

    was_free: bool | None = None
    spooled: Path

    def release(self, digest: Digest) -> None:
        lock = try_lock(self.spooled)
        self.was_free = lock is not None
        if lock:
            lock.close()
        super().release(digest)


def test_room_is_given_back_before_anybody_else_begins(store: DataDirectory, clock: Clock) -> None:
    """A worker's new promise for the same blob was taken back, and the cap exceeded by it."""
    store.spool.mkdir()
    index = _Releasing(store.state / layout.INDEX, clock=clock)
    index.spooled = _grow(store, b"")
    index.reserve(_DIGEST, 3000, None, clock.now)

    Spool(DataDirectory(store.storage, index, store.spool), clock).settle()
    index.close()

    assert index.was_free is False
    assert store.index.reservations() == []


def test_young_lengths_and_turns_stay(store: DataDirectory, spool: Spool) -> None:
    """Whoever made them may be about to use them."""
    turns = store.spool.parent / layout.TURNS
    turns.mkdir()
    (turns / "young").touch()
    (store.spool / layout.spool_size(_DIGEST)).write_text("10")

    spool.purge()

    assert len(list(turns.iterdir())) == 1
    assert (store.spool / layout.spool_size(_DIGEST)).exists()


def test_without_a_spool_folder_there_is_nothing_to_do(store: DataDirectory, clock: Clock) -> None:
    """It is made with the first download."""
    spool = Spool(store, clock)

    spool.settle()
    spool.purge()

    assert not store.spool.exists()
