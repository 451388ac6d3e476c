"""Log files are read through rotations, truncations and restarts."""

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
    """A writer that rotates like supervisord: by bytes, so that a line may be split."""

    def __init__(self, path: Path, keep: int = 99) -> None:
        self.path = path
        self.keep = keep
        self.written: list[bytes] = []
        self.unsent = b""

    def line(self, size: int = 0) -> None:
        """Add a line of about *size* bytes, which `flush` writes."""
        line = json.dumps({"n": len(self.written), "uri": "{" * size}).encode()
        self.written.append(line)
        self.unsent += line + b"\n"

    def flush(self, count: int | None = None) -> None:
        """Append the added lines to the file, or their first *count* bytes."""
        with self.path.open("ab") as file:
            file.write(self.unsent[:count])
        self.unsent = b"" if count is None else self.unsent[count:]

    def put(self, *texts: bytes) -> None:
        """Append *texts* to the file as they are."""
        with self.path.open("ab") as file:
            file.writelines(texts)

    def may_rotate(self) -> bool:
        """Return True if the file may be rotated, which needs a complete line in it."""
        written = self.path.read_bytes() if self.path.exists() else b"x"
        return not written or b"\n" in written

    def rotate(self) -> None:
        """Rename each file to the next number, delete the oldest one, and create a new one."""
        for age in range(self.keep, 0, -1):
            old = self.path.with_name(f"{self.path.name}.{age - 1}") if age > 1 else self.path
            if old.exists():
                old.replace(self.path.with_name(f"{self.path.name}.{age}"))
        self.path.touch()


class Reader:
    """A reader that keeps all lines, and the position that would be committed."""

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
        """Continue with a new reader from the last position."""
        self.tail.close()
        self.tail = Tail(self.path, self.position)


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    """Return the writer of a log that does not exist yet."""
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
    """Every line of the log is read once and in order.

    The result holds for any sequence of writes, reads, restarts, and rotations that split lines.
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
    """A missing log is read once it exists."""
    assert reader.drain() == []

    writer.line()
    writer.flush()

    assert reader.drain() == writer.written


def test_an_incomplete_line_is_not_returned(writer: Writer, reader: Reader) -> None:
    """An incomplete line is returned only once its line end is written."""
    writer.put(b'{"n":')
    before = reader.drain()[:]
    writer.put(b"1}\n")

    assert before == []
    assert reader.drain() == [b'{"n":1}']


@pytest.mark.parametrize("cut", [1, 5, -1], ids=["first byte", "middle", "only the end is missing"])
def test_a_line_that_a_rotation_split_is_joined(writer: Writer, reader: Reader, cut: int) -> None:
    """A line that a rotation split is joined: a rotation counts bytes, not lines."""
    writer.line()
    writer.flush(cut if cut > 0 else len(writer.unsent) - 1)
    writer.rotate()
    between = reader.drain()[:]
    writer.flush()

    assert between == []
    assert reader.drain() == writer.written


def test_a_split_line_is_joined_across_an_empty_file(writer: Writer, reader: Reader) -> None:
    """A split line is joined across an empty file of the rotation."""
    writer.line()
    writer.flush(5)
    writer.rotate()
    writer.rotate()
    writer.flush()

    assert reader.drain() == writer.written


def test_an_unfinished_line_does_not_affect_the_next(writer: Writer, reader: Reader) -> None:
    """The unfinished line of a dead writer does not affect the next line.

    The reader returns the unfinished part and the next line separately.
    """
    writer.put(b'{"n":')
    writer.rotate()
    writer.line()
    writer.flush()

    assert reader.drain() == [b'{"n":', *writer.written]


def test_files_that_were_rotated_while_the_reader_was_stopped_are_read_in_order(
    writer: Writer, reader: Reader
) -> None:
    """Files that were rotated while no reader ran are read in order.

    The file that the reader had read in part has another name by then, and there are younger files.
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
    """Log lines that were deleted before the reader read them are reported as one gap."""
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
    """A log that was truncated is read from its start, and counted as a gap."""
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
    """If a log was truncated and grew beyond the reader's position, the reader reports a gap.

    The size does not show this truncation, so the reader compares the first bytes of the file.
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
    """A log that was copied and truncated (logrotate's copytruncate) loses no lines.

    The unread lines are in the copy of the log, which has another inode.
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
    """A log line that is too long is skipped and counted once; other lines are read."""
    writer.put(b'{"n":1}\n', b"x" * (LONGEST + extra), b'\n{"n":2}\n')

    assert reader.drain() == [b'{"n":1}', b'{"n":2}']
    assert reader.overlong == 1


def test_a_line_that_is_too_long_is_counted_once_through_restart_and_rotation(
    writer: Writer, reader: Reader
) -> None:
    """A line that is too long is counted once through restart and rotation.

    The reader's position records that it is inside a line that is too long.
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
    """A log line of LONGEST bytes, including its end, is read."""
    writer.put(b"x" * (LONGEST - 1) + b"\n")

    assert reader.drain() == [b"x" * (LONGEST - 1)]
    assert reader.overlong == 0


def test_a_read_takes_at_most_its_chunk(writer: Writer) -> None:
    """A read returns at most as many bytes as its limit, for a reader that needs few lines."""
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
    """A pipe in place of a log file is an error, because it would block `entrepot clean`."""
    os.mkfifo(writer.path.with_name(f"{writer.path.name}.1"))
    writer.line()
    writer.flush()

    with pytest.raises(OSError, match="a pipe"):
        reader.drain()


def test_late_lines_in_a_rotated_file_are_read(writer: Writer) -> None:
    """Late lines in a rotated file are read.

    A worker that opened the events file before its rotation may write to it afterwards.
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
    """After the log was deleted, reading continues without reading rotated files again."""
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
    """A reader is caught up only at the end of the current file.

    A reader at the end of a rotated file, or before the last byte, has not caught up.
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
    """After a disk error reading continues at the same position, and loses no line."""
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
