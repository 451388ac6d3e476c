"""Tests of `locate` and `after`, which find the reader's position in a rotated log."""

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
    """Without a position, the reader begins with the oldest file of the log."""
    assert locate(FAMILY, None) == ResumePoint(OLD, OLD.start())


def test_without_a_file_there_is_no_position() -> None:
    """If the log has no file, there is no position, and the reader waits for a file."""
    assert locate([], None) is None
    assert locate([], _inside(YOUNG, 4)) is None


@pytest.mark.parametrize("seen", FAMILY, ids=[each.name for each in FAMILY])
def test_a_position_is_found_after_its_file_was_renamed(seen: Seen) -> None:
    """If the file of a position was renamed, its inode and first bytes identify it."""
    assert locate(FAMILY, _inside(seen, 50)) == ResumePoint(seen, _inside(seen, 50))


def test_a_copy_with_another_inode_is_the_same_file() -> None:
    """If a file has the first bytes that the position records, the reader continues in that file.

    So the position remains valid when a file gets a new inode, for example because the data
    directory was moved to another disk.
    """
    moved = [replace(each, inode=each.inode + 100) for each in FAMILY]

    found = locate(moved, _inside(MIDDLE, 50))

    assert found == ResumePoint(moved[1], _inside(moved[1], 50))


def test_a_copy_is_not_read_while_the_file_itself_is_there() -> None:
    """If both a file and its copy exist, the reader continues in the file with the recorded inode.

    Otherwise it would read the same lines twice, in the copy and in the file.
    """
    copied = [replace(YOUNG, name="log.1", inode=99), YOUNG]

    assert locate(copied, _inside(YOUNG, 50)) == ResumePoint(YOUNG, _inside(YOUNG, 50))


def test_another_file_with_the_same_inode_is_a_gap() -> None:
    """If another file now has the position's inode, the reader reports a gap of lost lines."""
    gone = LogPosition(YOUNG.inode, 50, fingerprint(b"zzzz"), 4, modified=5)

    assert locate(FAMILY, gone) == ResumePoint(OLD, OLD.start(), gap=True)


def test_a_truncated_file_is_read_from_its_start_and_older_ones_not_again() -> None:
    """If the file of the position was truncated, the reader begins at the start of this file.

    It does not read older files again.
    """
    truncated = replace(YOUNG, size=0, head=b"", modified=31)

    found = locate([OLD, MIDDLE, truncated], _inside(YOUNG, 50))

    assert found == ResumePoint(truncated, truncated.start(), gap=True)


def test_a_file_shorter_than_the_position_is_a_gap() -> None:
    """If a file is shorter than the reader's position in it, the reader reports a gap."""
    found = locate([replace(YOUNG, size=49, modified=31)], _inside(YOUNG, 50))

    assert found is not None
    assert found.gap


def test_a_position_at_the_start_of_an_empty_file_follows_its_inode() -> None:
    """If the position is at the start of a file, only the inode identifies the file."""
    assert locate(FAMILY, MIDDLE.start()) == ResumePoint(MIDDLE, MIDDLE.start())


def test_the_next_file_is_the_next_younger() -> None:
    """At the end of a rotated file, the reader continues with the next younger file."""
    assert after(FAMILY, _inside(OLD, 50)) == ResumePoint(MIDDLE, MIDDLE.start())
    assert after(FAMILY, _inside(YOUNG, 50)) is None


def test_a_file_that_left_the_family_while_it_was_read_is_a_gap() -> None:
    """If a file is rotated away while it is read, the reader reports a gap of unknown size."""
    left = LogPosition(77, 50, fingerprint(b"zzzz"), 4, modified=5)

    assert after(FAMILY, left) == ResumePoint(OLD, OLD.start(), gap=True)


def test_after_a_deleted_file_older_files_are_not_read_again() -> None:
    """If the file of the position was deleted, the reader does not read older files again."""
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
    """A rotated file with a higher number in its name is older.

    Only names that the rotation creates belong to the log.
    """
    assert generation(name, "access.log") == expected


@pytest.mark.parametrize("text", [None, "", "{", "[]", "null", '"x"', '{"inode": 1}', '{"x": 1}'])
def test_an_invalid_position_is_none(text: str | None) -> None:
    """A stored position that cannot be parsed is loaded as None, so that the logger can start."""
    assert LogPosition.load(text) is None


def test_a_dumped_position_is_loaded_unchanged() -> None:
    """A position keeps all its fields when it is stored and loaded."""
    position = LogPosition(5, 77, "abcd", 4, 1.25, skipping=True)

    assert LogPosition.load(position.dump()) == position
