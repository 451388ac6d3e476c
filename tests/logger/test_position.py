"""Where reading goes on, decided without a file."""

from __future__ import annotations

from dataclasses import replace

import pytest

from logger.position import Found, Position, Seen, after, fingerprint, generation, locate


def _seen(name: str, inode: int, *, head: bytes = b"", size: int = 100, at: float = 0) -> Seen:
    return Seen(name, inode, size, at, head or name.encode() * 4)


def _inside(seen: Seen, offset: int) -> Position:
    length = min(offset, len(seen.head))
    return Position(seen.inode, offset, fingerprint(seen.head[:length]), length, seen.modified)


OLD = _seen("log.2", 2, head=b"aaaa", at=10)
MIDDLE = _seen("log.1", 1, head=b"bbbb", at=20)
YOUNG = _seen("log", 3, head=b"cccc", at=30)
FAMILY = [OLD, MIDDLE, YOUNG]


def test_without_a_position_reading_starts_with_the_oldest_file() -> None:
    """Nothing was read yet, so all of it is read, and nothing was lost."""
    assert locate(FAMILY, None) == Found(OLD, OLD.start())


def test_without_a_file_there_is_nothing_to_find() -> None:
    """A log that does not exist yet is waited for."""
    assert locate([], None) is None
    assert locate([], _inside(YOUNG, 4)) is None


@pytest.mark.parametrize("seen", FAMILY, ids=[each.name for each in FAMILY])
def test_a_position_is_found_under_whatever_name_its_file_has_now(seen: Seen) -> None:
    """Rotations while the reader was away change names, not inodes and not beginnings."""
    assert locate(FAMILY, _inside(seen, 50)) == Found(seen, _inside(seen, 50))


def test_a_copy_with_another_inode_is_the_same_file() -> None:
    """A data directory that was moved to another disk is read on where it had been read to."""
    moved = [replace(each, inode=each.inode + 100) for each in FAMILY]

    found = locate(moved, _inside(MIDDLE, 50))

    assert found == Found(moved[1], _inside(moved[1], 50))


def test_a_reused_inode_is_not_the_file() -> None:
    """The file system gave the number of the deleted file to a new one: begin at the oldest."""
    gone = Position(YOUNG.inode, 50, fingerprint(b"zzzz"), 4, modified=5)

    assert locate(FAMILY, gone) == Found(OLD, OLD.start(), gap=True)


def test_a_truncated_file_is_read_from_its_start_and_older_ones_not_again() -> None:
    """What was between the position and the cut is a gap; what was read before is not recounted."""
    truncated = replace(YOUNG, size=0, head=b"", modified=31)

    found = locate([OLD, MIDDLE, truncated], _inside(YOUNG, 50))

    assert found == Found(truncated, truncated.start(), gap=True)


def test_a_file_shorter_than_the_position_is_not_the_file() -> None:
    """The same beginning and a smaller size: it was cut."""
    found = locate([replace(YOUNG, size=49, modified=31)], _inside(YOUNG, 50))

    assert found is not None
    assert found.gap


def test_a_position_at_the_start_of_an_empty_file_follows_its_inode() -> None:
    """There is no beginning to compare yet."""
    assert locate(FAMILY, MIDDLE.start()) == Found(MIDDLE, MIDDLE.start())


def test_the_next_file_is_the_next_younger() -> None:
    """After the file that was read to its end comes the one that was begun at its rotation."""
    assert after(FAMILY, _inside(OLD, 50)) == Found(MIDDLE, MIDDLE.start())
    assert after(FAMILY, _inside(YOUNG, 50)) is None


def test_a_file_that_left_the_family_while_it_was_read_is_a_gap() -> None:
    """So many rotations that nobody knows how many."""
    left = Position(77, 50, fingerprint(b"zzzz"), 4, modified=5)

    assert after(FAMILY, left) == Found(OLD, OLD.start(), gap=True)


def test_a_deleted_file_does_not_send_its_reader_back_to_older_ones() -> None:
    """Who deletes the log by hand may go on writing to it; the rotated ones were read before."""
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
def test_a_generation_is_read_off_the_name(name: str, expected: int | None) -> None:
    """Only what supervisord's rotation writes belongs to the family."""
    assert generation(name, "access.log") == expected


@pytest.mark.parametrize("text", [None, "", "{", "[]", "null", '"x"', '{"inode": 1}', '{"x": 1}'])
def test_what_never_was_a_position_is_none(text: str | None) -> None:
    """A note of another version must not keep the logger from starting."""
    assert Position.load(text) is None


def test_a_position_survives_its_dump() -> None:
    """The note gives back what was kept."""
    position = Position(5, 77, "abcd", 4, 1.25, skipping=True)

    assert Position.load(position.dump()) == position
