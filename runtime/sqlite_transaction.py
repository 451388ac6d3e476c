"""Run one immediate transaction of an SQLite connection in autocommit mode."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def immediate(connection: sqlite3.Connection) -> Iterator[None]:
    """Take the lock for writing, and commit at the end; roll back if the caller raises.

    Raises: sqlite3.Error.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # SQLite may have rolled back already.
            connection.execute("ROLLBACK")
        raise
