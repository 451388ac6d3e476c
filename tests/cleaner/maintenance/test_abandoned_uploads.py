"""Uploads that nobody goes on with: ours and docker distribution's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from entrepot.cleaner.maintenance.abandoned_uploads import AbandonedUploads
from entrepot.cleaner.spool import Spool
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.datastore.locks import try_lock
from tests.cleaner.stock import HOSTED, push
from tests.clock import Clock

_THEIRS = f"{layout.uploads(HOSTED)}/0b4d"
_OURS = layout.upload(HOSTED, "0" * 32)


@pytest.fixture
def uploads(store: DataDirectory) -> AbandonedUploads:
    """Return what looks for them in *store*."""
    return AbandonedUploads(store)


def _begin_theirs(store: DataDirectory) -> None:
    store.storage.write(f"{_THEIRS}/startedat", b"2020-01-01T00:00:00Z")
    store.storage.write(f"{_THEIRS}/data", b"the first chunk")
    store.storage.write(f"{_THEIRS}/hashstates/sha256/0", b"state")


def _begin(store: DataDirectory, modified: float) -> Path:
    """Begin an upload of ours, with word of its hash and room promised, last written to then."""
    path = store.state / layout.UPLOADS / _OURS
    path.parent.mkdir(parents=True)
    for each in (path, path.with_name(layout.upload_digest(path.name))):
        each.write_bytes(b"the first chunk")
        os.utime(each, (modified, modified))
    store.index.reserve(layout.upload_promise(path.name), 100, None, modified)
    return path


def _purge(uploads: AbandonedUploads, before: float) -> list[bool]:
    return [uploads.remove(each) for each in uploads.abandoned(before)]


def test_an_upload_goes_with_the_room_that_was_promised(
    store: DataDirectory, uploads: AbandonedUploads
) -> None:
    """And with the word of what it hashes to."""
    path = _begin(store, modified=100)
    assert _purge(uploads, before=100) == []

    _purge(uploads, before=101)

    assert list(path.parent.iterdir()) == []
    assert store.index.reservations() == []


def test_word_of_an_upload_that_is_gone_goes(
    store: DataDirectory, uploads: AbandonedUploads
) -> None:
    """Whoever ended it died before he took it away."""
    path = _begin(store, modified=100)
    path.unlink()

    _purge(uploads, before=101)

    assert list(path.parent.iterdir()) == []


def test_one_that_somebody_writes_to_stays(store: DataDirectory, uploads: AbandonedUploads) -> None:
    """However long it has stood still: he holds it locked."""
    path = _begin(store, modified=100)
    held = try_lock(path)
    assert held
    (found,) = uploads.abandoned(101)

    with held:
        assert not uploads.remove(found)

    assert path.exists()
    assert len(store.index.reservations()) == 1


def test_one_that_somebody_has_gone_on_with_stays(
    store: DataDirectory, uploads: AbandonedUploads
) -> None:
    """It is not the one that was seen; one that has ended is no failure."""
    path = _begin(store, modified=100)
    (found,) = uploads.abandoned(101)
    os.utime(path, (200, 200))

    assert not uploads.remove(found)
    path.unlink()
    assert not uploads.remove(found)


def test_one_of_docker_distribution_goes_after_its_last_chunk(
    store: DataDirectory, uploads: AbandonedUploads, clock: Clock
) -> None:
    """All of it; what was pushed stays."""
    pushed = push(store, 1, used=0)
    _begin_theirs(store)
    for name in ("startedat", "hashstates/sha256/0"):
        store.storage.stamp(f"{_THEIRS}/{name}", clock.now - 100)
    store.storage.stamp(f"{_THEIRS}/data", clock.now)
    assert _purge(uploads, before=clock.now) == []

    assert _purge(uploads, before=clock.now + 1) == [True]

    assert list(store.storage.list(layout.uploads(HOSTED))) == []
    assert pushed.is_here(store) == [True, True, True]


def test_an_upload_keeps_the_room_that_it_takes(store: DataDirectory, clock: Clock) -> None:
    """It is no dead download: between two chunks nobody holds anything locked."""
    path = _begin(store, modified=clock.now)
    clock.now += 3600

    Spool(store, clock).settle()

    assert [each.size for each in store.index.reservations()] == [path.stat().st_size]
    path.unlink()
    path.with_name(layout.upload_digest(path.name)).unlink()
    Spool(store, clock).settle()
    assert store.index.reservations() == []
