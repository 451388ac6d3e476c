"""Tests of `probe`, which checks whether the disk of the state directory is usable."""

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
    """`probe` finds no problem on a local disk, and removes its test files."""
    assert probe(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_created(tmp_path: Path) -> None:
    """If the folder to test does not exist, it is created."""
    assert probe(tmp_path / "a" / "b") == []


def test_a_folder_that_cannot_be_written_to_is_one_problem(tmp_path: Path) -> None:
    """If the folder cannot be written to, only one problem is reported, not one per operation."""
    (tmp_path / "file").write_bytes(b"")

    (problem,) = probe(tmp_path / "file" / "below")

    assert "cannot be written to" in problem
    assert REMEDY in problem


def test_a_file_system_without_flock_is_reported_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If flock does not work, the problem is reported with a remedy."""

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
    """If the file system grants the same lock twice in one process, this is reported."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)

    (problem,) = probe(tmp_path)

    assert "the file system gave one lock twice" in problem


def test_locks_that_do_not_exclude_other_processes_are_detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the file system grants the same lock to two processes, this is reported."""
    calls: list[int] = []

    def lock_within_this_process(_: int, operation: int) -> None:
        calls.append(operation)
        if len(calls) > 1:
            raise BlockingIOError

    monkeypatch.setattr(fcntl, "flock", lock_within_this_process)

    (problem,) = probe(tmp_path)

    assert "the file system gave one lock to two processes" in problem


def test_a_file_system_without_shared_memory_is_reported_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the file system does not support shared memory, this is reported.

    On such a file system, SQLite does not change to WAL mode, and reports no error.
    """
    connect = sqlite3.connect

    class Stubborn(sqlite3.Connection):
        """A connection of SQLite that does not change its journal mode."""

        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            """Run *sql*, but change no journal mode, as on a file system without shared memory."""
            return super().execute(sql.replace("journal_mode = WAL", "journal_mode"), *values)

    monkeypatch.setattr(
        sqlite3, "connect", lambda path, **options: connect(path, factory=Stubborn, **options)
    )

    (problem,) = probe(tmp_path)

    assert "write-ahead log does not work here (the file system cannot share memory)" in problem


def test_a_rename_that_does_not_replace_is_reported_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a rename cannot replace an open file, this is reported."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(Path, "rename", refuse)

    (problem,) = probe(tmp_path)

    assert "rename does not work here" in problem
