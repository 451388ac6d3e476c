"""Judges whether the file of the access index can be used, and repairs what its rows tell."""

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
# what the counters must be, from the rows: bytes, rows, reservations
_SUMS = """
SELECT (SELECT coalesce(sum(size), 0) FROM blob)
     + (SELECT coalesce(sum(size), 0) FROM reservation),
       (SELECT count(*) FROM blob), (SELECT count(*) FROM reservation)
"""
_COUNTERS = "SELECT bytes, rows, reservations FROM total"
_OBJECTS = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite%'"


class UnusableIndex(sqlite3.DatabaseError):
    """The file is not an index that this version of the program can use."""


def is_broken(error: Exception) -> bool:
    """Whether an error means that the file itself is broken, whatever the disk does."""
    return isinstance(error, UnusableIndex) or code(error) in _CORRUPT


def code(error: Exception) -> int:
    """Return SQLite's primary result code; 0 where it is none of its errors."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def takes_writes(folder: Path) -> bool:
    """Whether the disk below *folder* works: then an index that fails is broken itself."""
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
    """Keep a broken file, one at a time, for whoever wants to look; make way for a new one.

    Whatever lies there: a folder and a link that leads nowhere are in the way too. Raises: OSError.
    """
    kept = path.with_name(f"{path.name}.broken")
    for old in (path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm"), kept):
        _remove(old)
    with suppress(FileNotFoundError):
        path.replace(kept)


def check_schema(connection: sqlite3.Connection, schema: str) -> None:
    """Raises: Unusable, where a table, an index or a trigger of *schema* is missing or other."""
    if not _objects(schema) <= set(connection.execute(_OBJECTS).fetchall()):
        raise UnusableIndex("a part of the schema is missing")


def check_pages(path: Path) -> None:
    """Read the whole file and compare its indexes with its tables. Raises: sqlite3.Error."""
    with closing(_second(path)) as connection:
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found != ("ok",):
        raise UnusableIndex(f"integrity check: {found and found[0]}")


def check_writes(connection: sqlite3.Connection) -> None:
    """Begin to write, unless another process writes. Raises: sqlite3.Error."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE total SET rows = rows")
        connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        if code(error) not in BUSY:
            raise


def wrong_counters(path: Path) -> str:
    """Return by how much the counters differ from the rows; nothing when they are right.

    On a connection of its own, in one snapshot: nobody waits for it. Raises: sqlite3.Error.
    """
    with closing(_second(path)) as connection:
        connection.execute("BEGIN")
        counted = connection.execute(_COUNTERS).fetchall()
        (right,) = connection.execute(_SUMS).fetchall()
    return "" if counted == [right] else f"counted {counted}, are {right}"


def count_anew(connection: sqlite3.Connection) -> None:
    """Set the counters to what the rows tell, within the caller's transaction."""
    (right,) = connection.execute(_SUMS).fetchall()
    connection.execute("DELETE FROM total")
    connection.execute("INSERT INTO total VALUES (?, ?, ?)", right)


def are_plausible(connection: sqlite3.Connection) -> bool:
    """Whether the counters can be right, without a look at the rows."""
    counted = connection.execute(_COUNTERS).fetchall()
    return len(counted) == 1 and all(isinstance(each, int) and each >= 0 for each in counted[0])


@lru_cache(1)
def _objects(schema: str) -> frozenset[tuple[str, str, str]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(schema)
        return frozenset(connection.execute(_OBJECTS).fetchall())


def _second(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
