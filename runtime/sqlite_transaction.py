"""Run one transaction on an SQLite connection in autocommit mode."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def immediate(connection: sqlite3.Connection) -> Iterator[None]:
    """Run a `with` block in a transaction that acquires the write lock at its start.

    At the end of the block the transaction is committed. After an exception it is rolled back.
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
