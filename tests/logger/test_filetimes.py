"""File times that follow last uses."""

from __future__ import annotations

from datastore import layout
from datastore.index import Kind
from datastore.memory import MemoryIndex, MemoryStorage
from datastore.refs import Digest
from logger.filetimes import STEP_S, FileTimes

MANIFEST, LAYER, OTHER = (Digest.of(each) for each in (b"m", b"l", b"o"))
START = 1_000_000.0


class Store:
    """A storage and an index with an image in them: a manifest that names a layer."""

    def __init__(self) -> None:
        self.storage = MemoryStorage(lambda: START)
        self.index = MemoryIndex()
        for digest in (MANIFEST, LAYER, OTHER):
            self.storage.write(layout.blob(digest), b"x")
        self.index.record(MANIFEST, 1, Kind.MANIFEST, START, names=[LAYER])

    def times(self, limit: int = 100) -> FileTimes:
        """Return what is tested."""
        return FileTimes(self.storage, self.index, limit=limit)

    def modified(self, digest: Digest) -> float:
        """Return what the file says, after START."""
        stat = self.storage.stat(layout.blob(digest))
        assert stat is not None
        return stat.modified - START


def test_a_file_follows_a_use_an_hour_later_and_not_sooner() -> None:
    """A hit writes nothing, but for one file time an hour."""
    store = Store()
    times = store.times()
    times.follow({OTHER: START + STEP_S - 1})
    before = store.modified(OTHER)
    times.follow({OTHER: START + STEP_S})

    assert before == 0
    assert store.modified(OTHER) == STEP_S


def test_what_a_manifest_names_moves_with_it() -> None:
    """Else a rebuilt index would let the layer go before the manifest."""
    store = Store()
    store.times().follow({MANIFEST: START + STEP_S})

    assert store.modified(LAYER) == store.modified(MANIFEST) == STEP_S


def test_a_part_that_was_used_later_than_its_manifest_keeps_its_time() -> None:
    """Times only move on."""
    store = Store()
    times = store.times()
    times.follow({LAYER: START + 3 * STEP_S})
    times.follow({MANIFEST: START + STEP_S})

    assert store.modified(LAYER) == 3 * STEP_S


def test_a_flush_writes_what_moved_by_less() -> None:
    """A clean stop leaves the exact order behind; a later use that waits is not lost to a part."""
    store = Store()
    times = store.times()
    times.follow({MANIFEST: START + 5, LAYER: START + 9, OTHER: START + 7})
    times.flush(60)

    assert [store.modified(each) for each in (MANIFEST, OTHER, LAYER)] == [5, 7, 9]


def test_a_flush_ends_in_time() -> None:
    """The latest use first: a stop has a deadline."""
    store = Store()
    times = store.times()
    times.follow({LAYER: START + 5, OTHER: START + 7})
    ticks = iter([0.0, 0.0, 2.0])
    times.flush(1, clock=lambda: next(ticks))

    assert store.modified(OTHER) == 7
    assert store.modified(LAYER) == 0


def test_what_waits_is_bounded() -> None:
    """Beyond the limit the longest waiting is written."""
    store = Store()
    store.times(limit=1).follow({LAYER: START + 5, OTHER: START + 7})

    assert store.modified(LAYER) == 5
    assert store.modified(OTHER) == 0


def test_a_stamp_of_what_is_not_here_does_nothing() -> None:
    """It was evicted, or was never stored."""
    store = Store()
    absent = Digest.of(b"absent")
    times = store.times()
    times.follow({absent: START + STEP_S})
    times.flush(60)

    assert store.storage.stat(layout.blob(absent)) is None
