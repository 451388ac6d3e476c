"""Tests that `rebuild` restores a lost index from the stored files, and repairs differences."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from entrepot.datastore import layout
from entrepot.datastore.blobs import BlobStore
from entrepot.datastore.budget import OVERHEAD
from entrepot.datastore.drivers.memory import MemoryIndex, MemoryStorage
from entrepot.datastore.drivers.table import open_index
from entrepot.datastore.index import REBUILT, ContentKind, Index, IndexEntry
from entrepot.datastore.manifest import OCI_INDEX, OCI_MANIFEST
from entrepot.datastore.rebuild import needs_rebuild, rebuild
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.repositories import Repositories
from entrepot.datastore.storage import Storage, set_time
from tests.clock import Clock
from tests.disk_storage import disk_storage
from tests.timed_storage import TimedMemoryStorage

NOW = 1_700_000_000.0
DAY = 86_400.0
NAME = Repository("quay.io/podman/hello")


@pytest.fixture(params=["in memory", "on a disk"])
def parts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Storage, Index]]:
    """Return an empty storage, and a new index that needs a rebuild."""
    if request.param == "in memory":
        yield TimedMemoryStorage(), MemoryIndex(rebuilt=False)
        return
    index = open_index(tmp_path / "entrepot")
    yield disk_storage(tmp_path), index
    index.close()


@pytest.fixture
def storage(parts: tuple[Storage, Index]) -> Storage:
    """Return the storage without content."""
    return parts[0]


@pytest.fixture
def index(parts: tuple[Storage, Index]) -> Index:
    """Return the index that needs a rebuild."""
    return parts[1]


def _store(storage: Storage, content: bytes, used: float) -> Digest:
    digest = Digest.of(content)
    BlobStore(storage).write(digest, content)
    set_time(storage, layout.blob(digest), used)
    return digest


def _descriptor(digest: Digest, media_type: str = "application/octet-stream") -> dict[str, object]:
    return {"mediaType": media_type, "digest": str(digest), "size": 1}


def _image(storage: Storage, layers: list[Digest], used: float, **more: str) -> Digest:
    """Store and link a manifest of *layers*, the first of which is its config."""
    config, *rest = map(_descriptor, layers)
    content = json.dumps({"schemaVersion": 2, "config": config, "layers": rest, **more}).encode()
    digest = _store(storage, content, used)
    Repositories(storage).link_manifest(NAME, digest)
    return digest


def _list(storage: Storage, manifests: list[Digest], used: float) -> Digest:
    """Store and link an index of *manifests* that does not state its own type."""
    children = [_descriptor(each, OCI_MANIFEST) for each in manifests]
    digest = _store(storage, json.dumps({"manifests": children}).encode(), used)
    Repositories(storage).link_manifest(NAME, digest, OCI_INDEX)
    return digest


def test_an_index_needs_a_rebuild_until_one_is_complete(storage: Storage, index: Index) -> None:
    """A new index needs a rebuild; after the rebuild it does not."""
    assert needs_rebuild(index.notes) is True

    rebuild(storage, index, NOW)

    assert needs_rebuild(index.notes) is False


def test_a_rebuild_restores_the_order_of_eviction(storage: Storage, index: Index) -> None:
    """A rebuild restores rows, kinds, last uses and edges from file times and linked manifests."""
    old, config, shared = (
        _store(storage, content, NOW - age * DAY)
        for content, age in ((b"old", 9), (b"config", 8), (b"shared", 1))
    )
    manifest = _image(storage, [config, shared], NOW - 5 * DAY)
    both = _list(storage, [manifest], NOW - 3 * DAY)

    rebuild(storage, index, NOW)

    assert [(entry.digest, entry.kind, entry.used) for entry in index.oldest(None, 10)] == [
        (old, ContentKind.BLOB, NOW - 9 * DAY),
        (both, ContentKind.INDEX, NOW - 3 * DAY),
        (manifest, ContentKind.MANIFEST, NOW - 3 * DAY),
        (config, ContentKind.BLOB, NOW - 3 * DAY),
        (shared, ContentKind.BLOB, NOW - 1 * DAY),
    ]
    assert (index.children(manifest), index.children(both)) == ([config, shared], [manifest])


def test_a_rebuild_restores_the_used_bytes(storage: Storage, index: Index) -> None:
    """A rebuild restores the used bytes, so that the first download cannot exceed the cap."""
    sizes = [len(content) for content in (b"1", b"22", b"333")]
    for content in (b"1", b"22", b"333"):
        _store(storage, content, NOW)

    rebuild(storage, index, NOW)

    assert index.reservations.used_bytes() == sum(sizes) + 3 * OVERHEAD
    assert (
        index.reservations.reserve(Digest.of(b"next"), 1, index.reservations.used_bytes(), NOW)
        is False
    )


def test_a_second_rebuild_changes_nothing(storage: Storage, index: Index) -> None:
    """A second rebuild of the index changes no row."""
    layer = _store(storage, b"layer", NOW - DAY)
    _image(storage, [layer], NOW - DAY)
    rebuild(storage, index, NOW)
    first = index.oldest(None, 10)

    rebuild(storage, index, NOW + 1)

    assert index.oldest(None, 10) == first


def test_a_row_that_a_worker_recorded_meanwhile_is_kept(storage: Storage, index: Index) -> None:
    """If a worker has recorded a row before the rebuild reaches it, the row is not changed.

    The last use that the worker recorded is later than the time of the file.
    """
    layer = _store(storage, b"layer", NOW - DAY)
    manifest = _image(storage, [layer], NOW - DAY)
    index.record(manifest, 999, ContentKind.MANIFEST, NOW, children=[layer])

    rebuild(storage, index, NOW)

    assert index.entry(manifest) == IndexEntry(manifest, 999, ContentKind.MANIFEST, NOW)
    assert index.entry(layer) == IndexEntry(layer, 5, ContentKind.BLOB, NOW)


def test_a_rebuild_lets_other_writers_in_between_batches(
    storage: Storage, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebuild commits in batches, so that other processes can write in between.

    If the rebuild is interrupted, the index still needs a rebuild.
    """
    monkeypatch.setattr("entrepot.datastore.rebuild._BATCH", 2)
    for number in range(5):
        _store(storage, bytes([number]), NOW)
    counts: list[int] = []

    def stop_at_the_second() -> None:
        counts.append(index.count())
        if len(counts) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rebuild(storage, index, NOW, stop_at_the_second)

    assert (counts, needs_rebuild(index.notes)) == ([2, 4], True)
    rebuild(storage, index, NOW)
    assert (index.count(), needs_rebuild(index.notes)) == (5, False)


