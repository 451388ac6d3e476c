"""Tests of links: the time of a link is the time of its file, or is stored in the index."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from entrepot.datastore.drivers.memory import MemoryIndex, MemoryStorage
from entrepot.datastore.drivers.table import INDEXES, STORAGES
from entrepot.datastore.errors import IndexUnavailable
from entrepot.datastore.index import Index, LinkTime, LinkTimes
from entrepot.datastore.links import UNKNOWN, FileLinks, IndexLinks, Links, links_of
from entrepot.datastore.refs import Digest
from entrepot.datastore.storage import Storage, as_timed
from tests.clock import Clock
from tests.timed_storage import TimedMemoryStorage

A, B = Digest.of(b"a"), Digest.of(b"b")
KEY, OTHER = "tags/v1/link", "tags/v2/link"
_IN_INDEX = [f"times in {name}" for name in (*INDEXES, "memory")]


@dataclass
class Place:
    """A storage for links and their times.

    Each call of `open` returns new `Links`, as each process has its own.
    """

    clock: Clock
    storage: Storage
    open: Callable[[], Links]
    indexes: list[Index] = field(default_factory=list)


def _disk(folder: Path, clock: Clock) -> Place:
    storage = STORAGES["filesystem"]({"rootdirectory": folder}, clock)
    return Place(clock, storage, lambda: links_of(storage))


def _files_in_memory(clock: Clock) -> Place:
    storage = TimedMemoryStorage(clock)
    return Place(clock, storage, lambda: links_of(storage))


def _in_index(name: str, folder: Path, clock: Clock) -> Place:
    storage, memory, indexes = MemoryStorage(), MemoryIndex(clock=clock), list[Index]()

    def opened() -> Links:
        indexes.append(memory if name == "memory" else INDEXES[name](folder, clock))
        return links_of(storage, indexes[-1].link_times)

    return Place(clock, storage, opened, indexes)


@pytest.fixture(params=["files", "files in memory", *_IN_INDEX])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Yield an empty storage for links; each test runs with every way to store link times."""
    made = _place(request.param, tmp_path, Clock(float(int(time.time()))))
    yield made
    for each in made.indexes:
        each.close()


def _place(name: str, folder: Path, clock: Clock) -> Place:
    if name == "files":
        return _disk(folder, clock)
    if name == "files in memory":
        return _files_in_memory(clock)
    return _in_index(name.removeprefix("times in "), folder, clock)


@pytest.fixture
def links(place: Place) -> Links:
    """Return the links of `place`, as one process opens them."""
    return place.open()


class TestEveryPlace:
    """Rules for all links, with file times or with times that are stored in the index."""

    def test_an_absent_link_has_neither_digest_nor_time(self, links: Links) -> None:
        """For an absent link, `read` and `confirmed` return None."""
        assert (links.read(KEY), links.confirmed(KEY)) == (None, None)

    def test_a_written_link_is_confirmed_now(self, links: Links, place: Place) -> None:
        """Writing a link confirms it at the current time of the appliance's clock."""
        links.write(KEY, A)

        assert links.read(KEY) == (A, place.clock.now)
        assert links.confirmed(KEY) == place.clock.now

    def test_to_write_a_link_again_confirms_it(self, links: Links, place: Place) -> None:
        """Writing a link again confirms it at the current time; other links keep their times."""
        written = place.clock.now
        links.write(KEY, A)
        links.write(OTHER, A)
        place.clock.now += 60

        links.write(KEY, A)

        assert links.read(KEY) == (A, written + 60)
        assert links.read(OTHER) == (A, written)

    def test_a_link_has_the_digest_that_was_written_last(self, links: Links, place: Place) -> None:
        """`read` returns the digest that was last written to the link.

        The digest is stored as text, which docker distribution can read.
        """
        links.write(KEY, A)
        place.clock.now += 1
        links.write(KEY, B)

        assert links.read(KEY) == (B, place.clock.now)
        assert place.storage.read(KEY) == str(B).encode()

    def test_a_kept_link_has_its_digest(self, links: Links) -> None:
        """`keep` writes a link whose time is never read, such as a link in the history of a tag."""
        links.keep(KEY, A)
        links.keep(KEY, B)

        found = links.read(KEY)
        assert found is not None
        assert found[0] == B

    def test_a_removed_link_is_absent(self, links: Links) -> None:
        """A deleted link is absent; deleting it a second time returns False."""
        links.write(KEY, A)

        assert (links.delete(KEY), links.delete(KEY)) == (True, False)
        assert (links.read(KEY), links.confirmed(KEY)) == (None, None)

    @pytest.mark.parametrize("content", [b"", b"sha256:short", b"\xff\xfe", b"x" * 5000])
    def test_an_unreadable_link_counts_as_absent(
        self, links: Links, place: Place, content: bytes
    ) -> None:
        """If another program writes a link without a valid digest, the link counts as absent."""
        place.storage.write(KEY, content)
        assert links.read(KEY) is None

        links.write(KEY, A)

        assert links.read(KEY) == (A, place.clock.now)

    def test_every_process_sees_the_confirmation_of_one(self, place: Place) -> None:
        """If one process confirms a link, every other process reads the link's new time."""
        one, other = place.open(), place.open()
        one.write(KEY, A)
        assert other.read(KEY) == (A, place.clock.now)
        place.clock.now += 60

        one.write(KEY, A)

        assert other.read(KEY) == (A, place.clock.now)
        assert other.confirmed(KEY) == place.clock.now


