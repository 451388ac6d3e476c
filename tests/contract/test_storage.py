"""The Storage protocol, held against every driver."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datastore.errors import NotFound
from datastore.memory import MemoryStorage
from datastore.storage import Storage


def _local_file(folder: Path, content: bytes) -> Path:
    path = folder / "finished"
    path.write_bytes(content)
    return path


class TestStat:
    """What is known of a value."""

    def test_an_absent_value_has_none(self, storage: Storage) -> None:
        """Absence is an answer and no error."""
        assert storage.stat("a/b") is None

    def test_size_and_time_are_those_of_the_value(self, storage: Storage) -> None:
        """`size` in bytes, `modified` in s, UTC epoch."""
        storage.write("a/b", b"12345")
        storage.stamp("a/b", 1_000_000_000.5)

        stat = storage.stat("a/b")

        assert stat is not None
        assert (stat.key, stat.size, stat.modified) == ("a/b", 5, 1_000_000_000.5)

    def test_what_lies_above_a_value_is_none_itself(self, storage: Storage) -> None:
        """A folder is no value."""
        storage.write("a/b", b"")

        assert storage.stat("a") is None

    def test_nothing_lies_below_a_value(self, storage: Storage) -> None:
        """A value is no folder."""
        storage.write("a/b", b"")

        assert storage.stat("a/b/c") is None


class TestReading:
    """`read` and `open`."""

    def test_read_gives_what_was_written(self, storage: Storage) -> None:
        """Bytes come back as they went in."""
        storage.write("key", b"\x00\xff value")

        assert storage.read("key") == b"\x00\xff value"

    @pytest.mark.parametrize("length", [0, 1, 65535, 65536, 65537, 200_000])
    def test_what_is_longer_than_wanted_is_not_read(self, storage: Storage, length: int) -> None:
        """A layer that is asked for as a manifest must not come into memory."""
        storage.write("key", b"x" * length)

        assert storage.read("key", length) == storage.read("key", length + 1) == b"x" * length
        if length:
            with pytest.raises(NotFound):
                storage.read("key", length - 1)

    @pytest.mark.parametrize("key", ["absent", "above", "above/value/below"])
    def test_what_is_absent_is_not_found(self, storage: Storage, key: str) -> None:
        """`read` and `open` name the key that leads to nothing."""
        storage.write("above/value", b"")

        with pytest.raises(NotFound) as of_read:
            storage.read(key)
        with pytest.raises(NotFound) as of_open:
            storage.open(key)

        assert (of_read.value.key, of_open.value.key) == (key, key)

    def test_an_open_value_can_be_read_from_anywhere(self, storage: Storage) -> None:
        """A range is the same file after `seek`."""
        storage.write("key", b"0123456789")

        with storage.open("key") as file:
            file.seek(7)
            rest = file.read()

        assert rest == b"789"

    def test_an_open_value_survives_its_deletion(self, storage: Storage) -> None:
        """Readers of what the cleaner removes finish undisturbed."""
        storage.write("key", b"content")

        with storage.open("key") as file:
            storage.delete("key")

            assert file.read() == b"content"

    def test_an_open_value_survives_its_replacement(self, storage: Storage) -> None:
        """A reader sees one value from its first byte to its last."""
        storage.write("key", b"old")

        with storage.open("key") as file:
            storage.write("key", b"new")

            assert file.read() == b"old"


class TestWrite:
    """Small values."""

    def test_a_second_value_replaces_the_first(self, storage: Storage) -> None:
        """There is one value under a key."""
        storage.write("key", b"first and longer")
        storage.write("key", b"second")

        assert storage.read("key") == b"second"

    def test_an_empty_value_is_one(self, storage: Storage) -> None:
        """Nothing is something."""
        storage.write("key", b"")

        assert storage.read("key") == b""

    def test_readers_see_the_old_value_or_the_new(self, storage: Storage) -> None:
        """No reader ever sees a mixture, however often it looks."""
        values = {bytes([number]) * 5000 for number in range(1, 60)}
        storage.write("key", next(iter(values)))
        seen: set[bytes] = set()
        ended = threading.Event()

        def look() -> None:
            while not ended.is_set():
                seen.add(storage.read("key"))
            seen.add(storage.read("key"))

        reader = threading.Thread(target=look)
        reader.start()
        for value in values:
            storage.write("key", value)
        ended.set()
        reader.join()

        assert seen <= values


class TestAdopt:
    """Finished local files."""

    def test_a_local_file_becomes_the_value(self, storage: Storage, tmp_path: Path) -> None:
        """The bytes are under the key, and the path is gone."""
        path = _local_file(tmp_path, b"content")

        storage.adopt(path, "a/b/data")

        assert storage.read("a/b/data") == b"content"
        assert not path.exists()

    def test_it_replaces_a_value(self, storage: Storage, tmp_path: Path) -> None:
        """Two that bring the same content do not disturb each other."""
        storage.write("key", b"old")

        storage.adopt(_local_file(tmp_path, b"new"), "key")

        assert storage.read("key") == b"new"

    def test_readers_of_the_local_file_go_on(self, storage: Storage, tmp_path: Path) -> None:
        """Clients that follow a download keep the file that they follow."""
        path = _local_file(tmp_path, b"content")

        with path.open("rb") as reader:
            storage.adopt(path, "key")

            assert reader.read() == b"content"

    def test_an_absent_file_is_not_found(self, storage: Storage, tmp_path: Path) -> None:
        """Nothing is made of nothing."""
        with pytest.raises(NotFound):
            storage.adopt(tmp_path / "absent", "key")

        assert storage.stat("key") is None


class TestDelete:
    """Values and their folders go."""

    def test_a_value_is_gone_after(self, storage: Storage) -> None:
        """True says that there was one."""
        storage.write("a/b", b"")

        assert storage.delete("a/b") is True
        assert storage.stat("a/b") is None

    @pytest.mark.parametrize("key", ["absent", "above", "above/value/below"])
    def test_deleting_what_is_absent_is_fine(self, storage: Storage, key: str) -> None:
        """False says that there was nothing; a folder is not removed with what is in it."""
        storage.write("above/value", b"kept")

        assert storage.delete(key) is False
        assert storage.read("above/value") == b"kept"

    def test_the_folders_go_with_the_last_value(self, storage: Storage) -> None:
        """What lies above a value is listed only as long as there is one."""
        storage.write("a/b/c/one", b"")
        storage.write("a/two", b"")

        storage.delete("a/b/c/one")

        assert list(storage.list("a")) == ["two"]

    def test_others_come_and_go_meanwhile(self, storage: Storage) -> None:
        """One thread's deletion never takes the folder from under another's write."""
        keys = [f"a/b/{number}/value" for number in range(4)]

        def write_and_delete(key: str) -> None:
            for _ in range(40):
                storage.write(key, b"content")
                assert storage.read(key) == b"content"
                assert storage.delete(key)
            storage.write(key, b"last")

        errors = _run_all([partial(write_and_delete, key) for key in keys])

        assert errors == []
        assert [stat.key for stat in storage.walk("a")] == keys


class TestSetAside:
    """A value gets another key, if it still is what was looked at."""

    def test_the_value_that_was_opened_is_moved(self, storage: Storage) -> None:
        """With what it held; the first key is free."""
        storage.write("a/b", b"content")
        with storage.open("a/b") as file:
            assert storage.set_aside("a/b", "c/d", file)

        assert storage.stat("a/b") is None
        assert storage.read("c/d") == b"content"

    def test_a_value_that_was_replaced_stays(self, storage: Storage) -> None:
        """The new one was never looked at."""
        storage.write("a/b", b"old")
        with storage.open("a/b") as file:
            storage.write("a/b", b"new")

            assert not storage.set_aside("a/b", "c/d", file)

        assert storage.read("a/b") == b"new"
        assert storage.stat("c/d") is None

    def test_a_value_that_is_gone_is_no_error(self, storage: Storage) -> None:
        """Another process was quicker."""
        storage.write("a/b", b"old")
        with storage.open("a/b") as file:
            storage.delete("a/b")

            assert not storage.set_aside("a/b", "c/d", file)


class TestStamp:
    """The file time, on which the order of eviction can be rebuilt."""

    def test_what_is_absent_is_not_stamped(self, storage: Storage) -> None:
        """A stamp makes no value and is no error."""
        storage.stamp("absent", 5.0)

        assert storage.stat("absent") is None

    def test_a_stamp_leaves_the_content(self, storage: Storage) -> None:
        """Only the time moves."""
        storage.write("key", b"content")

        storage.stamp("key", 5.0)

        assert storage.read("key") == b"content"


class TestListAndWalk:
    """What is there."""

    def test_list_gives_the_names_directly_below_in_order(self, storage: Storage) -> None:
        """Each name once, values and folders alike."""
        for key in ("a/z", "a/b/1", "a/b/2", "a/c", "ab/x", "a.b/x"):
            storage.write(key, b"")

        assert list(storage.list("a")) == ["b", "c", "z"]

    def test_walk_gives_every_value_below_in_the_order_of_components(
        self, storage: Storage
    ) -> None:
        """A slash sorts before every other character."""
        for key in ("a/c.d/1", "a/c/2", "a/b", "other/1"):
            storage.write(key, key.encode())

        walked = [(stat.key, stat.size) for stat in storage.walk("a")]

        assert walked == [("a/b", 3), ("a/c/2", 5), ("a/c.d/1", 7)]

    @pytest.mark.parametrize("key", ["absent", "value", "value/below"])
    def test_below_what_is_no_folder_there_is_nothing(self, storage: Storage, key: str) -> None:
        """Absence is an answer and no error."""
        storage.write("value", b"")

        assert (list(storage.list(key)), list(storage.walk(key))) == ([], [])

    def test_a_walk_survives_what_is_deleted_meanwhile(self, storage: Storage) -> None:
        """What vanishes before its turn is left out."""
        for name in "abcd":
            storage.write(f"top/{name}/value", b"")
        walk = storage.walk("top")

        first = next(walk)
        storage.delete("top/b/value")
        storage.delete("top/c/value")

        assert [first.key, *(stat.key for stat in walk)] == ["top/a/value", "top/d/value"]

    def test_a_storage_that_was_never_used_is_empty(self, storage: Storage) -> None:
        """No verb needs another one before it."""
        assert (list(storage.list("")), list(storage.walk(""))) == ([], [])

    def test_nothing_is_ever_left_unfinished_by_what_ended(self, storage: Storage) -> None:
        """`tidy` finds only what died."""
        storage.write("a/b", b"content")

        assert storage.tidy("", before=float("inf")) == 0
        assert storage.read("a/b") == b"content"


_KEYS = st.lists(st.sampled_from(["a", "b", "a.b", "c-d", "_e"]), min_size=1, max_size=4)


@settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.tuples(_KEYS, st.booleans()), max_size=8))
def test_every_driver_shows_what_the_simplest_one_shows(
    storage: Storage, steps: list[tuple[list[str], bool]]
) -> None:
    """Whatever is written and deleted in whatever order, what is left is the same."""
    for stat in list(storage.walk("")):
        storage.delete(stat.key)
    model = MemoryStorage()
    for parts, is_write in steps:
        key = "/".join([*parts, "value"])  # as in our layout, no value lies below another
        for each in (storage, model):
            if is_write:
                each.write(key, key.encode())
            else:
                each.delete(key)

    assert [s.key for s in storage.walk("")] == [s.key for s in model.walk("")]
    assert list(storage.list("")) == list(model.list(""))


def _run_all(tasks: list[Callable[[], None]]) -> list[BaseException]:
    """Run all at once and return what they raised."""
    errors: list[BaseException] = []

    def run(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            errors.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors
