"""Test `RotatedLog`, which bounds the size and number of the access log files."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot.appliance.supervise.log_rotation import RotatedLog


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the log."""
    return tmp_path / "access.log"


def append(log: RotatedLog, *lines: bytes) -> None:
    """Append *lines* to the access log, one after another."""
    for line in lines:
        assert log.append(memoryview(line)) == len(line)


def files(path: Path) -> dict[str, bytes]:
    """Return the content of each file of the access log, by name."""
    return {each.name: each.read_bytes() for each in path.parent.iterdir()}


def test_a_full_file_gets_a_number_and_the_oldest_is_deleted(path: Path) -> None:
    """A full log file gets a number, and the oldest file is deleted.

    The number of log files is bounded; the current file has no number in its name.
    """
    log = RotatedLog(path, file_bytes=4, backups=2)
    append(log, b"one\n", b"two\n", b"three\n", b"4\n", b"5\n")

    assert files(path) == {
        "access.log": b"4\n5\n",
        "access.log.1": b"three\n",
        "access.log.2": b"two\n",
    }


def test_a_later_start_continues_the_existing_file(path: Path) -> None:
    """A later start appends to the existing log file, whose size counts for the next rotation."""
    for line in (b"one\n", b"two\n", b"three\n"):
        log = RotatedLog(path, file_bytes=8, backups=1)
        append(log, line)
        log.close()

    assert files(path) == {"access.log": b"three\n", "access.log.1": b"one\ntwo\n"}


def test_no_line_is_appended_to_an_incomplete_line(path: Path) -> None:
    """A new line is not appended to the incomplete line of a killed process: both would be lost."""
    path.write_bytes(b'one\n{"start":')
    log = RotatedLog(path, file_bytes=100, backups=1)
    append(log, b"two\n")

    assert files(path) == {"access.log": b"two\n", "access.log.1": b'one\n{"start":'}


def test_a_line_written_in_two_parts_stays_in_one_file(path: Path) -> None:
    """If a full disk accepts a part of a line, the rest is later written to the same log file."""
    log = RotatedLog(path, file_bytes=4, backups=1)
    append(log, b"one and", b" a half\n", b"two\n")

    assert files(path) == {"access.log": b"two\n", "access.log.1": b"one and a half\n"}


def test_a_deleted_log_is_created_again_at_the_next_rotation(path: Path) -> None:
    """A deleted log file is created again at the next rotation."""
    log = RotatedLog(path, file_bytes=4, backups=1)
    append(log, b"one\n")
    path.unlink()
    append(log, b"two\n")

    assert files(path) == {"access.log": b"two\n"}


def test_a_failed_rotation_is_repeated(path: Path) -> None:
    """After a failed rotation `RotatedLog` writes nothing until a rotation succeeds.

    If it wrote more, the full file would grow beyond `file_bytes`.
    """
    log = RotatedLog(path, file_bytes=4, backups=1)
    append(log, b"one\n")
    obstacle = path.with_name("access.log.1")
    obstacle.mkdir()

    with pytest.raises(IsADirectoryError):
        append(log, b"two\n")
    obstacle.rmdir()
    append(log, b"two\n")

    assert files(path) == {"access.log": b"two\n", "access.log.1": b"one\n"}


def test_a_missing_folder_may_come_back(path: Path) -> None:
    """A log file whose folder was missing is opened at the next try."""
    log = RotatedLog(path.with_name("log") / path.name, file_bytes=4, backups=1)
    with pytest.raises(FileNotFoundError):
        append(log, b"one\n")
    path.with_name("log").mkdir()

    append(log, b"one\n")
    assert (path.with_name("log") / path.name).read_bytes() == b"one\n"
