"""The access log on its way from a pipe into its files: every line, once, in order."""

from __future__ import annotations

import fcntl
import logging
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.appliance.supervise import log_mover, log_pipe
from entrepot.appliance.supervise.log_mover import LogMover
from entrepot.appliance.supervise.log_rotation import RotatedLog
from tests.appliance.front import eventually

LINE = b'{"start":%08d,"uri":"' + b"a" * 360 + b'"}\n'
LARGE = 1024 * 1024 * 1024
# waits for nobody, as HAProxy: tells how many lines found no room
WRITER = """
import os, sys
from pathlib import Path
from entrepot.appliance.supervise import log_pipe
log_pipe.redirect(Path(sys.argv[1]), 1)
os.set_blocking(1, False)
for number in range(int(sys.argv[2])):
    os.write(1, b'{"n":%d}\\n' % number)
"""


class Disk(RotatedLog):
    """A log whose disk takes at most `takes` bytes at a time, and none at all where that is 0."""

    takes = LARGE
    refused = 0

    def append(self, lines: memoryview) -> int:
        """Take some of it. Raises: OSError."""
        if not self.takes:
            self.refused += 1
            raise OSError(28, "No space left on device")
        return super().append(lines[: self.takes])


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """Return a log that is never full."""
    return Disk(tmp_path / "access.log", file_bytes=LARGE, backups=1)


@pytest.fixture
def pipe(tmp_path: Path) -> int:
    """Return the reading end."""
    return log_pipe.create(tmp_path)


@pytest.fixture
def writer(tmp_path: Path, pipe: int) -> Iterator[int]:
    """Return the writing end."""
    assert pipe
    descriptor = os.open(os.devnull, os.O_WRONLY)
    log_pipe.redirect(tmp_path, descriptor)
    os.set_blocking(descriptor, True)  # all but HAProxy wait
    yield descriptor
    os.close(descriptor)


def put(writer: int, numbers: range) -> bytes:
    """Write a line for each, and return all of them."""
    lines = [LINE % number for number in numbers]
    for line in lines:
        os.write(writer, line)
    return b"".join(lines)


def text(folder: Path) -> bytes:
    """Return what lies in the log's files, oldest first."""
    ages = range(len(list(folder.glob("access.log*"))) - 1, 0, -1)
    names = [f"access.log.{age}" for age in ages] + ["access.log"]
    return b"".join((folder / name).read_bytes() for name in names if (folder / name).exists())


def test_what_comes_is_there_at_once(pipe: int, writer: int, disk: Disk, tmp_path: Path) -> None:
    """The cleaner waits for its line; nothing has to follow it."""
    mover = LogMover(pipe, disk)
    expected = put(writer, range(1))

    eventually(lambda: text(tmp_path) == expected)
    mover.close()


def test_all_that_was_written_is_there_at_the_end(
    pipe: int, writer: int, disk: Disk, tmp_path: Path
) -> None:
    """More than the pipe holds, written while it is read; the rest once nobody writes."""
    mover = LogMover(pipe, disk)
    expected = put(writer, range(10_000))
    mover.close()

    assert text(tmp_path) == expected


