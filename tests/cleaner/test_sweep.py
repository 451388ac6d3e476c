"""`Sweep` evicts content; after an interruption, another sweep completes the eviction."""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest

from entrepot.cleaner.policy import Eviction, Reason
from entrepot.cleaner.store import DataDirectory
from entrepot.cleaner.sweep import Sweep
from entrepot.datastore import layout
from entrepot.datastore.accesslog import Event
from entrepot.datastore.drivers.filesystem import Filesystem
from entrepot.datastore.errors import StorageBroken
from entrepot.datastore.index import ContentKind, IndexEntry
from entrepot.datastore.refs import Digest
from tests.cleaner.stock import put_blob, put_manifest
from tests.clock import Clock
from tests.images import image


@pytest.fixture
def events() -> list[Event]:
    """Return a list that collects the reported events of a sweep."""
    return []


@pytest.fixture
def sweep(store: DataDirectory, clock: Clock, events: list[Event]) -> Sweep:
    """Return a sweep of the data directory *store*."""
    return Sweep(store, events.append, clock)


def _entry(store: DataDirectory, digest: Digest) -> IndexEntry:
    row = store.index.entry(digest)
    assert row
    return row


def _eviction(store: DataDirectory, digest: Digest) -> Eviction:
    return Eviction(_entry(store, digest), Reason.SIZE, "least recently used")


def test_an_eviction_removes_data_media_type_and_row(store: DataDirectory, sweep: Sweep) -> None:
    """An eviction removes the content, its media type and its row, so the used bytes decrease."""
    made = image([])
    manifest = put_manifest(store, made.manifest, made.media_type, used=0)
    store.storage.write(layout.shared_media_type(manifest), b"application/x-type")

    assert sweep.evict(_eviction(store, manifest))

    assert store.blobs.stat(manifest) is None
    assert store.repositories.media_type(None, manifest) is None
    assert store.index.entry(manifest) is None
    assert store.index.reservations.used_bytes() == 0


def test_an_eviction_is_reported_to_the_logger(
    store: DataDirectory, sweep: Sweep, clock: Clock, events: list[Event]
) -> None:
    """The event of an eviction has the digest, kind, size, time since the last use and reason."""
    digest = put_blob(store, b"content", used=clock.now - 90)

    sweep.evict(_eviction(store, digest))

    (event,) = events
    fields = {"digest": str(digest), "kind": "blob", "size": 7, "idle": 90, "reason": "size"}
    assert (event.name, event.at, event.fields) == ("eviction", clock.now, fields)


def test_an_entry_used_after_the_plan_stays(
    store: DataDirectory, sweep: Sweep, events: list[Event]
) -> None:
    """If content was used after the plan was made, it is not evicted."""
    digest = put_blob(store, b"content", used=0)
    eviction = _eviction(store, digest)
    store.index.touch({digest: 1})

    assert not sweep.evict(eviction)

    assert store.blobs.read(digest) == b"content"
    assert events == []


def test_a_pinned_entry_stays(store: DataDirectory, sweep: Sweep, clock: Clock) -> None:
    """If content is pinned, it is not evicted, because a push or a signed URL needs it."""
    digest = put_blob(store, b"content", used=0)
    store.index.pins.pin([digest], clock.now + 60)

    assert not sweep.evict(_eviction(store, digest))

    assert store.blobs.read(digest) == b"content"


def test_a_reader_of_an_evicted_blob_finishes(store: DataDirectory, sweep: Sweep) -> None:
    """If a blob is evicted while a reader has it open, the reader can read it to its end."""
    digest = put_blob(store, b"content", used=0)

    with store.blobs.open(digest) as reader:
        sweep.evict(_eviction(store, digest))

        assert reader.read() == b"content"


@pytest.mark.parametrize("data", ["data here", "data deleted"])
def test_entries_marked_by_a_dead_cleaner_are_removed(
    store: DataDirectory, sweep: Sweep, events: list[Event], data: str
) -> None:
    """If a killed cleaner left a marked row, the next sweep removes the row and its content.

    The row is removed even if the killed cleaner had already deleted the content.
    """
    digest = put_blob(store, b"content", used=0)
    assert store.index.mark_for_deletion(_entry(store, digest))
    if data == "data deleted":
        store.blobs.delete(digest)

    sweep.finish()

    assert store.blobs.stat(digest) is None
    assert store.index.count() == 0
    assert events == []


def test_a_row_recorded_during_the_eviction_is_removed(store: DataDirectory, sweep: Sweep) -> None:
    """If a download writes a row while the content is being evicted, this row is removed too.

    The download had already stored the content, which the eviction deletes. So the row would have
    no content.
    """
    digest = put_blob(store, b"content", used=0)
    marked = _entry(store, digest)
    assert store.index.mark_for_deletion(marked)
    store.index.record(digest, 7, ContentKind.BLOB, at=5)

    sweep._remove(marked)

    assert store.index.entry(digest) is None


def test_an_undeletable_entry_stays_marked_for_the_next_round(
    store: DataDirectory, clock: Clock, events: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    """If content cannot be deleted, its row stays marked, and the next sweep tries again.

    The failure does not prevent the removal of other marked content.
    """
    stuck, free = put_blob(store, b"stuck", used=0), put_blob(store, b"free", used=0)
    broken = replace(store, storage=_Stuck(store, stuck))
    sweep = Sweep(broken, events.append, clock)
    store.index.mark_for_deletion(_entry(store, free))

    with pytest.raises(StorageBroken):
        sweep.evict(_eviction(store, stuck))
    with caplog.at_level(logging.WARNING):
        sweep.finish()

    assert [entry.digest for entry in store.index.marked_for_deletion()] == [stuck]
    assert store.blobs.stat(free) is None
    assert events == []
    assert caplog.messages == ["eviction not finished"]


def test_a_disk_without_free_inodes_keeps_no_content(
    store: DataDirectory, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk without free inodes, content can still be evicted.

    The first eviction has created the lock file of sweeps, so the lock needs no free inode.
    """
    first, second = put_blob(store, b"first", used=0), put_blob(store, b"second", used=0)
    assert sweep.evict(_eviction(store, first))
    real = os.open

    def without_inodes(path: str, flags: int, *more: int, **named: int) -> int:
        if flags & os.O_CREAT and not Path(path).exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", without_inodes)

    assert sweep.evict(_eviction(store, second))
    assert store.blobs.stat(second) is None


class _Stuck(Filesystem):
    """A storage that cannot delete one blob."""

    def __init__(self, store: DataDirectory, digest: Digest) -> None:
        assert isinstance(store.storage, Filesystem)
        super().__init__(store.spool.parent.parent / "data")
        self._digest = digest

    def delete(self, key: str) -> bool:
        if self._digest.hex in key:
            raise StorageBroken("input/output error")
        return super().delete(key)
