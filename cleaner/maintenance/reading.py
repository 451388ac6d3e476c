"""Read stored content at a limited rate, and verify its digest.

A file with a wrong digest is moved to quarantine; in a bucket, it is only marked. A read puts the
pages of the file into the page cache of the kernel, which then drops other pages. So if a file was
not used within the last hour, its pages are removed from the page cache immediately after the read.
"""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO

from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.datastore.errors import IndexUnavailable, NotFound, storage_error
from entrepot.datastore.index import ContentKind, IndexEntry
from entrepot.datastore.quarantine import Quarantine
from entrepot.datastore.refs import Digest
from entrepot.datastore.storage import descriptor_of, is_remote

_CHUNK = 1024 * 1024
_WARM_S = 3600.0
_LOWEST = 19
# The number of the system call ioprio_set on each architecture.
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_IDLE_CLASS = 3 << 13

Pace = Callable[[int], None]
"""A `Pace` is called with the number of bytes that were just read.

The `Pace` waits, so that the rate is limited, and raises `Stopped` if the process must exit.
"""


class Stopped(Exception):  # noqa: N818 - it is no error
    """A `Stopped` interrupts a read of content, because the process must exit."""


class Condition(Enum):
    """A `Condition` is the result of a verification.

    ABSENT means that the content is not stored, for example because it was evicted.
    """

    RIGHT = "right"
    DAMAGED = "damaged"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class ReadResult:
    """A `ReadResult` is the result of a verification, and the number of bytes that were read."""

    verdict: Condition
    size: int = 0


@dataclass(frozen=True, slots=True)
class ContentReader:
    """A `ContentReader` verifies the content of one store.

    `clock` returns the time in seconds since the UTC epoch.
    """

    store: DataDirectory
    quarantine: Quarantine
    clock: Callable[[], float]

    def check(self, digest: Digest, *, found: str, pace: Pace, drops: bool = True) -> ReadResult:
        """Verify the stored content of *digest*; move a damaged file to quarantine.

        *found* is a text for the event about a damaged file: it states which check found the
        damage. If *drops* is set and the file was not used within the last hour, its pages are
        removed from the page cache.
        Raises: Stopped, StorageFull, StorageBroken.
        """
        try:
            file = self.store.storage.open(layout.blob(digest))
        except NotFound:
            return ReadResult(Condition.ABSENT)
        try:
            with file:
                size = self._check(digest, file, pace, drops=drops and self._is_cold(digest))
                if size >= 0:
                    return ReadResult(Condition.RIGHT, size)
                return self._condemn(digest, file, -size - 1, found)
        except OSError as error:
            raise storage_error(error) from error

    def _check(self, digest: Digest, file: BinaryIO, pace: Pace, *, drops: bool) -> int:
        """Return the size in bytes if the content matches its digest, otherwise `-size - 1`."""
        hasher, size = digest.hasher(), 0
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
            if drops:
                _forget(file, size, len(chunk))
            size += len(chunk)
            pace(len(chunk))
        if hasher.hexdigest() != digest.hex:
            return -size - 1
        self._heal(digest, size)
        return size

    def _condemn(self, digest: Digest, file: BinaryIO, size: int, found: str) -> ReadResult:
        is_put = self.quarantine.put(digest, file, size=size, found=found)
        return ReadResult(Condition.DAMAGED if is_put else Condition.ABSENT, size)

    def _is_cold(self, digest: Digest) -> bool:
        try:
            row = self.store.index.entry(digest)
        except IndexUnavailable:
            return False
        return row is None or self.clock() - row.used > _WARM_S

    def _heal(self, digest: Digest, size: int) -> None:
        """Correct the size in the index after the content was found to be intact.

        The index may still have the size of a damaged file that was replaced. In a bucket, the
        content may also still be marked as damaged, although another program has restored it. In
        that case, create a row and remove the mark.
        """
        index = self.store.index
        with suppress(IndexUnavailable):
            row = index.entry(digest)
            if row is not None and row.size != size:
                index.record(digest, size, row.kind, row.used, children=index.children(digest))
            is_bucket = is_remote(self.store.storage)
            if row is None and is_bucket and self.quarantine.is_marked(digest):
                index.restore([IndexEntry(digest, size, ContentKind.BLOB, self.clock())])
                self.quarantine.remove(digest)


def _forget(file: BinaryIO, start: int, length: int) -> None:
    """Remove the pages of a range of a file from the page cache."""
    descriptor = descriptor_of(file)
    if descriptor is not None:
        with suppress(OSError):
            os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_DONTNEED)


def yield_to_others() -> None:
    """Set the lowest CPU and disk priority for the calling thread."""
    thread = threading.get_native_id()
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, _LOWEST)
    number = _IOPRIO_SET.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None).syscall(number, 1, thread, _IDLE_CLASS)
