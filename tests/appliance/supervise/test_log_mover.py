"""Tests that the log mover moves each line from HAProxy's pipe to the log once, and in order."""

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
from entrepot.appliance.supervise.access_printer import AccessPrinter
from entrepot.appliance.supervise.log_mover import LogMover
from entrepot.appliance.supervise.log_rotation import RotatedLog
from tests.appliance.haproxy import eventually

LINE = b'{"start":%08d,"uri":"' + b"a" * 360 + b'"}\n'
LARGE = 1024 * 1024 * 1024
# This program writes to the pipe without blocking, as HAProxy does: os.write raises if the pipe is
# full.
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
    """An access log on a disk that accepts at most `takes` bytes in one write.

    If `takes` is 0, each write raises OSError.
    """

    takes = LARGE
    refused = 0

    def append(self, lines: memoryview) -> int:
        """Write at most `takes` bytes of *lines*, or raise OSError."""
        if not self.takes:
            self.refused += 1
            raise OSError(28, "No space left on device")
        return super().append(lines[: self.takes])


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """Return an access log whose disk is never full."""
    return Disk(tmp_path / "access.log", file_bytes=LARGE, backups=1)


@pytest.fixture
def pipe(tmp_path: Path) -> int:
    """Return the reading end of HAProxy's pipe."""
    return log_pipe.create(tmp_path)


@pytest.fixture
def writer(tmp_path: Path, pipe: int) -> Iterator[int]:
    """Return the writing end of HAProxy's pipe."""
    assert pipe
    descriptor = os.open(os.devnull, os.O_WRONLY)
    log_pipe.redirect(tmp_path, descriptor)
    os.set_blocking(descriptor, True)  # this end blocks, unlike HAProxy's
    yield descriptor
    os.close(descriptor)


def put(writer: int, numbers: range) -> bytes:
    """Write a line for each of *numbers* into the pipe, and return all lines."""
    lines = [LINE % number for number in numbers]
    for line in lines:
        os.write(writer, line)
    return b"".join(lines)


def text(folder: Path) -> bytes:
    """Return the content of all files of the log, the oldest first."""
    ages = range(len(list(folder.glob("access.log*"))) - 1, 0, -1)
    names = [f"access.log.{age}" for age in ages] + ["access.log"]
    return b"".join((folder / name).read_bytes() for name in names if (folder / name).exists())


def test_a_line_is_moved_at_once(pipe: int, writer: int, disk: Disk, tmp_path: Path) -> None:
    """The log mover moves a line at once, even if no other line follows.

    The cleaner waits for the line of its own request, after which there may be no other.
    """
    mover = LogMover([pipe], disk)
    expected = put(writer, range(1))

    eventually(lambda: text(tmp_path) == expected)
    mover.close()


def test_all_lines_are_in_the_log_after_close(
    pipe: int, writer: int, disk: Disk, tmp_path: Path
) -> None:
    """After `close` all lines are in the log, even if they were more than the pipe can hold."""
    mover = LogMover([pipe], disk)
    expected = put(writer, range(10_000))
    mover.close()

    assert text(tmp_path) == expected


