"""The start-up probe: what it tries, what it says, what it leaves."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from entrepot.datastore.probe import REMEDY, probe


def test_a_local_disk_has_no_problem_and_nothing_stays(tmp_path: Path) -> None:
    """A probe leaves no file, whatever it tried."""
    assert probe(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_made(tmp_path: Path) -> None:
    """A first start has none yet."""
    assert probe(tmp_path / "a" / "b") == []


def test_a_folder_that_cannot_be_written_to_is_one_problem(tmp_path: Path) -> None:
    """Said once, and not for each trial."""
    (tmp_path / "file").write_bytes(b"")

    (problem,) = probe(tmp_path / "file" / "below")

    assert "cannot be written to" in problem
    assert REMEDY in problem


def test_a_file_system_without_flock_is_named_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As some network file systems are mounted."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)

    (problem,) = probe(tmp_path)

    assert problem.startswith(f"{tmp_path}: flock does not work here")
    assert problem.endswith(REMEDY)
    assert list(tmp_path.iterdir()) == []


def test_locks_that_only_look_like_locks_are_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems grant every flock."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)

    (problem,) = probe(tmp_path)

    assert "it gave one lock twice" in problem


def test_locks_that_another_process_does_not_see_are_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some keep locks to the process, or to the machine, that asked."""
    calls: list[int] = []

    def lock_within_this_process(_: int, operation: int) -> None:
        calls.append(operation)
        if len(calls) > 1:
            raise BlockingIOError

    monkeypatch.setattr(fcntl, "flock", lock_within_this_process)

    (problem,) = probe(tmp_path)

    assert "it gave one lock to two processes" in problem


def test_a_file_system_without_shared_memory_is_named_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite then stays in the mode that it was in, without an error."""
    connect = sqlite3.connect

    class Stubborn(sqlite3.Connection):
        """A connection that cannot leave its journal mode."""

        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            """Answer as SQLite does on such a file system."""
            return super().execute(sql.replace("journal_mode = WAL", "journal_mode"), *values)

    monkeypatch.setattr(
        sqlite3, "connect", lambda path, **options: connect(path, factory=Stubborn, **options)
    )

    (problem,) = probe(tmp_path)

    assert "write-ahead log does not work here (the file system cannot share memory)" in problem


def test_a_rename_that_does_not_replace_is_named_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on file systems that keep an open file's name taken."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(Path, "rename", refuse)

    (problem,) = probe(tmp_path)

    assert "rename does not work here" in problem
