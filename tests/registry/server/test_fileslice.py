"""Bytes that lie in a file until they are sent."""

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
def test_it_is_what_lies_there(descriptor: int, start: int, stop: int) -> None:
    """More than a chunk holds."""
    assert b"".join(FileSlice(descriptor, start, stop).chunks()) == CONTENT[start:stop]


def test_a_file_that_ends_before_it_ends_it(descriptor: int) -> None:
    """Whoever asked sees that there was less."""
    assert b"".join(FileSlice(descriptor, 2_999_990, 3_000_010).chunks()) == CONTENT[-10:]


def test_all_of_it_can_be_had_as_bytes(descriptor: int) -> None:
    """In order, whatever each piece is."""
    pieces: list[Piece] = [b"a", FileSlice(descriptor, 0, 3), b"b"]

    assert b"".join(in_bytes(pieces)) == b"a" + CONTENT[:3] + b"b"
