"""Tests that the driver `sqlite` repairs or replaces a broken index without a restart."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from entrepot.datastore.drivers import sqlite_health as health
from entrepot.datastore.drivers.sqlite import SqliteIndex
from entrepot.datastore.drivers.sqlite_file import SqliteFile
from entrepot.datastore.errors import IndexUnavailable
from entrepot.datastore.index import REBUILT, ContentKind, IndexEntry
from entrepot.datastore.refs import Digest

A, B, C = Digest.of(b"a"), Digest.of(b"b"), Digest.of(b"c")
_HEADER_BYTES = 100


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the index file."""
    return tmp_path / "state" / "index.sqlite"


@pytest.fixture
def index(path: Path) -> Iterator[SqliteIndex]:
    """Return a rebuilt index with two rows and a reservation."""
    made = SqliteIndex(path, busy_timeout=0.2, clock=lambda: 100.0)
    made.record(A, 10, ContentKind.BLOB, 5.0)
    made.record(B, 20, ContentKind.BLOB, 6.0)
    made.reservations.reserve(C, 30, None, 7.0)
    made.notes.put({REBUILT: "1"})
    yield made
    made.close()


def _works(index: SqliteIndex, within: int = 3) -> bool:
    """Return True if the index accepts a row and a reservation within a few tries."""
    for _ in range(within):
        try:
            index.record(B, 2, ContentKind.BLOB, 2.0)
            index.notes.put({REBUILT: "1"})
            return index.reservations.reserve(C, 1, 10_000, 1.0) and bool(index.oldest(None, 9))
        except IndexUnavailable:
            continue
    return False


def _change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as foreign:
        for each in statements:
            foreign.execute(each)


@pytest.mark.parametrize(
    "bits", [0xFF, *(pytest.param(1 << n, marks=pytest.mark.soak) for n in range(8))]
)
def test_any_byte_of_the_header_may_be_damaged(path: Path, index: SqliteIndex, bits: int) -> None:
    """If any byte of the header of the index file is damaged, the index works again soon.

    The file is either still usable or is replaced.
    """
    index.close()
    whole = path.read_bytes()
    for offset in range(_HEADER_BYTES):
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ bits]) + whole[offset + 1 :])
        damaged = SqliteIndex(path, busy_timeout=0.2)

        assert _works(damaged), f"byte {offset} of the header"
        damaged.close()
        for file in path.parent.iterdir():
            file.unlink()


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "something").write_bytes(b"")


_IN_PLACE: dict[str, Callable[[Path], None]] = {
    "folder": _folder,
    "dangling link": lambda path: path.symlink_to(path.parent / "nowhere" / "file"),
    "link to a folder": lambda path: path.symlink_to(path.parent),
    "pipe": os.mkfifo,
    "text": lambda path: path.symlink_to("/proc/version"),
}


@pytest.mark.parametrize("put", _IN_PLACE.values(), ids=_IN_PLACE)
def test_anything_in_place_of_the_index_is_moved_aside(
    path: Path, index: SqliteIndex, put: Callable[[Path], None]
) -> None:
    """If something other than an index file is at the path of the index, a new index replaces it.

    A folder, a link, a pipe or another file is renamed to `.broken`, even if `.broken` exists.
    """
    for _ in range(2):
        index.close()
        path.unlink()
        put(path)

        assert _works(index)
        assert path.is_file()
        assert not path.is_symlink()


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_folder_in_place_of_its_log_or_shared_memory_is_removed(
    path: Path, index: SqliteIndex, suffix: str
) -> None:
    """A folder at the path of SQLite's write-ahead log or shared memory is removed."""
    index.close()
    path.with_name(f"{path.name}{suffix}").mkdir()

    assert _works(index)


_CHANGES = {
    "no table": ("DROP TABLE blob",),
    "no trigger": ("DROP TRIGGER blob_made",),
    "no index": ("DROP INDEX eviction",),
    "another trigger": (
        "DROP TRIGGER blob_gone",
        "CREATE TRIGGER blob_gone AFTER DELETE ON blob BEGIN UPDATE total SET rows = 0; END",
    ),
    "no counters": ("DELETE FROM total",),
    "counters twice": ("INSERT INTO total VALUES (0, 0, 0)",),
    "negative": ("UPDATE total SET bytes = -1000000",),
    "no number": ("UPDATE total SET bytes = 'many'",),
}


