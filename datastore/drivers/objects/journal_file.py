"""Open the SQLite file of the journal of a bucket, and translate the errors of SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from entrepot.datastore.errors import StorageBroken, StorageFull

_BUSY_S = 5.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS value (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, size INTEGER NOT NULL, content BLOB,
    at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS change (
    token TEXT PRIMARY KEY, key TEXT NOT NULL, is_removal INTEGER NOT NULL, at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS change_by_key ON change (key);
CREATE TABLE IF NOT EXISTS copy (
    key TEXT PRIMARY KEY, name TEXT NOT NULL, size INTEGER NOT NULL, until REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS listed (folder TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS name (
    folder TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (folder, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS generation (slot INTEGER PRIMARY KEY, number INTEGER NOT NULL);
"""
_VERSION = 1
"""If a file has another version, its table `value` is emptied, so the objects are read again."""


def open_journal(path: Path) -> sqlite3.Connection:
    """Open or create the journal in the file *path*; replace a damaged file with an empty one.

    Raises: sqlite3.Error, OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        if (error.sqlite_errorcode & 0xFF) not in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            raise
    for name in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        name.unlink(missing_ok=True)
    return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    if db.execute("PRAGMA user_version").fetchone() != (_VERSION,):
        db.executescript(f"DROP TABLE IF EXISTS value; PRAGMA user_version = {_VERSION};")
    db.executescript(_SCHEMA)
    return db


@contextmanager
def journal_errors() -> Iterator[None]:
    """Raise StorageFull or StorageBroken for an error of SQLite or of the disk."""
    try:
        yield
    except sqlite3.Error as error:
        is_full = getattr(error, "sqlite_errorcode", 0) & 0xFF in {
            sqlite3.SQLITE_FULL,
            sqlite3.SQLITE_READONLY,
        }
        raise (StorageFull if is_full else StorageBroken)(
            f"journal of the bucket: {error}"
        ) from error
    except OSError as error:
        raise StorageBroken(f"journal of the bucket: {error}") from error
