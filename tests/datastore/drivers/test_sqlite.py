"""What only SQLite can do wrong: broken files, forks, busy writers, a log without bound, scans."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from entrepot.datastore.budget import OVERHEAD, WAL_BYTES
from entrepot.datastore.drivers import sqlite
from entrepot.datastore.drivers.sqlite import SqliteIndex
from entrepot.datastore.errors import IndexUnavailable
from entrepot.datastore.index import REBUILT, ContentKind, IndexEntry
from entrepot.datastore.refs import Digest
from tests.processes import next_line, run, running

Opened = Callable[..., SqliteIndex]

A, B = Digest.of(b"a"), Digest.of(b"b")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the index lies; its folder is not made yet."""
    return tmp_path / "state" / "index.sqlite"


@pytest.fixture
def opened(path: Path) -> Iterator[Opened]:
    """Open the index, as one more process would each time."""
    indexes: list[SqliteIndex] = []

    def open_one(busy_timeout: float = 5.0) -> SqliteIndex:
        indexes.append(SqliteIndex(path, busy_timeout=busy_timeout))
        return indexes[-1]

    yield open_one
    for index in indexes:
        index.close()


@pytest.fixture
def index(opened: Opened) -> SqliteIndex:
    """Return an index with one row."""
    index = opened()
    index.record(A, 10, ContentKind.BLOB, 5.0)
    return index


@pytest.fixture
def other(opened: Opened, index: SqliteIndex) -> SqliteIndex:
    """Return the same index as another process would open it."""
    del index  # opened first
    return opened()


def _many(count: int) -> list[Digest]:
    return [Digest.of(number.to_bytes(4, "big")) for number in range(count)]


def _log_bytes(path: Path) -> int:
    log = path.with_name(f"{path.name}-wal")
    return log.stat().st_size if log.exists() else 0


# ---- as it should be


def test_what_was_recorded_is_there_the_next_time(index: SqliteIndex, opened: Opened) -> None:
    """The index outlives its processes."""
    index.close()

    assert opened().entry(A) == IndexEntry(A, 10, ContentKind.BLOB, 5.0)


def test_two_processes_see_each_others_changes(index: SqliteIndex, other: SqliteIndex) -> None:
    """At once, and in both directions."""
    other.touch({A: 9.0})
    index.reserve(B, 7, None, 1.0)

    assert (index.oldest(None, 1), other.used_bytes()) == (
        [IndexEntry(A, 10, ContentKind.BLOB, 9.0)],
        index.used_bytes(),
    )


def test_readers_and_the_writer_do_not_wait_for_each_other(index: SqliteIndex, path: Path) -> None:
    """That is what the write-ahead log is for."""
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE blob SET used = 99")

    assert index.entry(A) == IndexEntry(A, 10, ContentKind.BLOB, 5.0)
    writer.close()


# ---- what does not answer


def test_a_writer_that_does_not_end_makes_the_index_unavailable_for_a_while(
    opened: Opened, path: Path
) -> None:
    """A verb waits as long as it was told, and works again as soon as it can."""
    index = opened(busy_timeout=0.01)
    index.record(A, 10, ContentKind.BLOB, 5.0)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")

    with pytest.raises(IndexUnavailable, match="locked"):
        index.touch({A: 9.0})
    writer.close()
    index.touch({A: 9.0})

    assert index.entry(A) == IndexEntry(A, 10, ContentKind.BLOB, 9.0)


def test_where_no_file_can_be_made_the_index_is_unavailable(tmp_path: Path) -> None:
    """An OSError never leaves the driver."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(IndexUnavailable):
        SqliteIndex(tmp_path / "file" / "index.sqlite").used_bytes()


def test_a_transaction_that_fails_leaves_nothing(index: SqliteIndex) -> None:
    """Stamps and notes go together or not at all."""
    with pytest.raises(IndexUnavailable):
        index.touch({A: 9.0}, {"news": None})  # type: ignore[dict-item]  # refused by the schema

    assert (index.entry(A), index.note("news")) == (IndexEntry(A, 10, ContentKind.BLOB, 5.0), None)
    index.touch({A: 8.0}, {"news": "1"})
    assert index.entry(A) == IndexEntry(A, 10, ContentKind.BLOB, 8.0)


# ---- broken, lost and foreign files


def _damage(path: Path) -> None:
    """Overwrite all of it, its header included."""
    path.write_bytes(b"not a database, but long enough to be taken for one" * 1000)


def test_a_broken_file_is_set_aside_and_made_anew(index: SqliteIndex, path: Path) -> None:
    """The index is derived: a new one, without the note, is rebuilt from the blobs."""
    index.touch({}, {REBUILT: "1"})
    index.close()
    _damage(path)

    assert (index.entry(A), index.note(REBUILT), index.used_bytes()) == (None, None, 0)
    assert path.with_name("index.sqlite.broken").read_bytes().startswith(b"not a database")


def test_a_file_that_breaks_while_it_is_open_is_replaced_for_every_process(
    index: SqliteIndex, other: SqliteIndex, opened: Opened, path: Path
) -> None:
    """Who meets the damage makes a new file, and the others go over to that."""
    index.close()
    other.used_bytes()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))

    opened().record(B, 1, ContentKind.BLOB, 1.0)
    index.record(B, 2, ContentKind.BLOB, 2.0)

    assert other.oldest(None, 9) == [IndexEntry(B, 2, ContentKind.BLOB, 2.0)]
    assert path.with_name("index.sqlite.broken").exists()


def test_an_index_deleted_under_running_processes_is_one_new_one(
    index: SqliteIndex, other: SqliteIndex, opened: Opened, path: Path
) -> None:
    """None goes on with the deleted file, none takes the new one's log with it when it closes."""
    other.used_bytes()
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


