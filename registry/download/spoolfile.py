"""Read and write the spool file of a download, and the file that states the final size."""

from __future__ import annotations

import logging
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path

from entrepot.datastore import layout
from entrepot.datastore.errors import ContentDamaged, DatastoreError, storage_error
from entrepot.datastore.locks import try_lock


def size_path(path: Path) -> Path:
    """Return the path of the file that states the final size of a spool file."""
    return path.with_name(f"{path.name}.size")


def read_size(path: Path) -> int | None:
    """Return the final size of a spool file in bytes, or None if the upstream announced no size.

    Raises: FileNotFoundError if the upstream has not responded yet; StorageBroken.
    """
    try:
        text = size_path(path).read_text()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise storage_error(error) from error
    # The size file of a download is empty for a moment, until the writer has written the size.
    if not text:
        raise FileNotFoundError(path)
    return int(text) if text.isdecimal() else None


def append(descriptor: int, chunk: bytes, offset: int) -> None:
    """Append to a spool file that was opened with O_APPEND and ends at *offset* (bytes).

    Linux ignores the offset of pwrite on a file with O_APPEND (pwrite(2), BUGS). So even if another
    program truncates the spool file at this moment, the write leaves no hole in the file. Raises:
    ContentDamaged if the file does not end at *offset*; OSError.
    """
    length = os.fstat(descriptor).st_size
    if length != offset:
        raise ContentDamaged(f"the spool file has {length} bytes, not {offset}")
    view = memoryview(chunk)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


_VERIFIED = 0o744


def mark_verified(descriptor: int) -> None:
    """Record for readers in all processes that a spool file contains the whole verified blob.

    The mark is a bit of the file's mode: the execute permission of its owner. Therefore a reader
    obtains the mark and the length with one system call, and deleting the file also deletes the
    mark. Raises: OSError.
    """
    os.fchmod(descriptor, _VERIFIED)


def is_verified(found: os.stat_result) -> bool:
    """Return whether a spool file has the mark of `mark_verified`."""
    return bool(found.st_mode & stat.S_IXUSR)


_STEP = 32 * 1024 * 1024  # One flush writes at least this many bytes to the disk.


class BackgroundFsync:
    """Flush an open file to the disk in a separate thread, while the writer appends to the file.

    Each flush writes 32 MiB or more, and only one flush of the file runs at a time. Readers send
    the last byte of a blob only after the commit, which flushes the whole file. That flush is
    short, because most bytes are on the disk already.

    Linux reports a failed write to the disk only once. So an error of a flush is kept, and ends the
    download: a later flush of the same file could succeed although bytes are lost.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._flushed = 0
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None

    def reached(self, offset: int) -> None:
        """Flush the file up to *offset* if `_STEP` new bytes have arrived and no flush runs.

        Raises: OSError of an earlier flush.
        """
        if offset - self._flushed < _STEP or (self._thread and self._thread.is_alive()):
            return
        self.check()
        self._flushed = offset
        self._thread = threading.Thread(target=self._flush, name="flush", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for the running flush. After this call the caller may close the file."""
        if self._thread:
            self._thread.join()

    def check(self) -> None:
        """Raise the OSError of an earlier flush, if one failed."""
        if self._error is not None:
            raise self._error

    def _flush(self) -> None:
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            self._error = error


log = logging.getLogger(__name__)


def discard_partial_downloads(state: Path, boot: str) -> None:
    """Remove the spool files that were written before the machine was rebooted.

    A download flushes its spool file in large steps only. After a power failure, the length of a
    spool file may include bytes that never reached the disk. Readers would receive wrong bytes in
    place of the lost bytes before the writer finds that the digest differs.

    *state* is the state directory. *boot* identifies this boot of the machine. If *boot* is empty,
    boots cannot be distinguished and this function keeps all files. After a restart of only the
    appliance, *boot* is unchanged and the function keeps the spool files. A disk error is logged
    and ignored.
    """
    marker = state / layout.BOOT
    try:
        if boot and _read(marker) != boot:
            _discard(marker.parent)
            marker.write_text(boot)
    except (OSError, DatastoreError) as error:
        log.warning(
            "the partial downloads of an earlier boot could not be discarded",
            extra={"error": error},
        )


def _read(marker: Path) -> str:
    with suppress(FileNotFoundError):
        return marker.read_text()
    return ""


def _discard(spool: Path) -> None:
    spool.mkdir(parents=True, exist_ok=True)
    paths = [path for path in spool.iterdir() if layout.spool_of(path.name) is not None]
    for path in paths:
        locked = try_lock(path)
        if locked is None:
            continue
        with locked:
            size_path(path).unlink(missing_ok=True)
            locked.unlink()
    if paths:
        log.info(
            "the partial downloads of an earlier boot were discarded", extra={"files": len(paths)}
        )
