"""Tests of `Tail`, which reads a log despite rotations, truncations and restarts."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.logger.position import LogPosition
from entrepot.logger.tail import CHUNK, LONGEST, Batch, Tail
from tests.sizes import scaled


class Writer:
    """A writer whose rotations can split a line, like those of supervisord."""

    def __init__(self, path: Path, keep: int = 99) -> None:
        self.path = path
        self.keep = keep
        self.written: list[bytes] = []
        self.unsent = b""

    def line(self, size: int = 0) -> None:
        """Make a line of about *size* bytes, which the next `flush` writes."""
        line = json.dumps({"n": len(self.written), "uri": "{" * size}).encode()
        self.written.append(line)
        self.unsent += line + b"\n"

    def flush(self, count: int | None = None) -> None:
        """Append the prepared lines to the file, or only their first *count* bytes."""
        with self.path.open("ab") as file:
            file.write(self.unsent[:count])
        self.unsent = b"" if count is None else self.unsent[count:]

    def put(self, *texts: bytes) -> None:
        """Append *texts* to the file as they are."""
        with self.path.open("ab") as file:
            file.writelines(texts)

    def may_rotate(self) -> bool:
        """Return True if the writer may rotate the file: it is empty or has a complete line."""
        written = self.path.read_bytes() if self.path.exists() else b"x"
        return not written or b"\n" in written

    def rotate(self) -> None:
        """Rename each file to the next number, delete the oldest file and create a new file."""
        for age in range(self.keep, 0, -1):
            old = self.path.with_name(f"{self.path.name}.{age - 1}") if age > 1 else self.path
            if old.exists():
                old.replace(self.path.with_name(f"{self.path.name}.{age}"))
        self.path.touch()


class Reader:
    """A reader that collects all lines, and the position that a logger would commit."""

    def __init__(self, path: Path, position: LogPosition | None = None, grace: float = 0) -> None:
        self.path = path
        self.position = position
        self.tail = Tail(path, position, grace=grace)
        self.lines: list[bytes] = []
        self.gaps = 0
        self.overlong = 0

    def take(self, now: float = 0) -> Batch:
        """Read the log once."""
        batch = self.tail.read(now)
        self.lines += batch.lines
        self.gaps += batch.gaps
        self.overlong += batch.overlong
        self.position = batch.position or self.position
        return batch

    def drain(self, now: float = 0) -> list[bytes]:
        """Read the log until there are no more lines."""
        while self.take(now).more:
            pass
        return self.lines

    def restart(self) -> None:
        """Continue at the last position with a new reader, as after a restart."""
        self.tail.close()
        self.tail = Tail(self.path, self.position)


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    """Return the writer of a log whose file does not exist yet."""
    return Writer(tmp_path / "access.log")


@pytest.fixture
def reader(writer: Writer) -> Reader:
    """Return a reader that has read nothing yet."""
    return Reader(writer.path)


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("line"), st.sampled_from([0, 0, 5, 300])),
        st.tuples(st.just("flush"), st.none()),
        st.tuples(st.just("part"), st.integers(1, 40)),
        st.tuples(st.just("rotate"), st.none()),
        st.tuples(st.just("read"), st.none()),
        st.tuples(st.just("drain"), st.none()),
        st.tuples(st.just("restart"), st.none()),
    ),
    max_size=60,
)


def _step(step: tuple[str, int | None], writer: Writer, reader: Reader) -> None:
    match step:
        case "line", int(size):
            writer.line(size)
        case (("flush" | "part"), count):
            writer.flush(count)
        case "rotate", _ if writer.may_rotate():
            writer.rotate()
        case "read", _:
            reader.take()
        case "drain", _:
            reader.drain()
        case "restart", _:
            reader.restart()


@settings(max_examples=scaled(50, 300), deadline=None)
@given(_STEPS)
def test_every_line_is_read_once_and_in_order(steps: list[tuple[str, int | None]]) -> None:
    """The reader returns each line of the log once and in order.

    This is true for any sequence of writes, reads, restarts, and rotations that split lines.
    """
    with tempfile.TemporaryDirectory() as folder:
        writer = Writer(Path(folder) / "access.log")
        reader = Reader(writer.path)
        for step in steps:
            _step(step, writer, reader)
        writer.flush()
        reader.drain()
        reader.tail.close()

        assert reader.lines == writer.written
        assert reader.gaps == reader.overlong == 0


def test_a_missing_log_is_read_once_it_exists(writer: Writer, reader: Reader) -> None:
    """If the log does not exist at first, the reader reads it as soon as it exists."""
    assert reader.drain() == []

    writer.line()
    writer.flush()

    assert reader.drain() == writer.written


def test_an_incomplete_line_is_not_returned(writer: Writer, reader: Reader) -> None:
    """The reader returns a line only after the line's newline was written."""
    writer.put(b'{"n":')
    before = reader.drain()[:]
    writer.put(b"1}\n")

    assert before == []
    assert reader.drain() == [b'{"n":1}']