def test_an_index_of_another_version_is_set_aside(index: SqliteIndex, path: Path) -> None:
    """An upgrade rebuilds; it never reads what it does not know."""
    index.close()
    foreign = sqlite3.connect(path, isolation_level=None)
    foreign.execute("PRAGMA user_version = 999")
    foreign.close()

    assert index.count() == 0
    assert path.with_name("index.sqlite.broken").exists()


def test_an_empty_file_becomes_an_index(opened: Opened, path: Path) -> None:
    """A crash may leave one between open and the first transaction."""
    path.parent.mkdir()
    path.touch()

    assert opened().used_bytes() == 0


# ---- processes

_FORK = """
import os, sys, threading
from pathlib import Path
from entrepot.datastore.index import ContentKind
from entrepot.datastore.refs import Digest
from entrepot.datastore.drivers.sqlite import SqliteIndex
index = SqliteIndex(Path(sys.argv[1]))
index.record(Digest.of(b"parent"), 1, ContentKind.BLOB, 1.0)
begun, ended = threading.Event(), threading.Event()
def be_in_the_middle_of_a_verb():
    with index._file.reading():
        begun.set()
        ended.wait()
thread = threading.Thread(target=be_in_the_middle_of_a_verb)
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
    """One that crosses a fork corrupts the file, and a lock that does is never let go of."""
    assert run(_FORK, path).split() == ["0", "201"]
    check = sqlite3.connect(path)
    assert check.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    check.close()


_RECORD_FOR_EVER = """
import itertools, sys
from pathlib import Path
from entrepot.datastore.index import ContentKind
from entrepot.datastore.refs import Digest
from entrepot.datastore.drivers.sqlite import SqliteIndex
index = SqliteIndex(Path(sys.argv[1]))
for number in itertools.count():
    digest = Digest.of(sys.argv[2].encode() + str(number).encode())
    index.reserve(digest, 100, None, 1.0)
    index.record(digest, 100, ContentKind.BLOB, 1.0)
    print(number)
"""


def test_a_writer_killed_at_any_moment_leaves_totals_that_are_true(
    opened: Opened, path: Path
) -> None:
    """What `held` says is what the rows and reservations say, after kill -9 too."""
    index = opened()
    for rounds in range(4):
        with running(_RECORD_FOR_EVER, path, rounds) as process:
            last = [next_line(process) for _ in range(10 * rounds + 1)][-1]
            process.kill()
            process.wait()

        rows, promised = index.oldest(None, 100_000), index.reservations()
        assert len(rows) > int(last)
        assert index.count() == len(rows)
        assert index.used_bytes() == (100 + OVERHEAD) * (len(rows) + len(promised))
        for each in promised:
            index.release(each.digest)


# ---- size and speed


def test_the_log_is_short_again_after_a_long_transaction(index: SqliteIndex, path: Path) -> None:
    """The log counts against the cap."""
    index.restore([IndexEntry(digest, 1, ContentKind.BLOB, 1.0) for digest in _many(30_000)])

    assert _log_bytes(path) <= 2 * WAL_BYTES


def test_the_log_stays_short_over_many_small_transactions(
    index: SqliteIndex, other: SqliteIndex, path: Path
) -> None:
    """Also while another process reads its pages."""
    digests = _many(300)
    index.restore([IndexEntry(digest, 1, ContentKind.BLOB, 1.0) for digest in digests])
    longest = 0
    for at in range(3):
        for digest in digests:
            index.touch({digest: 2.0 + at})
            other.oldest(None, 10)
            longest = max(longest, _log_bytes(path))

    assert longest <= 2 * WAL_BYTES


@pytest.mark.parametrize(
    "name",
    ["_SPREAD", "_SET_USED", "_RECORD", "_RESTORE", "_OLDEST", "_MARK", "_USED_BYTES", "_RESERVE"],
)
def test_no_verb_scans_the_rows(index: SqliteIndex, path: Path, name: str) -> None:
    """With a million rows each costs what it costs with ten."""
    del index  # has made the file
    db = sqlite3.connect(path)
    db.execute("CREATE TEMP TABLE stamp (digest BLOB PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID")
    sql = getattr(sqlite, name)
    named = {"digest": b"", "size": 0, "kind": 0, "at": 0.0}

    plan = db.execute(f"EXPLAIN QUERY PLAN {sql}", [0] * sql.count("?") or named).fetchall()

    db.close()
    steps = [step for *_, step in plan]
    for table in ("blob", "edge", "reservation", "pin"):
        assert f"SCAN {table}" not in steps
    assert not any(step.startswith("USE TEMP B-TREE FOR ORDER") for step in steps)
