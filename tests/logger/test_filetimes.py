"""Tests of `FileTimes`, which sets the times of stored files to the last uses of the content."""

from __future__ import annotations

from entrepot.datastore import layout
from entrepot.datastore.drivers.memory import MemoryIndex, MemoryStorage
from entrepot.datastore.index import ContentKind
from entrepot.datastore.refs import Digest
from entrepot.datastore.storage import Stat
from entrepot.logger.filetimes import STEP_S, FileTimes
from tests.timed_storage import TimedMemoryStorage

MANIFEST, LAYER, OTHER = (Digest.of(each) for each in (b"m", b"l", b"o"))
START = 1_000_000.0


class Store:
    """A storage and an index with an image, which has a manifest that refers to a layer."""

    def __init__(self) -> None:
        self.storage = TimedMemoryStorage(lambda: START)
        self.index = MemoryIndex()
        for digest in (MANIFEST, LAYER, OTHER):
            self.storage.write(layout.blob(digest), b"x")
        self.index.record(MANIFEST, 1, ContentKind.MANIFEST, START, children=[LAYER])

    def times(self, limit: int = 100) -> FileTimes:
        """Return a `FileTimes`, which keeps at most *limit* unwritten times."""
        return FileTimes(self.storage, self.index, limit=limit)

    def modified(self, digest: Digest) -> float:
        """Return the time of the file of *digest* (s after START)."""
        stat = self.storage.stat(layout.blob(digest))
        assert stat is not None
        return stat.modified - START


def test_a_file_time_is_written_once_an_hour() -> None:
    """The time of a file is written at most once an hour, so hits cause few writes."""
    store = Store()
    times = store.times()
    times.follow({OTHER: START + STEP_S - 1})
    before = store.modified(OTHER)
    times.follow({OTHER: START + STEP_S})

    assert before == 0
    assert store.modified(OTHER) == STEP_S


def test_the_layers_of_a_manifest_get_its_file_time() -> None:
    """If the file time of a manifest is set, its layers get the same file time.

    Otherwise a layer would be evicted before its manifest after a rebuild of the index.
    """
    store = Store()
    store.times().follow({MANIFEST: START + STEP_S})

    assert store.modified(LAYER) == store.modified(MANIFEST) == STEP_S


def test_a_part_that_was_used_later_than_its_manifest_keeps_its_time() -> None:
    """A file time is never set back, so a layer that was used after its manifest keeps its time."""
    store = Store()
    times = store.times()
    times.follow({LAYER: START + 3 * STEP_S})
    times.follow({MANIFEST: START + STEP_S})

    assert store.modified(LAYER) == 3 * STEP_S


def test_a_flush_writes_smaller_differences() -> None:
    """When the logger exits, it also writes file times that differ only slightly from the last use.

    So the order of the file times is the order of the last uses. A layer that was used later than
    its manifest keeps the later file time.
    """
    store = Store()
    times = store.times()
    times.follow({MANIFEST: START + 5, LAYER: START + 9, OTHER: START + 7})
    times.flush(60)

    assert [store.modified(each) for each in (MANIFEST, OTHER, LAYER)] == [5, 7, 9]


def test_a_flush_ends_at_its_deadline() -> None:
    """`flush` writes the times of the latest uses first, and ends at its deadline."""
    store = Store()
    times = store.times()
    times.follow({LAYER: START + 5, OTHER: START + 7})
    ticks = iter([0.0, 0.0, 2.0])
    times.flush(1, clock=lambda: next(ticks))

    assert store.modified(OTHER) == 7
    assert store.modified(LAYER) == 0


def test_the_number_of_unwritten_times_is_bounded() -> None:
    """If too many file times are unwritten, the logger writes the time of the oldest use."""
    store = Store()
    store.times(limit=1).follow({LAYER: START + 5, OTHER: START + 7})

    assert store.modified(LAYER) == 5
    assert store.modified(OTHER) == 0


def test_the_access_time_of_a_missing_file_is_ignored() -> None:
    """If the file of a blob is missing, the logger skips the file's time without an error."""
    store = Store()
    absent = Digest.of(b"absent")
    times = store.times()
    times.follow({absent: START + STEP_S})
    times.flush(60)

    assert store.storage.stat(layout.blob(absent)) is None


class Asked(MemoryStorage):
    """A storage without times; `asked` lists each key for which `stat` was called."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def stat(self, key: str) -> Stat | None:
        """Append *key* to `asked`, and return the attributes of its value."""
        self.asked.append(key)
        return super().stat(key)


def test_a_storage_without_times_gets_none() -> None:
    """With a storage without file times, the logger writes last uses only to the index."""
    storage, index = Asked(), MemoryIndex()
    storage.write(layout.blob(OTHER), b"x")
    times = FileTimes(storage, index)

    times.follow({OTHER: START + 2 * STEP_S})
    times.flush(1.0)

    assert storage.asked == []
