"""Check the SQLite file of the index, and recompute its counters."""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
from contextlib import closing, suppress
from functools import lru_cache
from pathlib import Path

_PROBE_BYTES = 64 * 1024
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
# This statement computes the right values of the counters: bytes, rows, reservations.
_SUMS = """
SELECT (SELECT coalesce(sum(size), 0) FROM blob)
     + (SELECT coalesce(sum(size), 0) FROM reservation),
       (SELECT count(*) FROM blob), (SELECT count(*) FROM reservation)
"""
_COUNTERS = "SELECT bytes, rows, reservations FROM total"
_OBJECTS = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite%'"


class UnusableIndex(sqlite3.DatabaseError):
    """The index file is not an index that this version of the program can use."""


def is_broken(error: Exception) -> bool:
    """Return whether an error proves that the file itself is broken, not only its disk."""
    return isinstance(error, UnusableIndex) or code(error) in _CORRUPT


def code(error: Exception) -> int:
    """Return the primary result code of an error of SQLite; 0 for any other error."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def takes_writes(folder: Path) -> bool:
    """Return whether a new file in *folder* can be written and synced.

    If so, the disk works, and the cause of an error of SQLite is the index file.
    """
    path = folder / f"probe-{secrets.token_hex(8)}"
    try:
        with path.open("xb", buffering=0) as file:
            file.write(bytes(_PROBE_BYTES))
            os.fsync(file.fileno())
    except OSError:
        return False
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    return True


def set_aside(path: Path) -> None:
    """Rename a broken file to `.broken`, so that the operator can examine it.

    Only the latest broken file is kept: an earlier `.broken` is deleted, even if it is a folder or
    a symlink. The write-ahead log of the broken file is deleted too. Raises: OSError.
    """
    kept = path.with_name(f"{path.name}.broken")
    for old in (path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm"), kept):
        _remove(old)
    with suppress(FileNotFoundError):
        path.replace(kept)


def check_schema(connection: sqlite3.Connection, schema: str) -> None:
    """Raise UnusableIndex if a table, index or trigger of *schema* is missing or differs."""
    if not _objects(schema) <= set(connection.execute(_OBJECTS).fetchall()):
        raise UnusableIndex("a part of the index's schema is missing")


def check_pages(path: Path) -> None:
    """Read the whole SQLite file and compare its indexes with its tables. Raises: sqlite3.Error."""
    with closing(_read_only_connection(path)) as connection:
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found != ("ok",):
        raise UnusableIndex(f"integrity check: {found and found[0]}")


def check_writes(connection: sqlite3.Connection) -> None:
    """Write to the file and roll back; if another process is writing, check nothing.

    Raises: sqlite3.Error if the file cannot be written.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE total SET rows = rows")
        connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        if code(error) not in BUSY:
            raise


def wrong_counters(path: Path) -> str:
    """Return the counters and their right values as a text; an empty text if they are equal.

    The function reads with its own connection and in one transaction, so that no other process has
    to wait. Raises: sqlite3.Error.
    """
    with closing(_read_only_connection(path)) as connection:
        connection.execute("BEGIN")
        counted = connection.execute(_COUNTERS).fetchall()
        (right,) = connection.execute(_SUMS).fetchall()
    return "" if counted == [right] else f"counted {counted}, are {right}"


def count_anew(connection: sqlite3.Connection) -> None:
    """Recompute the counters from the rows, within the caller's transaction."""
    (right,) = connection.execute(_SUMS).fetchall()
    connection.execute("DELETE FROM total")
    connection.execute("INSERT INTO total VALUES (?, ?, ?)", right)


def are_plausible(connection: sqlite3.Connection) -> bool:
    """Return whether each counter is 0 or a positive number, without reading the rows."""
    counted = connection.execute(_COUNTERS).fetchall()
    return len(counted) == 1 and all(isinstance(each, int) and each >= 0 for each in counted[0])


@lru_cache(1)
def _objects(schema: str) -> frozenset[tuple[str, str, str]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(schema)
        return frozenset(connection.execute(_OBJECTS).fetchall())


def _read_only_connection(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