def test_a_small_pipe_is_read_without_a_pause(
    pipe: int, writer: int, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe of 8 KiB, which the kernel gives to a user with many pipes, is read without a pause.

    Such a small pipe would overflow if the log mover paused between two reads.
    """
    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 8192)
    monkeypatch.setattr(log_mover, "_PAUSE_MS", 60_000)
    mover = LogMover([pipe], disk)
    expected = put(writer, range(1))
    eventually(lambda: text(tmp_path) == expected)
    expected += put(writer, range(1, 2))

    eventually(lambda: text(tmp_path) == expected)
    mover.close()


def test_a_file_ends_with_a_complete_line(pipe: int, writer: int, tmp_path: Path) -> None:
    """A log file ends with a complete line, in whatever pieces the lines arrive."""
    log = RotatedLog(tmp_path / "access.log", file_bytes=50_000, backups=100)
    mover = LogMover([pipe], log)
    expected = put(writer, range(5_000))
    mover.close()

    assert text(tmp_path) == expected
    sizes = [path.stat().st_size for path in tmp_path.glob("access.log.*")]
    assert len(sizes) > 10
    assert max(sizes) < 50_000 + log_mover.PIECE
    assert all(path.read_bytes()[-1:] == b"\n" for path in tmp_path.glob("access.log.*"))


def test_an_incomplete_line_is_not_written_until_it_is_complete(
    pipe: int, writer: int, disk: Disk, tmp_path: Path
) -> None:
    """An incomplete line is not written until its end has arrived: a rotation could split it.

    At `close` an incomplete line is written as it is.
    """
    mover = LogMover([pipe], disk)
    os.write(writer, b"one\ntw")
    eventually(lambda: text(tmp_path) == b"one\n")
    os.write(writer, b"o\nthr")
    eventually(lambda: text(tmp_path) == b"one\ntwo\n")
    mover.close()

    assert text(tmp_path) == b"one\ntwo\nthr"


def test_a_line_longer_than_a_piece_is_written_in_pieces(
    pipe: int, writer: int, disk: Disk, tmp_path: Path
) -> None:
    """A line that never ends is written in pieces, so the memory is bounded."""
    mover = LogMover([pipe], disk)
    for _ in range(20):
        os.write(writer, b"a" * 10_000)
    mover.close()

    assert text(tmp_path) == b"a" * 200_000


def test_a_full_disk_loses_no_line_that_the_pipe_can_hold(
    pipe: int, writer: int, disk: Disk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """On a full disk the log mover keeps the bytes that it has read; the rest stays in the pipe."""
    disk.takes = 0
    mover = LogMover([pipe], disk)
    expected = put(writer, range(2_000))
    eventually(lambda: disk.refused >= 2)
    disk.takes = 1000
    eventually(lambda: text(tmp_path) == expected)
    mover.close()

    assert [each.message for each in caplog.records if each.levelno >= logging.WARNING] == [
        "access log not writable"
    ]


def test_the_writer_notices_a_full_pipe(pipe: int, writer: int, disk: Disk, tmp_path: Path) -> None:
    """HAProxy notices a full pipe, and counts the lines that it drops.

    A line that does not fit into the pipe is dropped as a whole.
    """
    os.set_blocking(writer, False)
    disk.takes = 0
    mover = LogMover([pipe], disk)
    written = 0
    while select.select([], [writer], [], 0)[1]:
        written += os.write(writer, LINE % 0)
    disk.takes = LARGE
    mover.close()

    assert text(tmp_path) == (LINE % 0) * (written // len(LINE % 0))
    assert written > log_pipe.BYTES // 2


@pytest.mark.slow
def test_a_disk_that_stays_full_does_not_delay_the_end(
    pipe: int, writer: int, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    """On a disk that stays full, `close` of the log mover retries only for a moment.

    It logs the number of lost bytes.
    """
    disk.takes = 0
    mover = LogMover([pipe], disk)
    expected = put(writer, range(1_000))
    mover.close()

    last = caplog.records[-1]
    assert (last.message, last.levelname) == ("the last lines of the access log are lost", "ERROR")
    assert last.__dict__["bytes"] == len(expected)


@pytest.mark.slow
def test_the_lines_of_a_killed_writer_are_kept_and_its_successor_uses_the_same_pipe(
    pipe: int, disk: Disk, tmp_path: Path
) -> None:
    """When HAProxy ends, its lines are kept, and the next HAProxy writes to the same pipe."""
    mover = LogMover([pipe], disk)
    for _ in range(2):
        subprocess.run([sys.executable, "-c", WRITER, str(tmp_path), "100"], check=True)
    mover.close()

    assert text(tmp_path) == b"".join(b'{"n":%d}\n' % number for number in range(100)) * 2


def test_haproxy_cannot_open_the_pipe_without_a_reader(tmp_path: Path) -> None:
    """HAProxy does not start if no program reads its pipe: uses of content would be lost."""
    os.close(log_pipe.create(tmp_path))

    with pytest.raises(OSError, match="No such device"):
        log_pipe.redirect(tmp_path, 1)


def test_the_pipe_is_large(pipe: int) -> None:
    """The access log's pipe is large, because lines are lost while the pipe is full."""
    assert fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) == log_pipe.BYTES
    os.close(pipe)


def test_lines_are_printed_and_the_file_has_them_without_tails(
    pipe: int, writer: int, disk: Disk, tmp_path: Path
) -> None:
    """A line from the pipe is printed with a tail, and written to the log file without the tail."""
    line = b'{"start":1790000000123,"duration":0,"method":"GET","status":200,"uri":"%d"}'
    lines = [line % number for number in range(2000)]
    with (tmp_path / "stdout").open("wb") as stdout:
        printer = AccessPrinter(stdout.fileno(), bytes)
        mover = LogMover([pipe], disk, printer=printer)
        for each in lines:
            os.write(writer, each[:-1] + b'},"protocol":"1.1"}\n')
        mover.close()

    assert (tmp_path / "stdout").read_bytes() == b"".join(
        each[:-1] + b'},"protocol":"1.1"}\n' for each in lines
    )
    assert text(tmp_path) == b"".join(each + b"\n" for each in lines)


def test_the_lines_of_all_pipes_are_in_one_log(tmp_path: Path, pipe: int, disk: Disk) -> None:
    """Each thread of HAProxy has a pipe, and the lines of all pipes are written to one log.

    An incomplete line of one pipe is not mixed with the lines of another pipe.
    """
    second = log_pipe.create(tmp_path, thread=2)
    writers = [os.open(os.devnull, os.O_WRONLY) for _ in range(2)]
    for thread, writer in enumerate(writers, start=1):
        log_pipe.redirect(tmp_path, writer, thread)
    mover = LogMover([pipe, second], disk)
    os.write(writers[0], b"one, beg")
    os.write(writers[1], b"two\n")
    eventually(lambda: text(tmp_path) == b"two\n")
    os.write(writers[0], b"un\n")
    for writer in writers:
        os.close(writer)
    mover.close()

    assert text(tmp_path) == b"two\none, begun\n"
