"""Read an object of a bucket as a seekable file, and send as few requests as possible."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from typing import Any

from entrepot.datastore.errors import DatastoreError

_CHUNK = 256 * 1024
_MOST_BREAKS = 16
"""The response can break this many times while a file is read; one more break is an error."""
_NEAR = 256 * 1024
"""After a seek forward by at most this many bytes, no new request is sent: the bytes in between are
read from the same response."""

OpenAt = Callable[[int], Any]
"""An `OpenAt` requests the object from an offset in bytes on, and returns the response."""


class ObjectFile(io.RawIOBase):
    """An `ObjectFile` is an object of a bucket that is open for reading.

    If the file is read from its start to its end, only the response *first* is needed. When the
    file is closed, it calls *received* with the number of bytes that were read from all responses.

    Each method raises OSError if the object was removed or replaced, or if the storage fails.
    """

    def __init__(
        self,
        key: str,
        first: Any,  # noqa: ANN401 - from obstore
        open_at: OpenAt,
        received: Callable[[int], None] = lambda _: None,
    ) -> None:
        super().__init__()
        self._received = received
        self._count = 0
        self._key = key
        self.size: int = first.meta["size"]
        self.entity_tag: str | None = first.meta["e_tag"]
        self._open_at = open_at
        self._position = 0
        self._least = _CHUNK
        self._breaks = 0
        self._chunks: Iterator[bytes] | None = _chunks_of(first, self._least)
        self._chunk = memoryview(b"")
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the offset in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Set the offset; the next read sends a request if the current response cannot be used."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - any writable buffer
        """Read into *buffer*; return the number of bytes that were read, 0 at the end."""
        view = memoryview(buffer).cast("B")
        left = min(len(view), self.size - self._position)
        if left <= 0:
            return 0
        self._find()
        count = min(left, len(self._chunk))
        view[:count] = self._chunk[:count]
        self._chunk = self._chunk[count:]
        self._at += count
        self._position += count
        return count

    def close(self) -> None:
        """Close the file and its response."""
        count, self._count = self._count, 0
        self._received(count)
        self._chunks, self._chunk = None, memoryview(b"")
        super().close()

    def _find(self) -> None:
        """Read the response or restart it until `_chunk` begins at the offset. Raises: OSError."""
        ahead = self._position - self._at
        if self._chunks is None or ahead < 0 or ahead > len(self._chunk) + _NEAR:
            self._restart(self._position)
            ahead = 0
        while ahead >= len(self._chunk):
            ahead -= len(self._chunk)
            self._at += len(self._chunk)
            self._chunk = memoryview(self._next())
        self._chunk = self._chunk[ahead:]
        self._at += ahead

    def _restart(self, start: int) -> None:
        try:
            found = self._open_at(start)
        except DatastoreError as error:
            raise OSError(f"{self._key} cannot be read: {error}") from error
        if found is None or found.meta["size"] != self.size:
            raise OSError(f"{self._key} was removed or replaced while it was read")
        self._chunks, self._chunk, self._at = None, memoryview(b""), start
        self._chunks = _chunks_of(found, self._least)

    def _next(self) -> bytes:
        """Return the next bytes from `_at` on; if the response breaks, request them once more."""
        for is_last in (False, True):
            assert self._chunks is not None  # noqa: S101 - _find or _restart has opened it
            why = "it ended early"
            try:
                if chunk := next(self._chunks, b""):
                    self._count += len(chunk)
                    return chunk
            except Exception as error:  # noqa: BLE001 - obstore documents no class for it
                why = str(error).partition("\n")[0]
            self._breaks += 1
            if is_last or self._breaks > _MOST_BREAKS:
                break
            self._least = 1  # With larger chunks, the bytes before another break would be lost.
            self._restart(self._at)
        self._chunks = None
        raise OSError(f"{self._key} cannot be read: {why}")


def _chunks_of(response: Any, least: int) -> Iterator[bytes]:  # noqa: ANN401 - from obstore
    """Yield the body in chunks of at least *least* bytes.

    If the response breaks, obstore discards a chunk that has fewer than *least* bytes.
    """
    stream: Iterator[bytes] = iter(response.stream(min_chunk_size=least))
    return stream
