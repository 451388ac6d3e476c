"""Ranges of open files, as `sendfile` sends them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.registry.server.fileslice import FileSlice, Piece, in_bytes

CONTENT = os.urandom(3_000_000)


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    """Return an open file."""
    (tmp_path / "file").write_bytes(CONTENT)
    opened = os.open(tmp_path / "file", os.O_RDONLY)
    yield opened
    os.close(opened)


@pytest.mark.parametrize(("start", "stop"), [(0, 3_000_000), (5, 2_500_000), (7, 7)])
def test_a_slice_has_the_bytes_of_its_file(descriptor: int, start: int, stop: int) -> None:
    """A `FileSlice` has the bytes of its file, also if it is larger than a chunk."""
    assert b"".join(FileSlice(descriptor, start, stop).chunks()) == CONTENT[start:stop]


def test_a_slice_ends_at_the_end_of_its_file(descriptor: int) -> None:
    """A `FileSlice` ends at the end of its file, so its caller sees that bytes are missing."""
    assert b"".join(FileSlice(descriptor, 2_999_990, 3_000_010).chunks()) == CONTENT[-10:]


def test_pieces_can_be_read_as_bytes(descriptor: int) -> None:
    """Bytes and file slices can be read as bytes, in order."""
    pieces: list[Piece] = [b"a", FileSlice(descriptor, 0, 3), b"b"]

    assert b"".join(in_bytes(pieces)) == b"a" + CONTENT[:3] + b"b"
