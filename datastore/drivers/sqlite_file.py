"""The file of the access index: opened once a process, healed when it is broken.

SQLite in WAL mode, where readers and the one writer do not wait for each other. A connection
never crosses a fork, and never outlives its file: when another process has put a new one under
the path, this one goes over to it.

A file is replaced by an empty one, to be rebuilt, when SQLite calls it corrupt, when it lacks a
part of the schema, and when it cannot be opened or read although the disk below it takes writes.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from entrepot.datastore.budget import WAL_BYTES
from entrepot.datastore.drivers import sqlite_health as health
from entrepot.datastore.errors import DatastoreError, IndexUnavailable
from entrepot.datastore.locks import lock

_PAGE_BYTES = 4096
_VERSION = 3  # of the schema; a file of another one is set aside and rebuilt
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

-- what a SUM over a million rows would tell, kept with every change
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
_OF_CONNECTION = """
CREATE TEMP TABLE stamp (digest BLOB PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
"""
_IMPATIENT_S = 0.02
_BUSY_S = 5.0  # for which an index that was busy is taken to be busy still


class SqliteFile:
    """One database, made when absent; `busy_timeout` in s is how long a verb waits for others.

    Once it has waited for nothing, the verbs of the next seconds wait next to nothing.
    """

    def __init__(self, path: Path, busy_timeout: float) -> None:
        self._path = path
        self._busy_timeout = busy_timeout
        self._processes: dict[int, _Process] = {}

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend this process's connection to one thread. Raises: IndexUnavailable."""
        process = self._process()
        if not process.turn.acquire(timeout=self._patience(process)):
            raise IndexUnavailable(f"{self._path}: busy")
        try:
            yield self._current(process)
        except (sqlite3.Error, OSError, DatastoreError) as error:
            self._settle(process, error)
            raise IndexUnavailable(f"{self._path}: {error}") from error
        finally:
            process.turn.release()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Lend it within one transaction, undone when the caller raises."""
        with self.reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # the engine may have undone it already
                    connection.execute("ROLLBACK")
                raise
            self._bound_log(connection)

    def inspect(self, *, thoroughly: bool) -> str:
        """Compare the counters with the rows, *thoroughly* all pages; return what was wrong.

        What was wrong is right afterwards: counted anew, or an empty file in place of a broken one.
        Raises: IndexUnavailable.
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
        """Close this process's connection; the next verb opens it again."""
        process = self._process()
        with process.turn:
            process.close()

    def _process(self) -> _Process:
        """Return what belongs to this process; a parent's is left alone, its lock may be held."""
        number = os.getpid()
        return self._processes.get(number) or self._processes.setdefault(number, _Process())

    def _patience(self, process: _Process) -> float:
        is_busy = time.monotonic() < process.busy_until
        return min(_IMPATIENT_S, self._busy_timeout) if is_busy else self._busy_timeout

    def _current(self, process: _Process) -> sqlite3.Connection:
        patience = self._patience(process)
        if process.connection is None or process.inode != _inode(self._path):
            process.close()
            process.connection = self._opened(is_doubtful=process.is_doubtful)
            process.inode, process.patience = _inode(self._path), self._busy_timeout
            process.is_doubtful = False
        if patience != process.patience:
            process.connection.execute(f"PRAGMA busy_timeout = {int(patience * 1000)}").fetchall()
            process.patience = patience
        return process.connection

    def _opened(self, *, is_doubtful: bool) -> sqlite3.Connection:
        """Open the file, or make it, in place of a broken one too.

        After an error of the disk, *is_doubtful*, all of it must be readable, and take writes.
        """
        with self._alone():
            try:
                return self._tried(is_doubtful=is_doubtful)
            except sqlite3.Error as error:
                if not health.is_broken(error):
                    return self._tried_again(error, is_doubtful=is_doubtful)
            health.set_aside(self._path)
            return _connect(self._path, self._busy_timeout)

    def _tried_again(self, error: sqlite3.Error, *, is_doubtful: bool) -> sqlite3.Connection:
        """Open a file that could not be opened, or replace it if only the file can be the cause."""
        if health.code(error) in health.BUSY or not health.takes_writes(self._path.parent):
            raise error
        try:
            return self._tried(is_doubtful=is_doubtful)
        except sqlite3.Error as again:
            if health.code(again) in health.BUSY:
                raise
        health.set_aside(self._path)
        return _connect(self._path, self._busy_timeout)

    def _tried(self, *, is_doubtful: bool) -> sqlite3.Connection:
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
    def _alone(self) -> Iterator[None]:
        """Keep other processes from opening or replacing the file: neither is a transaction."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        held = lock(self._path.with_name(f"{self._path.name}.lock"), self._busy_timeout)
        if held is None:
            raise IndexUnavailable("another process does not end opening it")
        with held:
            yield

    def _settle(self, process: _Process, error: Exception) -> None:
        """Drop a connection that an error has made doubtful, and its file if that is broken."""
        if health.code(error) in health.BUSY:
            process.busy_until = time.monotonic() + _BUSY_S
            return
        inode = process.inode
        process.close()
        process.is_doubtful = health.code(error) not in (0, sqlite3.SQLITE_FULL)
        if inode is not None and health.is_broken(error):
            self.replace(inode)

    def replace(self, inode: tuple[int, int]) -> None:
        """Set a broken file aside, if it is still the one of that *inode*."""
        with suppress(OSError, DatastoreError), self._alone():
            if inode == _inode(self._path):  # else another process has done it
                health.set_aside(self._path)

    def _bound_log(self, connection: sqlite3.Connection) -> None:
        """Empty the log after a transaction that made it long, or readers that held it back."""
        with suppress(OSError, sqlite3.Error):
            if os.stat(f"{self._path}-wal").st_size > 2 * WAL_BYTES:  # noqa: PTH116 - PERF: each write
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


class _Process:
    """A process's connection, and the turn of its threads."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.connection: sqlite3.Connection | None = None
        self.inode: tuple[int, int] | None = None
        self.patience = 0.0
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
    health.check_schema(connection, _SCHEMA)
    if not health.are_plausible(connection):
        connection.execute("BEGIN IMMEDIATE")
        health.count_anew(connection)
        connection.execute("COMMIT")
    connection.executescript(_OF_CONNECTION)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - PERF: before every verb
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
