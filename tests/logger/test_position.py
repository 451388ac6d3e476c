"""The position in a rotated log is found by the inode and the first bytes of a file."""

from __future__ import annotations

from dataclasses import replace

import pytest

from entrepot.logger.position import (
    LogPosition,
    ResumePoint,
    Seen,
    after,
    fingerprint,
    generation,
    locate,
)


def _seen(name: str, inode: int, *, head: bytes = b"", size: int = 100, at: float = 0) -> Seen:
    return Seen(name, inode, size, at, head or name.encode() * 4)


def _inside(seen: Seen, offset: int) -> LogPosition:
    length = min(offset, len(seen.head))
    return LogPosition(seen.inode, offset, fingerprint(seen.head[:length]), length, seen.modified)


OLD = _seen("log.2", 2, head=b"aaaa", at=10)
MIDDLE = _seen("log.1", 1, head=b"bbbb", at=20)
YOUNG = _seen("log", 3, head=b"cccc", at=30)
FAMILY = [OLD, MIDDLE, YOUNG]


def test_without_a_position_reading_starts_with_the_oldest_file() -> None:
    """Without a position, reading starts with the oldest log file, and there is no gap."""
    assert locate(FAMILY, None) == ResumePoint(OLD, OLD.start())


def test_without_a_file_there_is_no_position() -> None:
    """Without a log file there is no position, and the reader waits for one."""
    assert locate([], None) is None
    assert locate([], _inside(YOUNG, 4)) is None


@pytest.mark.parametrize("seen", FAMILY, ids=[each.name for each in FAMILY])
def test_a_position_is_found_after_its_file_was_renamed(seen: Seen) -> None:
    """A position is found after its file was renamed: inode and first bytes stay."""
    assert locate(FAMILY, _inside(seen, 50)) == ResumePoint(seen, _inside(seen, 50))


def test_a_copy_with_another_inode_is_the_same_file() -> None:
    """A copy of a log file with another inode is the same file.

    After a move of the data directory to another disk, reading continues at the position.
    """
    moved = [replace(each, inode=each.inode + 100) for each in FAMILY]

    found = locate(moved, _inside(MIDDLE, 50))

    assert found == ResumePoint(moved[1], _inside(moved[1], 50))


def test_a_copy_is_not_read_while_the_file_itself_is_there() -> None:
    """A copy of a file is not read as long as the file with the inode of the position exists.

    Otherwise an older copy would be read, and then the file a second time.
    """
    copied = [replace(YOUNG, name="log.1", inode=99), YOUNG]

    assert locate(copied, _inside(YOUNG, 50)) == ResumePoint(YOUNG, _inside(YOUNG, 50))


def test_another_file_with_the_same_inode_is_a_gap() -> None:
    """If another file has the inode of the position, missing lines are reported as a gap."""
    gone = LogPosition(YOUNG.inode, 50, fingerprint(b"zzzz"), 4, modified=5)

    assert locate(FAMILY, gone) == ResumePoint(OLD, OLD.start(), gap=True)


def test_a_truncated_file_is_read_from_its_start_and_older_ones_not_again() -> None:
    """A truncated log is read from its start, and older files not again.

    The older files were read before and are not counted again.
    """
    truncated = replace(YOUNG, size=0, head=b"", modified=31)

    found = locate([OLD, MIDDLE, truncated], _inside(YOUNG, 50))

    assert found == ResumePoint(truncated, truncated.start(), gap=True)


def test_a_file_shorter_than_the_position_is_a_gap() -> None:
    """A log file shorter than the position is a gap: the file was truncated."""
    found = locate([replace(YOUNG, size=49, modified=31)], _inside(YOUNG, 50))

    assert found is not None
    assert found.gap


def test_a_position_at_the_start_of_an_empty_file_follows_its_inode() -> None:
    """A position at the start of an empty file follows its inode; there are no first bytes."""
    assert locate(FAMILY, MIDDLE.start()) == ResumePoint(MIDDLE, MIDDLE.start())


def test_the_next_file_is_the_next_younger() -> None:
    """After a file's end, reading continues with the next younger file of the rotation."""
    assert after(FAMILY, _inside(OLD, 50)) == ResumePoint(MIDDLE, MIDDLE.start())
    assert after(FAMILY, _inside(YOUNG, 50)) is None


def test_a_file_that_left_the_family_while_it_was_read_is_a_gap() -> None:
    """If a log file is rotated away while it is read, the reader reports a gap of unknown size."""
    left = LogPosition(77, 50, fingerprint(b"zzzz"), 4, modified=5)

    assert after(FAMILY, left) == ResumePoint(OLD, OLD.start(), gap=True)


def test_after_a_deleted_file_older_files_are_not_read_again() -> None:
    """If the file of the position was deleted, older rotated files are not read again.

    The reader had read them before it reached the deleted file.
    """
    deleted = _inside(YOUNG, 50)

    assert after([OLD, MIDDLE], deleted) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("access.log", 0),
        ("access.log.1", 1),
        ("access.log.12", 12),
        ("access.log.0", None),
        ("access.log.01", None),
        ("access.log.gz", None),
        ("access.log.1.gz", None),
        ("access.log1", None),
        ("events.log.1", None),
        (".1", None),
        ("access.log.²", None),
    ],
)
def test_the_generation_is_the_number_in_the_name(name: str, expected: int | None) -> None:
    """The number in the name of a rotated log file is its age: a higher number is older.

    Only names that the rotation of the log creates belong to the log.
    """
    assert generation(name, "access.log") == expected


@pytest.mark.parametrize("text", [None, "", "{", "[]", "null", '"x"', '{"inode": 1}', '{"x": 1}'])
def test_an_invalid_position_is_none(text: str | None) -> None:
    """An invalid position is None, so that a note of another version prevents no start."""
    assert LogPosition.load(text) is None


def test_a_dumped_position_is_loaded_unchanged() -> None:
    """A dumped position is loaded with all its fields."""
    position = LogPosition(5, 77, "abcd", 4, 1.25, skipping=True)

    assert LogPosition.load(position.dump()) == position