def test_a_small_pipe_is_never_left_alone(
    pipe: int, writer: int, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who has pipes enough gets one of 8 KiB: between two looks it overflowed."""
    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 8192)
    monkeypatch.setattr(log_mover, "_PAUSE_MS", 60_000)
    mover = LogMover(pipe, disk)
    expected = put(writer, range(1))
    eventually(lambda: text(tmp_path) == expected)
    expected += put(writer, range(1, 2))

    eventually(lambda: text(tmp_path) == expected)
    mover.close()


def test_a_file_ends_with_the_end_of_a_line(pipe: int, writer: int, tmp_path: Path) -> None:
    """Whatever the pieces are in which it comes."""
    log = RotatedLog(tmp_path / "access.log", file_bytes=50_000, backups=100)
    mover = LogMover(pipe, log)
    expected = put(writer, range(5_000))
    mover.close()

    assert text(tmp_path) == expected
    sizes = [path.stat().st_size for path in tmp_path.glob("access.log.*")]
    assert len(sizes) > 10
    assert max(sizes) < 50_000 + log_mover.PIECE
    assert all(path.read_bytes()[-1:] == b"\n" for path in tmp_path.glob("access.log.*"))


def test_a_line_waits_for_its_end(pipe: int, writer: int, disk: Disk, tmp_path: Path) -> None:
    """A rotation would part it; at the end of all it is written as it is."""
    mover = LogMover(pipe, disk)
    os.write(writer, b"one\ntw")
    eventually(lambda: text(tmp_path) == b"one\n")
    os.write(writer, b"o\nthr")
    eventually(lambda: text(tmp_path) == b"one\ntwo\n")
    mover.close()

    assert text(tmp_path) == b"one\ntwo\nthr"


def test_a_line_that_is_longer_than_any_is_passed_on(
    pipe: int, writer: int, disk: Disk, tmp_path: Path
) -> None:
    """Memory is bounded, whatever comes."""
    mover = LogMover(pipe, disk)
    for _ in range(20):
        os.write(writer, b"a" * 10_000)
    mover.close()

    assert text(tmp_path) == b"a" * 200_000


def test_a_full_disk_loses_nothing_that_the_pipe_can_hold(
    pipe: int, writer: int, disk: Disk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What was taken out of the pipe is kept and tried again, the rest stays in it."""
    disk.takes = 0
    mover = LogMover(pipe, disk)
    expected = put(writer, range(2_000))
    eventually(lambda: disk.refused >= 2)
    disk.takes = 1000
    eventually(lambda: text(tmp_path) == expected)
    mover.close()

    assert [each.message for each in caplog.records if each.levelno >= logging.WARNING] == [
        "access log not writable"
    ]


def test_what_finds_no_room_is_the_writers_to_count(
    pipe: int, writer: int, disk: Disk, tmp_path: Path
) -> None:
    """While the disk is full the pipe fills up, and HAProxy hears of it: no line is half there."""
    os.set_blocking(writer, False)
    disk.takes = 0
    mover = LogMover(pipe, disk)
    written = 0
    while select.select([], [writer], [], 0)[1]:
        written += os.write(writer, LINE % 0)
    disk.takes = LARGE
    mover.close()

    assert text(tmp_path) == (LINE % 0) * (written // len(LINE % 0))
    assert written > log_pipe.BYTES // 2


def test_a_disk_that_stays_full_does_not_keep_us(
    pipe: int, writer: int, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    """At the end it is tried for a moment; what is lost is told."""
    disk.takes = 0
    mover = LogMover(pipe, disk)
    expected = put(writer, range(1_000))
    mover.close()

    last = caplog.records[-1]
    assert (last.message, last.levelname) == ("last lines of the access log lost", "ERROR")
    assert last.__dict__["bytes"] == len(expected)


def test_a_writer_that_is_killed_leaves_its_lines_and_another_follows(
    pipe: int, disk: Disk, tmp_path: Path
) -> None:
    """HAProxy that is started again finds the same pipe."""
    mover = LogMover(pipe, disk)
    for _ in range(2):
        subprocess.run([sys.executable, "-c", WRITER, str(tmp_path), "100"], check=True)
    mover.close()

    assert text(tmp_path) == b"".join(b'{"n":%d}\n' % number for number in range(100)) * 2


def test_without_a_reader_nobody_writes(tmp_path: Path) -> None:
    """HAProxy without an access log would be a cache that forgets what is used."""
    os.close(log_pipe.create(tmp_path))

    with pytest.raises(OSError, match="No such device"):
        log_pipe.redirect(tmp_path, 1)


def test_the_pipe_is_large(pipe: int) -> None:
    """A line that finds it full is lost."""
    assert fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) == log_pipe.BYTES
    os.close(pipe)
