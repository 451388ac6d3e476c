"""Run one transaction on an SQLite connection in autocommit mode."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def immediate(connection: sqlite3.Connection) -> Iterator[None]:
    """Run a `with` block in a transaction that acquires the write lock at its start.

    The transaction is committed at the end of the block, or rolled back after an exception.
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
