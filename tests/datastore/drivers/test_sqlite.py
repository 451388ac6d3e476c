"""Tests how the driver `sqlite` handles broken files, forks, locks, long logs and large tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from entrepot.datastore.budget import OVERHEAD, WAL_BYTES
from entrepot.datastore.drivers import sqlite, sqlite_parts
from entrepot.datastore.drivers.sqlite import SqliteIndex
from entrepot.datastore.errors import IndexUnavailable
from entrepot.datastore.index import REBUILT, ContentKind, IndexEntry
from entrepot.datastore.refs import Digest
from tests.processes import next_line, run, running

Opened = Callable[..., SqliteIndex]

A, B = Digest.of(b"a"), Digest.of(b"b")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the index; its folder does not exist yet."""
    return tmp_path / "state" / "index.sqlite"


@pytest.fixture
def opened(path: Path) -> Iterator[Opened]:
    """Return a function that opens the index as another process would."""
    indexes: list[SqliteIndex] = []

    def open_one(busy_timeout: float = 5.0) -> SqliteIndex:
        indexes.append(SqliteIndex(path, busy_timeout=busy_timeout))
        return indexes[-1]

    yield open_one
    for index in indexes:
        index.close()


@pytest.fixture
def index(opened: Opened) -> SqliteIndex:
    """Return an index that has one row."""
    index = opened()
    index.record(A, 10, ContentKind.BLOB, 5.0)
    return index


@pytest.fixture
def other(opened: Opened, index: SqliteIndex) -> SqliteIndex:
    """Return a second object for the same index file, as another process would have."""
    del index  # The fixture `index` must have created the file before.
    return opened()


def _many(count: int) -> list[Digest]:
    return [Digest.of(number.to_bytes(4, "big")) for number in range(count)]


def _log_bytes(path: Path) -> int:
    log = path.with_name(f"{path.name}-wal")
    return log.stat().st_size if log.exists() else 0


# ---- normal operation of the index


def test_a_row_persists_after_a_close(index: SqliteIndex, opened: Opened) -> None:
    """After the index was closed and opened again, its rows are unchanged."""
    index.close()

    assert opened().entry(A) == IndexEntry(A, 10, ContentKind.BLOB, 5.0)


def test_two_processes_see_each_others_changes(index: SqliteIndex, other: SqliteIndex) -> None:
    """Each of two processes immediately sees the changes that the other makes to the index."""
    other.touch({A: 9.0})
    index.reservations.reserve(B, 7, None, 1.0)

    assert (index.oldest(None, 1), other.reservations.used_bytes()) == (
        [IndexEntry(A, 10, ContentKind.BLOB, 9.0)],
        index.reservations.used_bytes(),
    )


def test_readers_and_the_writer_do_not_wait_for_each_other(index: SqliteIndex, path: Path) -> None:
    """While a process writes to the index, another process can read the old rows."""
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE blob SET used = 99")

    assert index.entry(A) == IndexEntry(A, 10, ContentKind.BLOB, 5.0)
    writer.close()


# ---- busy writers, and an index that is unavailable


def test_the_index_is_unavailable_while_another_writer_holds_its_lock(
    opened: Opened, path: Path
) -> None:
    """While another writer has locked the index, a write raises IndexUnavailable after a wait.

    After the lock was released, a write succeeds.
    """
    index = opened(busy_timeout=0.01)
    index.record(A, 10, ContentKind.BLOB, 5.0)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")

    with pytest.raises(IndexUnavailable, match="locked"):
        index.touch({A: 9.0})
    writer.close()
    index.touch({A: 9.0})

    assert index.entry(A) == IndexEntry(A, 10, ContentKind.BLOB, 9.0)