@pytest.mark.parametrize("cut", [1, 5, -1], ids=["first byte", "middle", "only the end is missing"])
def test_a_line_that_a_rotation_split_is_joined(writer: Writer, reader: Reader, cut: int) -> None:
    """If a rotation has split a line, the reader joins its two parts.

    A rotation counts bytes, so it can split a line.
    """
    writer.line()
    writer.flush(cut if cut > 0 else len(writer.unsent) - 1)
    writer.rotate()
    between = reader.drain()[:]
    writer.flush()

    assert between == []
    assert reader.drain() == writer.written


def test_a_split_line_is_joined_across_an_empty_file(writer: Writer, reader: Reader) -> None:
    """The reader joins the two parts of a split line, even with an empty file between them."""
    writer.line()
    writer.flush(5)
    writer.rotate()
    writer.rotate()
    writer.flush()

    assert reader.drain() == writer.written


def test_an_unfinished_line_does_not_affect_the_next(writer: Writer, reader: Reader) -> None:
    """If a writer died in the middle of a line, the reader still returns the next line.

    The reader returns the unfinished part as a separate line.
    """
    writer.put(b'{"n":')
    writer.rotate()
    writer.line()
    writer.flush()

    assert reader.drain() == [b'{"n":', *writer.written]


def test_files_that_were_rotated_while_the_reader_was_stopped_are_read_in_order(
    writer: Writer, reader: Reader
) -> None:
    """If files were rotated while no reader ran, the next reader reads them in order.

    By then the partly read file has another name, and there are younger files.
    """
    for _ in range(2):
        writer.line()
        writer.flush()
        reader.drain()
    for _ in range(3):
        writer.line()
        writer.flush()
        writer.rotate()
    writer.line()
    writer.flush()
    reader.restart()

    assert reader.drain() == writer.written
    assert reader.gaps == 0


def test_lines_that_were_deleted_unread_are_a_gap(tmp_path: Path) -> None:
    """If unread files of the log were deleted, the reader reports one gap."""
    writer = Writer(tmp_path / "access.log", keep=2)
    reader = Reader(writer.path)
    writer.line()
    writer.flush()
    reader.drain()
    reader.tail.close()
    for _ in range(4):
        writer.line()
        writer.flush()
        writer.rotate()
    reader.restart()

    assert reader.drain() == [writer.written[0], *writer.written[-2:]]
    assert reader.gaps == 1


def test_a_truncated_log_is_read_from_its_start(writer: Writer, reader: Reader) -> None:
    """If the log was truncated, the reader reads it from its start and reports a gap."""
    writer.line()
    writer.line()
    writer.flush()
    reader.drain()
    writer.path.write_bytes(b"")
    reader.drain()
    writer.line()
    writer.flush()

    assert reader.drain() == writer.written
    assert reader.gaps == 1


def test_a_log_that_was_truncated_and_grew_past_the_position_is_a_gap(
    writer: Writer, reader: Reader
) -> None:
    """If the log was truncated and grew beyond the reader's position, the reader reports a gap.

    The file's size does not reveal this truncation, so the reader compares the file's first bytes.
    """
    writer.line()
    writer.flush()
    reader.drain()
    writer.path.write_bytes(b"")
    for _ in range(5):
        writer.line(50)
    writer.flush()

    assert reader.drain() == writer.written
    assert reader.gaps == 1


def test_a_log_that_was_copied_and_truncated_loses_no_lines(writer: Writer, reader: Reader) -> None:
    """If the log was copied and then truncated (logrotate's copytruncate), no line is lost.

    The reader finds the unread lines in the copy, which has another inode.
    """
    writer.line()
    writer.flush()
    reader.drain()
    writer.line()
    writer.flush()
    writer.path.with_name("access.log.1").write_bytes(writer.path.read_bytes())
    writer.path.write_bytes(b"")
    writer.line()
    writer.flush()

    assert reader.drain() == writer.written
    assert reader.gaps == 0


