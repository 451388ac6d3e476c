"""Send ranges of open files as pieces of a response body, with the kernel's sendfile."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from entrepot.datastore.storage import descriptor_of

_CHUNK = 512 * 1024


@dataclass(frozen=True, slots=True)
class FileSlice:
    """A `FileSlice` is a file's bytes `start` to `stop` (exclusive).

    The descriptor may be closed when the next piece of the body is requested. The file contained
    all bytes of the slice when the slice was made. If the file has become shorter since then, the
    response is cut off.
    """

    descriptor: int
    start: int
    stop: int

    def chunks(self) -> Iterator[bytes]:
        """Read the slice in chunks; stop early if the file ends before `stop`."""
        at = self.start
        while at < self.stop:
            chunk = os.pread(self.descriptor, min(_CHUNK, self.stop - at), at)
            if not chunk:
                return
            at += len(chunk)
            yield chunk


Piece = bytes | FileSlice


def pieces(file: BinaryIO, start: int, stop: int) -> Iterator[Piece]:
    """Yield the bytes *start* (inclusive) to *stop* (exclusive) of an open file.

    If the storage driver has no files, sendfile has no descriptor, and the function reads the bytes
    instead. The pieces end early if the file ends before *stop*.
    """
    descriptor = descriptor_of(file)
    if descriptor is not None:
        yield FileSlice(descriptor, start, stop)
        return
    file.seek(start)
    while start < stop and (chunk := file.read(min(_CHUNK, stop - start))):
        start += len(chunk)
        yield chunk


def in_bytes(pieces: Iterable[Piece]) -> Iterator[bytes]:
    """Yield the content of *pieces* as bytes, for a caller that cannot use sendfile."""
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
        else:
            yield from piece.chunks()