def test_the_index_is_unavailable_if_its_file_cannot_be_created(tmp_path: Path) -> None:
    """If the index file cannot be created, the driver raises IndexUnavailable, not OSError."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(IndexUnavailable):
        SqliteIndex(tmp_path / "file" / "index.sqlite").reservations.used_bytes()


def test_a_failed_transaction_is_rolled_back(index: SqliteIndex) -> None:
    """If the notes of a `touch` cannot be stored, its last uses are not stored either."""
    with pytest.raises(IndexUnavailable):
        index.touch({A: 9.0}, {"key": None})  # type: ignore[dict-item]  # refused by the schema

    assert (index.entry(A), index.notes.get("key")) == (
        IndexEntry(A, 10, ContentKind.BLOB, 5.0),
        None,
    )
    index.touch({A: 8.0}, {"key": "1"})
    assert index.entry(A) == IndexEntry(A, 10, ContentKind.BLOB, 8.0)


# ---- a broken, lost or replaced file


def _damage(path: Path) -> None:
    """Overwrite the whole file of the index, including its header."""
    path.write_bytes(b"not a database, but long enough to be taken for one" * 1000)


def test_a_broken_file_is_moved_aside_and_replaced(index: SqliteIndex, path: Path) -> None:
    """A broken index file is renamed to `.broken`; an index that needs a rebuild replaces it."""
    index.notes.put({REBUILT: "1"})
    index.close()
    _damage(path)

    assert (index.entry(A), index.notes.get(REBUILT), index.reservations.used_bytes()) == (
        None,
        None,
        0,
    )
    assert path.with_name("index.sqlite.broken").read_bytes().startswith(b"not a database")


def test_a_file_that_breaks_while_it_is_open_is_replaced_for_every_process(
    index: SqliteIndex, other: SqliteIndex, opened: Opened, path: Path
) -> None:
    """If an index file breaks while processes have it open, one process replaces it.

    The other processes then use the new file.
    """
    index.close()
    other.reservations.used_bytes()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))

    opened().record(B, 1, ContentKind.BLOB, 1.0)
    index.record(B, 2, ContentKind.BLOB, 2.0)

    assert other.oldest(None, 9) == [IndexEntry(B, 2, ContentKind.BLOB, 2.0)]
    assert path.with_name("index.sqlite.broken").exists()


def test_an_index_deleted_under_running_processes_is_replaced_once(
    index: SqliteIndex, other: SqliteIndex, opened: Opened, path: Path
) -> None:
    """If an index file is deleted while processes have it open, all of them use one new file.

    No process continues with the deleted file or removes the write-ahead log of the new file.
    """
    other.reservations.used_bytes()
    for file in path.parent.iterdir():
        file.unlink()

    index.record(B, 2, ContentKind.BLOB, 2.0)
    other.record(A, 1, ContentKind.BLOB, 1.0)
    other.close()

    assert index.oldest(None, 9) == [
        IndexEntry(A, 1, ContentKind.BLOB, 1.0),
        IndexEntry(B, 2, ContentKind.BLOB, 2.0),
    ]
    index.close()
    assert opened().count() == 2


def test_an_index_of_another_version_is_moved_aside(index: SqliteIndex, path: Path) -> None:
    """If an index file has another version of the schema, an empty index replaces it."""
    index.close()
    foreign = sqlite3.connect(path, isolation_level=None)
    foreign.execute("PRAGMA user_version = 999")
    foreign.close()

    assert index.count() == 0
    assert path.with_name("index.sqlite.broken").exists()


def test_an_index_of_version_0_1_gets_the_table_of_link_times(
    index: SqliteIndex, path: Path
) -> None:
    """An index file of version 0.1 keeps its rows, and gets the table of link times."""
    index.close()
    older = sqlite3.connect(path, isolation_level=None)
    older.execute("DROP TABLE link")
    older.close()

    index.link_times.confirm("key", A)

    assert index.link_times.get("key") is not None
    assert index.count() == 1
    assert not path.with_name("index.sqlite.broken").exists()


def test_an_empty_file_becomes_an_index(opened: Opened, path: Path) -> None:
    """If the index file is empty, as after a crash at its creation, it becomes a new index."""
    path.parent.mkdir()
    path.touch()

    assert opened().reservations.used_bytes() == 0


# ---- several processes with one index

_FORK = """
import os, sys, threading
from pathlib import Path
from entrepot.datastore.index import ContentKind
from entrepot.datastore.refs import Digest
from entrepot.datastore.drivers.sqlite import SqliteIndex
index = SqliteIndex(Path(sys.argv[1]))
index.record(Digest.of(b"parent"), 1, ContentKind.BLOB, 1.0)
begun, ended = threading.Event(), threading.Event()
def hold_the_connection():
    with index._file.reading():
        begun.set()
        ended.wait()
thread = threading.Thread(target=hold_the_connection)
thread.start()
begun.wait()
child = os.fork()
ended.set()
name = b"parent" if child else b"child"
for number in range(100):
    index.record(Digest.of(name + bytes([number])), 1, ContentKind.BLOB, 2.0)
if child:
    _, status = os.waitpid(child, 0)
    print(status, index.count())
