"""The methods of a storage follow the same rules with every driver."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.datastore.drivers.memory import MemoryStorage
from entrepot.datastore.errors import NotFound
from entrepot.datastore.storage import Storage, as_timed, descriptor_of, set_time, time_of


def _local_file(folder: Path, content: bytes) -> Path:
    path = folder / "finished"
    path.write_bytes(content)
    return path


class TestStat:
    """`stat` of a storage returns the attributes of a value."""

    def test_an_absent_value_has_no_attributes(self, storage: Storage) -> None:
        """For an absent value, `stat` returns None."""
        assert storage.stat("a/b") is None

    def test_key_and_size_are_those_of_the_value(self, storage: Storage) -> None:
        """The attributes of a value include its key and its size in bytes."""
        storage.write("a/b", b"12345")

        stat = storage.stat("a/b")

        assert stat is not None
        assert (stat.key, stat.size) == ("a/b", 5)

    def test_the_folder_of_a_value_is_no_value(self, storage: Storage) -> None:
        """A folder is not a value, so `stat` of its key returns None."""
        storage.write("a/b", b"")

        assert storage.stat("a") is None

    def test_there_is_no_value_below_a_value(self, storage: Storage) -> None:
        """A key below the key of a value (`a/b` below `a`) has no value."""
        storage.write("a/b", b"")

        assert storage.stat("a/b/c") is None


class TestReading:
    """`read` and `open` of a storage return the content of a value."""

    def test_read_returns_the_written_bytes(self, storage: Storage) -> None:
        """`read` returns exactly the bytes that were written."""
        storage.write("key", b"\x00\xff value")

        assert storage.read("key") == b"\x00\xff value"

    @pytest.mark.parametrize("length", [0, 1, 65535, 65536, 65537, 200_000])
    def test_a_value_longer_than_the_limit_is_not_read(self, storage: Storage, length: int) -> None:
        """If a value is longer than the limit, `read` raises NotFound.

        The limit matters because a client can request the digest of a large layer as a manifest.
        """
        storage.write("key", b"x" * length)

        assert storage.read("key", length) == storage.read("key", length + 1) == b"x" * length
        if length:
            with pytest.raises(NotFound):
                storage.read("key", length - 1)

    @pytest.mark.parametrize("key", ["absent", "above", "above/value/below"])
    def test_an_absent_value_raises_not_found(self, storage: Storage, key: str) -> None:
        """For an absent value, `read` and `open` raise NotFound with its key."""
        storage.write("above/value", b"")

        with pytest.raises(NotFound) as of_read:
            storage.read(key)
        with pytest.raises(NotFound) as of_open:
            storage.open(key)

        assert (of_read.value.key, of_open.value.key) == (key, key)

    def test_an_open_value_can_be_read_from_any_offset(self, storage: Storage) -> None:
        """After `seek`, an open value can be read from any offset, as a range request requires."""
        storage.write("key", b"0123456789")

        with storage.open("key") as file:
            file.seek(7)
            rest = file.read()

        assert rest == b"789"

    def test_an_open_value_can_be_read_after_its_deletion(self, storage: Storage) -> None:
        """If a value is deleted while it is open, all its bytes can still be read.

        The cleaner can evict content that a client is reading.
        """
        storage.write("key", b"content")

        with storage.open("key") as file:
            storage.delete("key")

            assert file.read() == b"content"

    def test_an_open_value_can_be_read_after_its_replacement(self, storage: Storage) -> None:
        """If a value is replaced while it is open, all bytes of the old value can still be read."""
        storage.write("key", b"old")

        with storage.open("key") as file:
            storage.write("key", b"new")

            assert file.read() == b"old"


class TestWrite:
    """`write` stores a small value under a key."""

    def test_a_second_value_replaces_the_first(self, storage: Storage) -> None:
        """If a key already has a value, `write` replaces it."""
        storage.write("key", b"first and longer")
        storage.write("key", b"second")

        assert storage.read("key") == b"second"

    def test_an_empty_value_is_stored(self, storage: Storage) -> None:
        """An empty value can be stored and differs from an absent value."""
        storage.write("key", b"")

        assert storage.read("key") == b""

    def test_readers_see_the_old_value_or_the_new(self, storage: Storage) -> None:
        """If a value is replaced, a reader gets the old or the new value, never a mixture."""
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
    """`commit_file` makes a finished local file the value of a key."""

    def test_a_local_file_becomes_the_value(self, storage: Storage, tmp_path: Path) -> None:
        """After `commit_file`, the key has the file's content, and the local path is gone."""
        path = _local_file(tmp_path, b"content")

        storage.commit_file(path, "a/b/data")

        assert storage.read("a/b/data") == b"content"
        assert not path.exists()

    def test_a_local_file_replaces_a_value(self, storage: Storage, tmp_path: Path) -> None:
        """`commit_file` replaces an existing value.

        So two processes can commit the same content without a conflict.
        """
        storage.write("key", b"old")

        storage.commit_file(_local_file(tmp_path, b"new"), "key")

        assert storage.read("key") == b"new"

    def test_readers_of_the_local_file_continue(self, storage: Storage, tmp_path: Path) -> None:
        """A reader that has opened the local file can read it to its end after the commit."""
        path = _local_file(tmp_path, b"content")

        with path.open("rb") as reader:
            storage.commit_file(path, "key")

            assert reader.read() == b"content"

    def test_an_absent_local_file_raises_not_found(self, storage: Storage, tmp_path: Path) -> None:
        """If the local file is absent, `commit_file` raises NotFound and creates no value."""
        with pytest.raises(NotFound):
            storage.commit_file(tmp_path / "absent", "key")

        assert storage.stat("key") is None


