"""`AbandonedUploads` removes abandoned uploads of the appliance and of docker distribution."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from entrepot.cleaner.maintenance.abandoned_uploads import AbandonedUploads
from entrepot.cleaner.spool import Spool
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.datastore.locks import try_lock
from entrepot.datastore.storage import set_time
from tests.cleaner.stock import HOSTED, push
from tests.clock import Clock

_THEIRS = f"{layout.uploads(HOSTED)}/0b4d"
_OURS = layout.upload(HOSTED, "0" * 32)


@pytest.fixture
def uploads(store: DataDirectory) -> AbandonedUploads:
    """Return the object that finds and removes abandoned uploads."""
    return AbandonedUploads(store)


def _begin_distribution_upload(store: DataDirectory) -> None:
    store.storage.write(f"{_THEIRS}/startedat", b"2020-01-01T00:00:00Z")
    store.storage.write(f"{_THEIRS}/data", b"the first chunk")
    store.storage.write(f"{_THEIRS}/hashstates/sha256/0", b"state")


def _begin(store: DataDirectory, modified: float) -> Path:
    """Create the files and the reservation of an upload that was written at *modified*."""
    path = store.state / layout.UPLOADS / _OURS
    path.parent.mkdir(parents=True)
    for each in (path, path.with_name(layout.upload_digest(path.name))):
        each.write_bytes(b"the first chunk")
        os.utime(each, (modified, modified))
    store.index.reservations.reserve(layout.upload_reservation(path.name), 100, None, modified)
    return path


def _purge(uploads: AbandonedUploads, before: float) -> list[bool]:
    return [uploads.remove(each) for each in uploads.abandoned(before)]


def test_removing_an_upload_releases_its_reservation(
    store: DataDirectory, uploads: AbandonedUploads
) -> None:
    """If an abandoned upload is removed, so are its `.digest` file and its reservation."""
    path = _begin(store, modified=100)
    assert _purge(uploads, before=100) == []

    _purge(uploads, before=101)

    assert list(path.parent.iterdir()) == []
    assert store.index.reservations.all() == []


def test_a_note_without_its_upload_is_removed(
    store: DataDirectory, uploads: AbandonedUploads
) -> None:
    """If an upload no longer exists, its `.digest` file counts as an upload and is removed.

    A worker that was killed at the end of the upload leaves such a file.
    """
    path = _begin(store, modified=100)
    path.unlink()

    _purge(uploads, before=101)

    assert list(path.parent.iterdir()) == []


def test_an_upload_with_a_writer_stays(store: DataDirectory, uploads: AbandonedUploads) -> None:
    """While a worker has the lock of an upload, the upload is not removed, even if it is old."""
    path = _begin(store, modified=100)
    held = try_lock(path)
    assert held
    (found,) = uploads.abandoned(101)

    with held:
        assert not uploads.remove(found)

    assert path.exists()
    assert len(store.index.reservations.all()) == 1


def test_an_upload_continued_after_the_listing_stays(
    store: DataDirectory, uploads: AbandonedUploads
) -> None:
    """If a client continues an upload after it was listed, the upload is not removed.

    If the upload ends after it was listed, no error is raised.
    """
    path = _begin(store, modified=100)
    (found,) = uploads.abandoned(101)
    os.utime(path, (200, 200))

    assert not uploads.remove(found)
    path.unlink()
    assert not uploads.remove(found)


def test_an_upload_of_docker_distribution_is_removed_by_its_last_chunk(
    store: DataDirectory, uploads: AbandonedUploads, clock: Clock
) -> None:
    """An upload of docker distribution is removed if even its newest file is old enough.

    In this test, the last chunk is the newest file. All files of the upload are removed; hosted
    content stays.
    """
    pushed = push(store, 1, used=0)
    _begin_distribution_upload(store)
    for name in ("startedat", "hashstates/sha256/0"):
        set_time(store.storage, f"{_THEIRS}/{name}", clock.now - 100)
    set_time(store.storage, f"{_THEIRS}/data", clock.now)
    assert _purge(uploads, before=clock.now) == []

    assert _purge(uploads, before=clock.now + 1) == [True]

    assert list(store.storage.list(layout.uploads(HOSTED))) == []
    assert pushed.is_here(store) == [True, True, True]


def test_an_upload_of_docker_distribution_that_grows_again_is_kept(
    store: DataDirectory, uploads: AbandonedUploads, clock: Clock
) -> None:
    """An upload of docker distribution is kept if it has changed since it was listed."""
    _begin_distribution_upload(store)
    for stat in store.storage.walk(_THEIRS):
        set_time(store.storage, stat.key, clock.now - 100)
    (found,) = uploads.abandoned(clock.now)
    store.storage.write(f"{_THEIRS}/data", b"the first chunk and the second")
    set_time(store.storage, f"{_THEIRS}/data", clock.now)

    assert not uploads.remove(found)
    assert store.storage.read(f"{_THEIRS}/data", 99) == b"the first chunk and the second"


def test_an_idle_upload_keeps_its_reservation(store: DataDirectory, clock: Clock) -> None:
    """An upload that waits for its next chunk is not locked; the size of its file stays reserved.

    If the files of the upload are removed, the reservation is released.
    """
    path = _begin(store, modified=clock.now)
    clock.now += 3600

    Spool(store, clock).settle()

    assert [each.size for each in store.index.reservations.all()] == [path.stat().st_size]
    path.unlink()
    path.with_name(layout.upload_digest(path.name)).unlink()
    Spool(store, clock).settle()
    assert store.index.reservations.all() == []