@pytest.mark.parametrize("statements", _CHANGES.values(), ids=_CHANGES)
def test_a_changed_schema_or_impossible_counters_are_detected_when_opened(
    path: Path, index: SqliteIndex, statements: tuple[str, ...]
) -> None:
    """When a process opens the index file, it checks the schema and the counters.

    A file with a changed schema is replaced, and impossible counters are recomputed.
    """
    index.close()
    _change(path, *statements)

    assert _works(index)
    assert index.inspect() == ""


def test_running_processes_recover_from_a_deleted_log(path: Path, index: SqliteIndex) -> None:
    """If SQLite's write-ahead log or shared memory is deleted, running processes recover.

    If only the log is deleted, SQLite's shared-memory file still refers to pages of the log, even
    for a process that starts later.
    """
    for suffix in ("-wal", "-shm"):
        path.with_name(f"{path.name}{suffix}").unlink()
        late = SqliteIndex(path, busy_timeout=0.2)

        assert _works(late)
        assert _works(index)
        late.close()


@pytest.mark.parametrize("total", [10**13, -(10**13), 3], ids=["10 TB", "negative", "too small"])
def test_wrong_counters_are_corrected_while_processes_run(
    path: Path, index: SqliteIndex, total: int
) -> None:
    """An inspection corrects wrong counters of the index while processes use it.

    With wrong counters, the appliance would exceed the cap or store no download.
    """
    before = index.reservations.used_bytes()
    _change(path, f"UPDATE total SET bytes = {total}")

    assert "counted" in index.inspect()

    assert (index.reservations.used_bytes(), index.inspect()) == (before, "")


def test_no_reservation_is_made_while_counters_are_negative(path: Path, index: SqliteIndex) -> None:
    """While the counter of used bytes is negative, every reservation is refused."""
    _change(path, "UPDATE total SET bytes = -10000000000")

    assert not index.reservations.reserve(Digest.of(b"d"), 10, 10_000, 1.0)


def test_a_thorough_inspection_finds_contradicting_pages(path: Path, index: SqliteIndex) -> None:
    """A thorough inspection finds pages of the index file that contradict each other.

    Without this inspection, SQLite detects a contradiction only if it happens to read both pages.
    """
    index.close()
    content = bytearray(path.read_bytes())
    content[content.rindex(bytes.fromhex(A.hex))] ^= 1
    path.write_bytes(content)
    assert index.inspect() == ""

    wrong = index.inspect(thoroughly=True)

    assert "integrity" in wrong or "malformed" in wrong
    assert index.notes.get(REBUILT) is None
    assert _works(index)


def test_last_uses_in_the_future_are_set_to_now(path: Path, index: SqliteIndex) -> None:
    """An inspection replaces last uses in the future with the current time.

    With a last use in the future, content would not be evicted before that time.
    """
    _change(path, "UPDATE blob SET used = 9999999999 WHERE size = 10")

    assert index.inspect() == "the last uses of some rows were in the future"
    assert index.oldest(None, 9) == [
        IndexEntry(B, 20, ContentKind.BLOB, 6.0),
        IndexEntry(A, 10, ContentKind.BLOB, 100.0),
    ]


def test_the_index_is_not_replaced_if_the_disk_is_the_cause(
    index: SqliteIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the disk accepts no writes, the index file is not replaced, so no last use is lost."""
    index.close()
    with monkeypatch.context() as broken:
        broken.setattr(health, "takes_writes", lambda _: False)
        broken.setattr(sqlite3, "connect", _refuse)
        for _ in range(3):
            with pytest.raises(IndexUnavailable):
                index.reservations.used_bytes()

    assert index.entry(A) == IndexEntry(A, 10, ContentKind.BLOB, 5.0)


def _refuse(*_: object, **__: object) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    raise error


def test_a_busy_index_costs_one_wait(path: Path, index: SqliteIndex) -> None:
    """If another process has locked the index, the first call waits for the whole time-out.

    For some seconds after that, other calls wait only briefly.
    """
    index.close()
    file = SqliteFile(path, busy_timeout=0.3)
    waits = []
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(IndexUnavailable), file.writing():
                pass
            waits.append(time.monotonic() - began)
        wait_s = file._wait_s(file._process())

    with file.writing() as db:
        db.execute("DELETE FROM blob")
    assert waits[0] >= 0.3 > max(waits[1:])
    assert wait_s == pytest.approx(0.02)
    file.close()