def test_a_blob_whose_row_was_never_written_gets_one(storage: Storage, index: Index) -> None:
    """If a worker was killed after the commit of a blob, a rebuild adds the missing row."""
    index.notes.put({REBUILT: "0"})
    digest = _store(storage, b"orphan", NOW - 60)

    rebuild(storage, index, NOW)

    assert index.entry(digest) == IndexEntry(digest, 6, ContentKind.BLOB, NOW - 60)


@pytest.mark.parametrize(
    ("age", "is_kept"), [(2 * 3600.0, False), (60.0, True)], ids=["old", "young"]
)
def test_a_row_without_a_file_is_removed_unless_it_is_recent(
    storage: Storage, index: Index, age: float, *, is_kept: bool
) -> None:
    """A rebuild removes a row without a blob only if its last use is over an hour ago.

    If the last use is more recent, a worker may be about to store the blob.
    """
    gone = Digest.of(b"gone")
    index.record(gone, 10, ContentKind.BLOB, NOW - age)

    rebuild(storage, index, NOW)

    assert (index.entry(gone) is not None) is is_kept
    assert index.marked_for_deletion() == []


def test_a_pinned_row_without_a_file_is_kept(storage: Storage, index: Index) -> None:
    """A rebuild keeps a pinned row without a blob, because a push is about to store the blob."""
    gone = Digest.of(b"gone")
    index.record(gone, 10, ContentKind.BLOB, 5.0)
    index.pins.pin([gone], until=float("inf"))

    rebuild(storage, index, NOW)

    assert index.entry(gone) is not None


def _not_json(storage: Storage) -> Digest:
    return _store(storage, b"not a manifest", NOW)


def _unknown_type(storage: Storage) -> Digest:
    digest = _store(storage, b'{"config": {}}', NOW)
    Repositories(storage).link_manifest(NAME, digest, "application/x-unknown")
    return digest


@pytest.mark.parametrize("make", [_not_json, _unknown_type])
def test_a_linked_blob_that_is_not_a_manifest_keeps_its_kind(
    storage: Storage, index: Index, make: Callable[[Storage], Digest]
) -> None:
    """If a linked blob is not a manifest of a supported type, its row keeps the kind BLOB.

    The rebuild must continue, because data directories of other programs can have older types of
    manifests.
    """
    digest = make(storage)
    Repositories(storage).link_manifest(NAME, digest)

    rebuild(storage, index, NOW)

    entry = index.entry(digest)
    assert entry is not None
    assert entry.kind is ContentKind.BLOB


def test_a_link_without_its_manifest_is_skipped(storage: Storage, index: Index) -> None:
    """A rebuild adds no row for a link whose manifest is not stored."""
    Repositories(storage).link_manifest(NAME, Digest.of(b"evicted"))

    rebuild(storage, index, NOW)

    assert index.count() == 0


def test_foreign_files_among_the_blobs_are_skipped(storage: Storage, index: Index) -> None:
    """A rebuild adds no row for a file of another program in the folder of blobs."""
    storage.write(f"{layout.BLOBS}/sha256/ab/README", b"hello")

    rebuild(storage, index, NOW)

    assert index.count() == 0


# ---- a storage without times


def test_without_times_all_content_counts_as_used_at_the_rebuild(index: Index) -> None:
    """If the storage stores no times, all content gets the time of the rebuild as its last use."""
    storage = MemoryStorage()
    digest = Digest.of(b"content")
    BlobStore(storage).write(digest, b"content")

    rebuild(storage, index, NOW)

    row = index.entry(digest)
    assert row is not None
    assert row.used == NOW


def test_times_of_links_to_absent_content_are_forgotten_after_an_hour(tmp_path: Path) -> None:
    """A rebuild deletes the times of links to absent content, if they are older than an hour."""
    clock, storage = Clock(NOW), MemoryStorage()
    index = open_index(tmp_path, clock)
    stored, absent = Digest.of(b"content"), Digest.of(b"absent")
    BlobStore(storage).write(stored, b"content")
    for number in range(600):
        index.link_times.confirm(f"absent/{number}", absent)
        index.link_times.confirm(f"stored/{number}", stored)
    index.link_times.confirm("young", absent)
    rebuild(storage, index, NOW + 3600)
    assert index.link_times.get("absent/0")
    clock.now = NOW + 3601
    index.link_times.confirm("young", absent)

    rebuild(storage, index, NOW + 3601)

    left = index.link_times.page("", 2000)
    index.close()
    assert [each.key for each in left if each.digest == absent] == ["young"]
    assert len(left) == 601