class Counting(MemoryStorage):
    """A storage that has no file times and counts its writes."""

    writes = 0

    def write(self, key: str, data: bytes) -> None:
        """Count the write, and store the value."""
        self.writes += 1
        super().write(key, data)


class Unavailable:
    """The link times of an index that cannot be opened."""

    def get(self, key: str) -> LinkTime | None:
        """Raise IndexUnavailable."""
        raise IndexUnavailable(key)

    def confirm(self, key: str, digest: Digest) -> None:
        """Raise IndexUnavailable."""
        raise IndexUnavailable(f"{key} {digest}")

    def page(self, after: str, limit: int) -> list[LinkTime]:
        """Raise IndexUnavailable."""
        raise IndexUnavailable(f"{after} {limit}")

    def forget(self, keys: Iterable[str]) -> None:
        """Raise IndexUnavailable."""
        raise IndexUnavailable(str(keys))


class TestTimesInTheIndex:
    """Rules for links whose times are in the index, because their storage has no file times."""

    def test_the_driver_decides_where_times_are_kept(self, tmp_path: Path) -> None:
        """On a disk the times of links are file times; for a bucket they are in the index."""
        disk, index = STORAGES["filesystem"]({"rootdirectory": tmp_path}, None), MemoryIndex()
        links = links_of(disk, index.link_times)
        links.write(KEY, A)

        assert isinstance(links, FileLinks)
        assert index.link_times.page("", 10) == []
        assert as_timed(disk) is disk
        assert isinstance(links_of(MemoryStorage(), index.link_times), IndexLinks)

    def test_a_confirmation_writes_nothing_to_the_storage(self) -> None:
        """If an unchanged link is confirmed, only its time in the index is written.

        With a bucket, each write to the link would cost a request.
        """
        storage, clock = Counting(), Clock(1000.0)
        links = links_of(storage, MemoryIndex(clock=clock).link_times)
        for _ in range(3):
            links.write(KEY, A)
            links.keep(OTHER, A)

        assert storage.writes == 2

    def test_after_the_loss_of_the_index_a_time_is_unknown(self) -> None:
        """After the index is lost, the times of links are unknown.

        The links are then treated as if they had been confirmed long ago.
        """
        storage = MemoryStorage()
        links_of(storage, MemoryIndex().link_times).write(KEY, A)

        links = links_of(storage, MemoryIndex().link_times)

        assert links.read(KEY) == (A, UNKNOWN)
        assert links.confirmed(KEY) == UNKNOWN

    def test_the_time_of_another_digest_does_not_count(self) -> None:
        """If the index contains another digest's time for a link, the link's time is unknown.

        A process writes the link first and its time afterwards. If the process is killed in
        between, the index still contains the time of the old digest.
        """
        storage, times = MemoryStorage(), MemoryIndex().link_times
        links = links_of(storage, times)
        links.write(KEY, A)
        storage.write(KEY, str(B).encode())

        assert links.read(KEY) == (B, UNKNOWN)

    def test_a_removed_link_leaves_no_time(self) -> None:
        """If a link is deleted, its time is also deleted.

        Otherwise a link that another program writes later would be treated as confirmed.
        """
        storage, times = MemoryStorage(), MemoryIndex().link_times
        links = links_of(storage, times)
        links.write(KEY, A)
        links.delete(KEY)

        assert times.page("", 10) == []

    @pytest.mark.parametrize("times", [Unavailable(), None], ids=["unavailable", "none"])
    def test_links_work_without_an_index(self, times: LinkTimes | None) -> None:
        """While the index is unavailable, links can be written and read, but without times."""
        links = links_of(MemoryStorage(), times)
        links.write(KEY, A)

        assert (links.read(KEY), links.confirmed(KEY)) == ((A, UNKNOWN), UNKNOWN)
        assert links.delete(KEY) is True
        assert links.read(KEY) is None
