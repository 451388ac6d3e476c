"""Check that a file system supports the operations that the index and downloads need.

Some network file systems and union file systems do not implement every operation. The appliance
tries the operations when it starts. Without these tests, a missing operation would be noticed only
when it has caused damage: a corrupt index, or two downloads that write to the same file.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from entrepot.datastore.errors import DatastoreError
from entrepot.datastore.locks import try_lock

REMEDY = "set ENTREPOT_STATEDIR to a directory on a local disk"

_OTHER_PROCESS_S = 10.0
_IS_REFUSED = """
import fcntl, sys
try:
    fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(0)
sys.exit("the file system gave one lock to two processes")
"""
_READS_ROW = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
if db.execute("SELECT count(*) FROM probe").fetchone() != (1,):
    sys.exit("another process did not see the written row")
"""


def probe(folder: Path) -> list[str]:
    """Return a message with a remedy for each operation that does not work in *folder*.

    The list is empty if all operations work. All test files are removed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="probe-", dir=folder) as scratch:
            tried = [_try(name, trial, Path(scratch)) for name, trial in _TRIALS.items()]
    except OSError as error:
        return [f"{folder} cannot be written to ({error.strerror}): make it writable, or {REMEDY}"]
    return [f"{folder}: {problem}; {REMEDY}" for problem in tried if problem]


class _Failed(Exception):  # noqa: N818 - private to this module
    """A `_Failed` is the failure of a trial; its text is shown to the operator."""


def _try(name: str, trial: Callable[[Path], None], scratch: Path) -> str | None:
    try:
        trial(scratch)
    except (_Failed, OSError, sqlite3.Error, DatastoreError) as error:
        return f"{name} does not work here ({error})"
    return None


def _rename(scratch: Path) -> None:
    """Check that a rename can replace a file that a reader has open, and sync the folder."""
    old, new = scratch / "old", scratch / "new"
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    with old.open("rb") as reader:
        new.rename(old)
        if (reader.read(), old.read_bytes()) != (b"old", b"new"):
            raise _Failed("a reader lost the file that it had open")
    descriptor = os.open(scratch, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flock(scratch: Path) -> None:
    """Lock a file, and check that neither this process nor another process can lock it again."""
    path = scratch / "lock"
    locked = try_lock(path)
    if locked is None:
        raise _Failed("a file without a lock cannot be locked")
    with locked:
        if try_lock(path) is not None:
            raise _Failed("the file system gave one lock twice")
        _run_in_other_process(_IS_REFUSED, path)


def _wal(scratch: Path) -> None:
    """Write a row to a database in WAL mode, and check that another process can read the row."""
    path = scratch / "probe.sqlite"
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        if connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise _Failed("the file system cannot share memory")
        connection.execute("CREATE TABLE probe (value)")
        connection.execute("INSERT INTO probe VALUES (1)")
        _run_in_other_process(_READS_ROW, path)
    finally:
        connection.close()


def _run_in_other_process(program: str, path: Path) -> None:
    command = [sys.executable, "-I", "-S", "-c", program, os.fspath(path)]
    try:
        done = subprocess.run(  # noqa: S603 - both programs are constants in this file
            command, capture_output=True, timeout=_OTHER_PROCESS_S, check=False, text=True
        )
    except subprocess.TimeoutExpired as error:
        raise _Failed("another process hung during the test") from error
    if done.returncode:
        raise _Failed(done.stderr.strip().rpartition("\n")[2])


_TRIALS: dict[str, Callable[[Path], None]] = {
    "rename": _rename,
    "flock": _flock,
    "SQLite's write-ahead log": _wal,
}
