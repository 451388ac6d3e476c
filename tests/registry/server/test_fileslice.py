"""A `FileSlice` is a range of an open file that can be sent with `sendfile`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.registry.server.fileslice import FileSlice, Piece, in_bytes

CONTENT = os.urandom(3_000_000)


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    """Yield the descriptor of an open file with `CONTENT`."""
    (tmp_path / "file").write_bytes(CONTENT)
    opened = os.open(tmp_path / "file", os.O_RDONLY)
    yield opened
    os.close(opened)


@pytest.mark.parametrize(("start", "stop"), [(0, 3_000_000), (5, 2_500_000), (7, 7)])
def test_a_slice_has_the_bytes_of_its_file(descriptor: int, start: int, stop: int) -> None:
    """The chunks of a `FileSlice` together contain exactly the bytes of its range."""
    assert b"".join(FileSlice(descriptor, start, stop).chunks()) == CONTENT[start:stop]


def test_a_slice_ends_at_the_end_of_its_file(descriptor: int) -> None:
    """If a file is shorter than its `FileSlice`, the last chunk ends at the end of the file.

    The caller can then detect that bytes are missing.
    """
    assert b"".join(FileSlice(descriptor, 2_999_990, 3_000_010).chunks()) == CONTENT[-10:]


def test_pieces_can_be_read_as_bytes(descriptor: int) -> None:
    """`in_bytes` yields the bytes of all pieces of a body, including its file slices, in order."""
    pieces: list[Piece] = [b"a", FileSlice(descriptor, 0, 3), b"b"]

    assert b"".join(in_bytes(pieces)) == b"a" + CONTENT[:3] + b"b"
