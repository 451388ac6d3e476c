"""Bytes on their way to a client that still lie in a file: the kernel sends them from there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

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


def in_bytes(pieces: Iterable[Piece]) -> Iterator[bytes]:
    """Yield what *pieces* are, for whoever can't take it from a file."""
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
        else:
            yield from piece.chunks()