class TestDelete:
    """`delete` deletes a value and the folders that become empty as a result."""

    def test_a_value_is_absent_after_its_deletion(self, storage: Storage) -> None:
        """`delete` of an existing value returns True, and the value is absent afterwards."""
        storage.write("a/b", b"")

        assert storage.delete("a/b") is True
        assert storage.stat("a/b") is None

    @pytest.mark.parametrize("key", ["absent", "above", "above/value/below"])
    def test_the_deletion_of_an_absent_value_is_no_error(self, storage: Storage, key: str) -> None:
        """`delete` of an absent value returns False.

        `delete` with the key of a folder deletes nothing in that folder.
        """
        storage.write("above/value", b"kept")

        assert storage.delete(key) is False
        assert storage.read("above/value") == b"kept"

    def test_empty_folders_are_deleted_with_their_last_value(self, storage: Storage) -> None:
        """If the last value of a folder is deleted, `list` no longer returns the folder."""
        storage.write("a/b/c/one", b"")
        storage.write("a/two", b"")

        storage.delete("a/b/c/one")

        assert list(storage.list("a")) == ["two"]

    def test_concurrent_deletions_and_writes_do_not_disturb_each_other(
        self, storage: Storage
    ) -> None:
        """If threads write and delete values in one folder, no write fails.

        A deletion never removes a folder into which another thread writes.
        """
        keys = [f"a/b/{number}/value" for number in range(4)]

        def write_and_delete(key: str) -> None:
            for _ in range(40):
                storage.write(key, b"content")
                assert storage.read(key) == b"content"
                assert storage.delete(key)
            storage.write(key, b"last")

        errors = _run_all([partial(write_and_delete, key) for key in keys])

        assert errors == []
        assert sorted(stat.key for stat in storage.walk("a")) == keys


class TestSetAside:
    """`set_aside` moves a value to another key if the value is still the one that was opened."""

    def test_the_opened_value_is_moved(self, storage: Storage) -> None:
        """`set_aside` moves the opened value to the second key and leaves the first key absent."""
        storage.write("a/b", b"content")
        with storage.open("a/b") as file:
            assert storage.set_aside("a/b", "c/d", file)

        assert storage.stat("a/b") is None
        assert storage.read("c/d") == b"content"

    def test_a_value_that_was_replaced_stays(self, storage: Storage) -> None:
        """If a value was replaced after it was opened, `set_aside` does not move the new value.

        The caller detected damage only in the old value, so the new value must stay in place.
        """
        storage.write("a/b", b"old")
        with storage.open("a/b") as file:
            storage.write("a/b", b"new")

            assert not storage.set_aside("a/b", "c/d", file)

        assert storage.read("a/b") == b"new"
        assert storage.stat("c/d") is None

    def test_a_deleted_value_is_no_error(self, storage: Storage) -> None:
        """If another process has deleted the value, `set_aside` returns False without an error."""
        storage.write("a/b", b"old")
        with storage.open("a/b") as file:
            storage.delete("a/b")

            assert not storage.set_aside("a/b", "c/d", file)


class TestTimes:
    """`set_time` sets the time of a value; a lost index is rebuilt from these times."""

    def test_the_time_of_an_absent_value_is_not_set(self, storage: Storage) -> None:
        """If a value is absent, `set_time` creates no value and raises no error."""
        set_time(storage, "absent", 5.0)

        assert storage.stat("absent") is None

    def test_only_a_driver_with_times_sets_them(self, storage: Storage) -> None:
        """`set_time` has an effect only if the driver stores times.

        With every driver, it keeps the content of the value.
        """
        storage.write("key", b"content")

        set_time(storage, "key", 5.5)

        stat = storage.stat("key")
        assert stat is not None
        assert time_of(stat) == (5.5 if as_timed(storage) else None)
        assert storage.read("key") == b"content"

    def test_a_written_value_has_the_time_of_the_write(self, storage: Storage) -> None:
        """If the driver stores times, the time of a value is the time of its last write.

        `stat` and `walk` return the same time.
        """
        before = time.time()
        storage.write("a/b", b"12345")

        stat = storage.stat("a/b")
        assert stat is not None
        written = time_of(stat)
        assert [time_of(each) for each in storage.walk("a")] == [written]
        assert (written is None) == (as_timed(storage) is None)
        assert written is None or before - 60 <= written <= time.time() + 60