index.close()
os._exit(0)
"""


def test_a_fork_opens_its_own_connection(path: Path) -> None:
    """A forked process opens its own connection to the index.

    If the child used the connection of its parent, the file could become corrupt. The child needs a
    new lock too: a lock that a thread of the parent had at the fork is never released in the child.
    """
    assert run(_FORK, path).split() == ["0", "201"]
    check = sqlite3.connect(path)
    assert check.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    check.close()


_RECORD_UNTIL_KILLED = """
import itertools, sys
from pathlib import Path
from entrepot.datastore.index import ContentKind
from entrepot.datastore.refs import Digest
from entrepot.datastore.drivers.sqlite import SqliteIndex
index = SqliteIndex(Path(sys.argv[1]))
for number in itertools.count():
    digest = Digest.of(sys.argv[2].encode() + str(number).encode())
    index.reservations.reserve(digest, 100, None, 1.0)
    index.record(digest, 100, ContentKind.BLOB, 1.0)
    print(number)
"""


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_correct_totals(opened: Opened, path: Path) -> None:
    """If a writer is killed at any moment, the counters still match the rows and reservations."""
    index = opened()
    for rounds in range(4):
        with running(_RECORD_UNTIL_KILLED, path, rounds) as process:
            last = [next_line(process) for _ in range(10 * rounds + 1)][-1]
            process.kill()
            process.wait()

        rows, reserved = index.oldest(None, 100_000), index.reservations.all()
        assert len(rows) > int(last)
        assert index.count() == len(rows)
        assert index.reservations.used_bytes() == (100 + OVERHEAD) * (len(rows) + len(reserved))
        for each in reserved:
            index.reservations.release(each.digest)


# ---- size and speed of the index


@pytest.mark.slow
def test_the_log_is_truncated_after_a_long_transaction(index: SqliteIndex, path: Path) -> None:
    """After a long transaction, SQLite's write-ahead log is truncated, to save disk space."""
    index.restore([IndexEntry(digest, 1, ContentKind.BLOB, 1.0) for digest in _many(30_000)])

    assert _log_bytes(path) <= 2 * WAL_BYTES


def test_the_log_stays_short_over_many_small_transactions(
    index: SqliteIndex, other: SqliteIndex, path: Path
) -> None:
    """During many small transactions the write-ahead log stays short.

    It stays short even if another process reads rows between the transactions.
    """
    digests = _many(300)
    index.restore([IndexEntry(digest, 1, ContentKind.BLOB, 1.0) for digest in digests])
    longest = 0
    for at in range(3):
        for digest in digests:
            index.touch({digest: 2.0 + at})
            other.oldest(None, 10)
            longest = max(longest, _log_bytes(path))

    assert longest <= 2 * WAL_BYTES


@pytest.mark.slow
def test_no_write_waits_for_a_slow_reader_while_the_log_is_long(opened: Opened, path: Path) -> None:
    """If the write-ahead log is long and another process reads, a write does not wait for the read.

    When the read has ended, the next write truncates the log. After that, the time-out for locks
    has its usual value again.
    """
    statements: list[str] = []
    index = opened(busy_timeout=3.0)
    index.record(A, 10, ContentKind.BLOB, 5.0)
    with index._file.reading() as connection:
        connection.set_trace_callback(statements.append)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM blob").fetchall()
        index.restore([IndexEntry(each, 1, ContentKind.BLOB, 1.0) for each in _many(30_000)])
        index.touch({A: 6.0})
        longest = _log_bytes(path)
    index.touch({A: 7.0})
    truncations = [at for at, sql in enumerate(statements) if "wal_checkpoint" in sql]

    assert longest > 2 * WAL_BYTES
    assert _log_bytes(path) <= 2 * WAL_BYTES
    assert truncations
    assert all(statements[at - 1] == "PRAGMA busy_timeout = 0" for at in truncations)
    assert index._file.select("PRAGMA busy_timeout") == [(3000,)]


@pytest.mark.parametrize(
    "name",
    ["_SPREAD", "_SET_USED", "_RECORD", "_RESTORE", "_OLDEST", "_MARK", "_USED_BYTES", "_RESERVE"],
)
def test_no_statement_scans_all_rows(index: SqliteIndex, path: Path, name: str) -> None:
    """No frequent SQL statement scans all rows, because that would be slow with a million rows."""
    del index  # The fixture has created the file.
    db = sqlite3.connect(path)
    db.execute("CREATE TEMP TABLE stamp (digest BLOB PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID")
    sql = getattr(sqlite, name, None) or getattr(sqlite_parts, name)
    named = {"digest": b"", "size": 0, "kind": 0, "at": 0.0}

    plan = db.execute(f"EXPLAIN QUERY PLAN {sql}", [0] * sql.count("?") or named).fetchall()

    db.close()
    steps = [step for *_, step in plan]
    for table in ("blob", "edge", "reservation", "pin"):
        assert f"SCAN {table}" not in steps
    assert not any(step.startswith("USE TEMP B-TREE FOR ORDER") for step in steps)