@pytest.mark.parametrize("extra", [0, LONGEST, 2 * CHUNK], ids=["one more", "twice", "chunks"])
def test_a_line_that_is_too_long_is_skipped_and_counted(
    writer: Writer, reader: Reader, extra: int
) -> None:
    """The reader skips a line that is too long and counts it once.

    It returns all other lines.
    """
    writer.put(b'{"n":1}\n', b"x" * (LONGEST + extra), b'\n{"n":2}\n')

    assert reader.drain() == [b'{"n":1}', b'{"n":2}']
    assert reader.overlong == 1


def test_a_line_that_is_too_long_is_counted_once_through_restart_and_rotation(
    writer: Writer, reader: Reader
) -> None:
    """A line that is too long counts once, even if a restart and a rotation occur in its middle.

    The reader's position records that it is inside such a line.
    """
    writer.put(b"x" * (LONGEST + 1))
    reader.drain()
    reader.restart()
    writer.put(b"x" * 10)
    writer.rotate()
    reader.drain()
    writer.put(b"xxx\n", b'{"n":2}\n')

    assert reader.drain() == [b'{"n":2}']
    assert reader.overlong == 1


def test_a_line_of_the_largest_length_is_read(writer: Writer, reader: Reader) -> None:
    """The reader accepts a line that has LONGEST bytes including the newline."""
    writer.put(b"x" * (LONGEST - 1) + b"\n")

    assert reader.drain() == [b"x" * (LONGEST - 1)]
    assert reader.overlong == 0


def test_a_read_takes_at_most_its_chunk(writer: Writer) -> None:
    """One read returns at most the given number of bytes."""
    for _ in range(300):
        writer.line(1000)
    writer.flush()
    tail = Tail(writer.path, None, chunk=2 * LONGEST)
    batches = [tail.read(0), tail.read(0)]
    while batches[-1].more:
        batches.append(tail.read(0))

    assert max(sum(map(len, each.lines)) for each in batches) <= 2 * LONGEST
    assert [line for each in batches for line in each.lines] == writer.written


@pytest.mark.timeout(20)
def test_a_pipe_in_place_of_a_log_file_is_an_error(writer: Writer, reader: Reader) -> None:
    """If a pipe replaces a file of the log, the reader raises OSError.

    Otherwise a read of the pipe would block `entrepot clean`.
    """
    os.mkfifo(writer.path.with_name(f"{writer.path.name}.1"))
    writer.line()
    writer.flush()

    with pytest.raises(OSError, match="a pipe"):
        reader.drain()


def test_late_lines_in_a_rotated_file_are_read(writer: Writer) -> None:
    """The reader also returns lines that a process writes to a file after its rotation.

    For example, a worker can have opened the events file before the rotation.
    """
    reader = Reader(writer.path, grace=1)
    writer.put(b'{"n":1}\n')
    reader.drain(now=0)
    writer.rotate()
    writer.put(b'{"n":3}\n')
    reader.drain(now=0)
    Writer(writer.path.with_name("access.log.1")).put(b'{"n":2}\n')

    assert reader.drain(now=0.9) == [b'{"n":1}', b'{"n":2}']
    assert reader.drain(now=1) == [b'{"n":1}', b'{"n":2}', b'{"n":3}']


def test_reading_continues_after_the_log_was_deleted(writer: Writer, reader: Reader) -> None:
    """If the current file was deleted, the reader continues with the new file.

    It does not read the rotated files again.
    """
    writer.line()
    writer.flush()
    writer.rotate()
    writer.line()
    writer.flush()
    reader.drain()
    writer.path.unlink()
    reader.drain()
    writer.line()
    writer.flush()

    assert reader.drain() == writer.written


def test_caught_up_means_the_end_of_the_current_file(writer: Writer, reader: Reader) -> None:
    """A reader is caught up if it is at the end of the current file.

    It is not caught up at the end of a rotated file or before an unread byte.
    """
    results = [reader.tail.is_caught_up()]
    writer.line()
    writer.flush()
    reader.drain()
    results.append(reader.tail.is_caught_up())
    writer.put(b"x")
    results.append(reader.tail.is_caught_up())
    writer.put(b"\n")
    reader.drain()
    writer.rotate()
    results.append(reader.tail.is_caught_up())

    assert results == [False, True, False, False]


def test_after_a_disk_error_reading_continues_at_the_same_position(
    writer: Writer, reader: Reader
) -> None:
    """After a disk error, the reader continues at the same position and loses no line."""
    writer.line()
    writer.flush()
    reader.drain()
    hidden = writer.path.with_name("hidden")
    writer.path.rename(hidden)
    writer.path.mkdir()
    with pytest.raises(OSError, match="directory"):
        reader.drain()
    writer.path.rmdir()
    hidden.rename(writer.path)
    writer.line()
    writer.flush()

    assert reader.drain() == writer.written