class TestDescriptors:
    """`descriptor_of` returns a file descriptor for `sendfile`, if the driver has files."""

    def test_a_descriptor_reads_the_value(self, storage: Storage) -> None:
        """The descriptor of an open value reads that value.

        If there is no descriptor, the caller reads the open value itself.
        """
        storage.write("key", b"content")
        with storage.open("key") as file:
            descriptor = descriptor_of(file)

            file.seek(3)
            read = file.read() if descriptor is None else os.pread(descriptor, 10, 3)

        assert read == b"tent"


class TestListAndWalk:
    """`list` returns the names in a folder; `walk` returns all values below a folder."""

    def test_list_returns_the_names_directly_below_in_order(self, storage: Storage) -> None:
        """`list` returns the names directly in a folder, sorted and without duplicates."""
        for key in ("a/z", "a/b/1", "a/b/2", "a/c", "ab/x", "a.b/x"):
            storage.write(key, b"")

        assert list(storage.list("a")) == ["b", "c", "z"]

    def test_walk_returns_every_value_below(self, storage: Storage) -> None:
        """`walk` returns all values below a folder, in any order.

        `walk` returns no values of another folder whose name begins with the same text.
        """
        for key in ("a/c.d/1", "a/c/2", "a/b", "other/1", "ab/1"):
            storage.write(key, key.encode())

        walked = [(stat.key, stat.size) for stat in storage.walk("a")]

        assert sorted(walked) == [("a/b", 3), ("a/c.d/1", 7), ("a/c/2", 5)]

    @pytest.mark.parametrize("key", ["absent", "value", "value/below"])
    def test_below_an_absent_folder_there_are_no_values(self, storage: Storage, key: str) -> None:
        """`list` and `walk` of an absent folder return nothing."""
        storage.write("value", b"")

        assert (list(storage.list(key)), list(storage.walk(key))) == ([], [])

    def test_a_walk_continues_after_a_deletion(self, storage: Storage) -> None:
        """If values are deleted during a `walk`, it continues with the next value."""
        for name in "abcd":
            storage.write(f"top/{name}/value", b"")
        walk = storage.walk("top")

        first = next(walk)
        storage.delete("top/b/value")
        storage.delete("top/c/value")

        walked = {first.key, *(stat.key for stat in walk)}
        assert {"top/a/value", "top/d/value"} <= walked
        assert walked <= {f"top/{name}/value" for name in "abcd"}

    def test_a_new_storage_is_empty(self, storage: Storage) -> None:
        """A new storage has no values, and its methods work without any preparation."""
        assert (list(storage.list("")), list(storage.walk(""))) == ([], [])

    def test_completed_writes_leave_no_temporary_files(self, storage: Storage) -> None:
        """Completed writes leave no temporary files that `remove_unfinished` would find."""
        storage.write("a/b", b"content")

        assert storage.remove_unfinished("", before=float("inf")) == 0
        assert storage.read("a/b") == b"content"


_KEYS = st.lists(st.sampled_from(["a", "b", "a.b", "c-d", "_e"]), min_size=1, max_size=4)


@settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.tuples(_KEYS, st.booleans()), max_size=8))
def test_every_driver_has_the_values_of_the_memory_driver(
    storage: Storage, steps: list[tuple[list[str], bool]]
) -> None:
    """After the same sequence of writes and deletions, every driver contains the same values.

    The test compares each driver with the in-memory driver.
    """
    for stat in list(storage.walk("")):
        storage.delete(stat.key)
    model = MemoryStorage()
    for parts, is_write in steps:
        key = "/".join([*parts, "value"])  # as on a disk, no key is below another key
        for each in (storage, model):
            if is_write:
                each.write(key, key.encode())
            else:
                each.delete(key)

    assert sorted(s.key for s in storage.walk("")) == sorted(s.key for s in model.walk(""))
    assert list(storage.list("")) == list(model.list(""))


def _run_all(tasks: list[Callable[[], None]]) -> list[BaseException]:
    """Run all tasks at the same time, each in a thread; return the exceptions that they raise."""
    errors: list[BaseException] = []

    def run(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:  # noqa: BLE001 - returned to the test
            errors.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors
