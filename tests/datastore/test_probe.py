"""The examination of a file system at the start: its trials, its messages, its clean end."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from entrepot.datastore.probe import REMEDY, probe


def test_a_local_disk_has_no_problem_and_no_file_is_left(tmp_path: Path) -> None:
    """The check of a local disk finds no problem and removes its test files."""
    assert probe(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_created(tmp_path: Path) -> None:
    """A missing folder is created by the check at the start."""
    assert probe(tmp_path / "a" / "b") == []


def test_a_folder_that_cannot_be_written_to_is_one_problem(tmp_path: Path) -> None:
    """A folder that cannot be written to is one problem, not one for each trial."""
    (tmp_path / "file").write_bytes(b"")

    (problem,) = probe(tmp_path / "file" / "below")

    assert "cannot be written to" in problem
    assert REMEDY in problem


def test_a_file_system_without_flock_is_reported_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without flock is reported with the remedy, a mount option."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)

    (problem,) = probe(tmp_path)

    assert problem.startswith(f"{tmp_path}: flock does not work here")
    assert problem.endswith(REMEDY)
    assert list(tmp_path.iterdir()) == []


def test_locks_that_do_not_exclude_are_detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Locks that do not exclude are detected: a file system may grant every flock."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)

    (problem,) = probe(tmp_path)

    assert "the file system gave one lock twice" in problem


def test_locks_that_do_not_exclude_other_processes_are_detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system with locks that do not exclude other processes is detected."""
    calls: list[int] = []

    def lock_within_this_process(_: int, operation: int) -> None:
        calls.append(operation)
        if len(calls) > 1:
            raise BlockingIOError

    monkeypatch.setattr(fcntl, "flock", lock_within_this_process)

    (problem,) = probe(tmp_path)

    assert "it gave one lock to two processes" in problem


def test_a_file_system_without_shared_memory_is_reported_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without shared memory is reported with the remedy.

    SQLite keeps its journal mode on such a file system, without an error.
    """
    connect = sqlite3.connect

    class Stubborn(sqlite3.Connection):
        """A connection of SQLite that cannot change its journal mode."""

        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            """Respond as SQLite does on a file system without shared memory."""
            return super().execute(sql.replace("journal_mode = WAL", "journal_mode"), *values)

    monkeypatch.setattr(
        sqlite3, "connect", lambda path, **options: connect(path, factory=Stubborn, **options)
    )

    (problem,) = probe(tmp_path)

    assert "write-ahead log does not work here (the file system cannot share memory)" in problem


def test_a_rename_that_does_not_replace_is_reported_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system whose rename does not replace an open file is reported with the remedy."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(Path, "rename", refuse)

    (problem,) = probe(tmp_path)

    assert "rename does not work here" in problem
