"""Open the SQLite file of the index with one connection in each process; replace a broken file.

SQLite runs in WAL mode, in which readers and the writer do not wait for each other. A child process
opens its own connection, and never uses the connection of its parent. If another process has
replaced the file, this process opens a connection to the new file.

In these cases an empty file replaces the index file, and the appliance later rebuilds the rows:

- SQLite reports that the file is corrupt;
- a part of the schema is missing, or the schema has another version;
- the file cannot be opened or read although its disk accepts writes.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from entrepot.datastore.budget import WAL_BYTES
from entrepot.datastore.drivers import sqlite_health as health
from entrepot.datastore.errors import DatastoreError, IndexUnavailable
from entrepot.datastore.locks import lock
from entrepot.runtime.sqlite_transaction import immediate

_PAGE_BYTES = 4096
_VERSION = 3  # The version of the schema; a file with another version is moved aside and rebuilt.
_SCHEMA = """
CREATE TABLE blob (
    digest BLOB PRIMARY KEY, size INTEGER NOT NULL, kind INTEGER NOT NULL, used REAL NOT NULL,
    leaving INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX eviction ON blob (used, kind, digest) WHERE leaving = 0;
CREATE INDEX leaving ON blob (digest) WHERE leaving = 1;
CREATE TABLE edge (
    parent BLOB NOT NULL, place INTEGER NOT NULL, child BLOB NOT NULL, PRIMARY KEY (parent, place)
) WITHOUT ROWID;
CREATE INDEX named_by ON edge (child);
CREATE TABLE reservation (
    digest BLOB PRIMARY KEY, size INTEGER NOT NULL, at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE pin (
    digest BLOB NOT NULL, until REAL NOT NULL, PRIMARY KEY (digest, until)
) WITHOUT ROWID;
CREATE TABLE ahead (digest BLOB PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX unasked ON ahead (at, digest);
CREATE TABLE note (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- Triggers update these sums at each change, because a query that sums all rows takes too long.
CREATE TABLE total (bytes INTEGER NOT NULL, rows INTEGER NOT NULL, reservations INTEGER NOT NULL);
INSERT INTO total VALUES (0, 0, 0);
CREATE TRIGGER blob_made AFTER INSERT ON blob BEGIN
    UPDATE total SET bytes = bytes + new.size, rows = rows + 1;
END;
CREATE TRIGGER blob_sized AFTER UPDATE OF size ON blob WHEN new.size <> old.size BEGIN
    UPDATE total SET bytes = bytes + new.size - old.size;
END;
CREATE TRIGGER blob_gone AFTER DELETE ON blob BEGIN
    UPDATE total SET bytes = bytes - old.size, rows = rows - 1;
END;
CREATE TRIGGER reservation_made AFTER INSERT ON reservation BEGIN
    UPDATE total SET bytes = bytes + new.size, reservations = reservations + 1;
END;
CREATE TRIGGER reservation_sized AFTER UPDATE OF size ON reservation BEGIN
    UPDATE total SET bytes = bytes + new.size - old.size;
END;
CREATE TRIGGER reservation_gone AFTER DELETE ON reservation BEGIN
    UPDATE total SET bytes = bytes - old.size, reservations = reservations - 1;
END;
"""
# Older versions of this program wrote files without these tables, so the tables are added.
_ADDED_TABLES = """
CREATE TABLE IF NOT EXISTS link (
    key TEXT PRIMARY KEY, digest BLOB NOT NULL, at REAL NOT NULL
) WITHOUT ROWID;
"""
_CONNECTION_TABLES = """
CREATE TEMP TABLE stamp (digest BLOB PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
"""
_SHORT_WAIT_S = 0.02
_BUSY_S = 5.0  # After a wait that ended without the lock, waits are short for this many seconds.


class SqliteFile:
    """A `SqliteFile` is one database file, which the first method call creates if it is absent.

    A method waits at most `busy_timeout` seconds for a lock. If it does not get the lock in this
    time, each method waits at most 0.02 s during the next five seconds.
    """

    def __init__(self, path: Path, busy_timeout: float) -> None:
        self._path = path
        self._busy_timeout = busy_timeout
        self._processes: dict[int, _Process] = {}

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield this process's connection to one thread at a time. Raises: IndexUnavailable."""
        process = self._process()
        if not process.lock.acquire(timeout=self._wait_s(process)):
            raise IndexUnavailable(f"{self._path}: busy")
        try:
            yield self._current(process)
        except (sqlite3.Error, OSError, DatastoreError) as error:
            self._after_error(process, error)
            raise IndexUnavailable(f"{self._path}: {error}") from error
        finally:
            process.lock.release()

    def select(self, sql: str, *values: object) -> list[Any]:
        """Return all rows of a query. Raises: IndexUnavailable."""
        with self.reading() as db:
            return db.execute(sql, values).fetchall()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection in a transaction; roll back if the caller raises an exception."""
        with self.reading() as connection:
            with immediate(connection):
                yield connection
            self._bound_log(connection)

    def inspect(self, *, thoroughly: bool) -> str:
        """Compare the counters with the rows; return the defect, or an empty text.

        With *thoroughly*, check all pages of the file too. Wrong counters are recomputed, and an
        empty file replaces a broken file. Raises: IndexUnavailable.
        """
        with self.reading():
            inode = _inode(self._path)
        try:
            if thoroughly:
                health.check_pages(self._path)
            wrong = health.wrong_counters(self._path)
        except sqlite3.Error as error:
            if inode is not None and health.is_broken(error):
                self.replace(inode)
                return str(error)
            raise IndexUnavailable(f"{self._path}: {error}") from error
        if wrong:
            with self.writing() as db:
                health.count_anew(db)
        return wrong

    def close(self) -> None:
        """Close this process's connection; the next method call opens the file again."""
        process = self._process()
        with process.lock:
            process.close()

    def _process(self) -> _Process:
        """Return the state of this process.

        After a fork, the child gets a new state. If a thread of the parent had the lock at the
        fork, the lock in the parent's state would stay locked in the child.
        """
        number = os.getpid()
        return self._processes.get(number) or self._processes.setdefault(number, _Process())

    def _wait_s(self, process: _Process) -> float:
        is_busy = time.monotonic() < process.busy_until
        return min(_SHORT_WAIT_S, self._busy_timeout) if is_busy else self._busy_timeout

    def _current(self, process: _Process) -> sqlite3.Connection:
        wait_s = self._wait_s(process)
        if process.connection is None or process.inode != _inode(self._path):
            process.close()
            process.connection = self._open(is_doubtful=process.is_doubtful)
            process.inode, process.wait_s = _inode(self._path), self._busy_timeout
            process.is_doubtful = False
        if wait_s != process.wait_s:
            process.connection.execute(f"PRAGMA busy_timeout = {int(wait_s * 1000)}").fetchall()
            process.wait_s = wait_s
        return process.connection

    def _open(self, *, is_doubtful: bool) -> sqlite3.Connection:
        """Open the file; create a file if it is absent or broken.

        *is_doubtful* is True after a disk error. The file then counts as broken if some of its
        pages cannot be read, or if it does not accept writes.
        """
        with self._exclusive():
            try:
                return self._try_open(is_doubtful=is_doubtful)
            except sqlite3.Error as error:
                if not health.is_broken(error):
                    return self._retry_open(error, is_doubtful=is_doubtful)
            health.set_aside(self._path)
            return _connect(self._path, self._busy_timeout)

    def _retry_open(self, error: sqlite3.Error, *, is_doubtful: bool) -> sqlite3.Connection:
        """Open the file again after *error*; replace a broken file on a disk that works.

        Raises: sqlite3.Error if the file is locked, or if its disk accepts no writes.
        """
        if health.code(error) in health.BUSY or not health.takes_writes(self._path.parent):
            raise error
        try:
            return self._try_open(is_doubtful=is_doubtful)
        except sqlite3.Error as again:
            if health.code(again) in health.BUSY:
                raise
        health.set_aside(self._path)
        return _connect(self._path, self._busy_timeout)

    def _try_open(self, *, is_doubtful: bool) -> sqlite3.Connection:
        connection = _connect(self._path, self._busy_timeout)
        if is_doubtful:
            try:
                health.check_pages(self._path)
                health.check_writes(connection)
            except sqlite3.Error:
                connection.close()
                raise
        return connection

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Keep other processes from opening or replacing the file.

        The lock is a separate file: a lock on the index file would not apply to the file that
        replaces it.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        locked = lock(self._path.with_name(f"{self._path.name}.lock"), self._busy_timeout)
        if locked is None:
            raise IndexUnavailable("another process has not finished opening the index")
        with locked:
            yield

    def _after_error(self, process: _Process, error: Exception) -> None:
        """Close the connection after *error* unless SQLite was busy; replace a broken file."""
        if health.code(error) in health.BUSY:
            process.busy_until = time.monotonic() + _BUSY_S
            return
        inode = process.inode
        process.close()
        process.is_doubtful = health.code(error) not in (0, sqlite3.SQLITE_FULL)
        if inode is not None and health.is_broken(error):
            self.replace(inode)

    def replace(self, inode: tuple[int, int]) -> None:
        """Rename a broken file to `.broken`, if the file at the path still has this *inode*."""
        with suppress(OSError, DatastoreError), self._exclusive():
            # If the path has another inode, another process has already replaced the file.
            if inode == _inode(self._path):
                health.set_aside(self._path)

    def _bound_log(self, connection: sqlite3.Connection) -> None:
        """Truncate the write-ahead log if a large transaction or a slow reader has made it long.

        Usually a checkpoint that truncates the log waits for readers of other connections, and no
        process can write meanwhile. A reader can take half a minute (an inspection of ten million
        rows). Therefore the checkpoint here does not wait: while there is a reader, the log stays
        long, and a later write truncates it.
        """
        with suppress(OSError, sqlite3.Error):
            if os.stat(f"{self._path}-wal").st_size <= 2 * WAL_BYTES:  # noqa: PTH116 - PERF: each write
                return
            connection.execute("PRAGMA busy_timeout = 0").fetchall()
            try:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                # The value 0 makes the next use of the connection set its busy time-out again.
                self._process().wait_s = 0.0


class _Process:
    """A `_Process` has the connection of one process, and the lock for its threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connection: sqlite3.Connection | None = None
        self.inode: tuple[int, int] | None = None
        self.wait_s = 0.0
        self.busy_until = 0.0
        self.is_doubtful = False

    def close(self) -> None:
        connection, self.connection, self.inode = self.connection, None, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


def _connect(path: Path, busy_timeout: float) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=busy_timeout, isolation_level=None, check_same_thread=False
    )
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    for setting in (
        f"page_size = {_PAGE_BYTES}",
        "journal_mode = WAL",
        "synchronous = NORMAL",
        f"wal_autocheckpoint = {WAL_BYTES // _PAGE_BYTES}",
        f"journal_size_limit = {WAL_BYTES}",
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {setting}").fetchall()
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
    elif version != _VERSION:
        raise health.UnusableIndex(f"schema {version}, not {_VERSION}")
    connection.executescript(_ADDED_TABLES)
    health.check_schema(connection, _SCHEMA + _ADDED_TABLES)
    if not health.are_plausible(connection):
        connection.execute("BEGIN IMMEDIATE")
        health.count_anew(connection)
        connection.execute("COMMIT")
    connection.executescript(_CONNECTION_TABLES)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - PERF: called often
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
