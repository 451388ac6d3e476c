"""Bytes on their way to a client that still lie in a file: the kernel sends them from there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import UnsupportedOperation
from typing import BinaryIO

_CHUNK = 512 * 1024


@dataclass(frozen=True, slots=True)
class FileSlice:
    """Bytes `start` to `stop` (exclusive) of an open file, good until the next piece is taken.

    The file had them when this was made; one that has become shorter breaks off the response.
    """

    descriptor: int
    start: int
    stop: int

    def chunks(self) -> Iterator[bytes]:
        """Read it; a file that ends before `stop` ends it."""
        at = self.start
        while at < self.stop:
            chunk = os.pread(self.descriptor, min(_CHUNK, self.stop - at), at)
            if not chunk:
                return
            at += len(chunk)
            yield chunk


Piece = bytes | FileSlice


def pieces(file: BinaryIO, start: int, stop: int) -> Iterator[Piece]:
    """Yield the bytes *start* to *stop* (exclusive) of an open file.

    A storage driver without files has no descriptor for the kernel to send from: its bytes are
    read. A file that ends before *stop* ends them.
    """
    descriptor = descriptor_of(file)
    if descriptor is not None:
        yield FileSlice(descriptor, start, stop)
        return
    file.seek(start)
    while start < stop and (chunk := file.read(min(_CHUNK, stop - start))):
        start += len(chunk)
        yield chunk


def descriptor_of(file: BinaryIO) -> int | None:
    """Return the descriptor of an open file; None where the driver has no files."""
    try:
        return file.fileno()
    except (AttributeError, UnsupportedOperation):
        return None


def in_bytes(pieces: Iterable[Piece]) -> Iterator[bytes]:
    """Yield what *pieces* are, for whoever can't take it from a file."""
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
        else:
            yield from piece.chunks()
