"""The spool file of a download, and the file beside it that tells how long it will be."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from contextlib import suppress
from pathlib import Path

from entrepot.datastore import layout
from entrepot.datastore.errors import ContentDamaged, DatastoreError, refusal
from entrepot.datastore.locks import try_lock


def size_path(path: Path) -> Path:
    """Return the file that tells how long a spool file will be."""
    return path.with_name(f"{path.name}.size")


def read_size(path: Path) -> int | None:
    """Return how long a spool file will be, in bytes; None when that is not known.

    Raises: FileNotFoundError as long as the upstream has not answered; StorageBroken.
    """
    try:
        text = size_path(path).read_text()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise refusal(error) from error
    if not text:  # it is made before it is written
        raise FileNotFoundError(path)
    return int(text) if text.isdecimal() else None


def append(descriptor: int, chunk: bytes, offset: int) -> None:
    """Append to a file, opened with O_APPEND, that ends at *offset*.

    With O_APPEND the kernel ignores the offset of pwrite (pwrite(2), BUGS): a file that is cut at
    this moment stays too short, instead of having a hole. Raises: ContentDamaged, OSError.
    """
    length = os.fstat(descriptor).st_size
    if length != offset:
        raise ContentDamaged(f"a file that is written has {length} bytes, not {offset}")
    view = memoryview(chunk)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


_STEP = 32 * 1024 * 1024  # bytes


class BackgroundFsync:
    """Flushes an open file in steps, one at a time, beside whoever writes it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._flushed = 0
        self._thread: threading.Thread | None = None

    def reached(self, offset: int) -> None:
        """Flush what lies before *offset* (bytes), if that is enough to be worth it."""
        if offset - self._flushed < _STEP or (self._thread and self._thread.is_alive()):
            return
        self._flushed = offset
        self._thread = threading.Thread(target=self._flush, name="flush", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for the step that runs: the file may be closed after."""
        if self._thread:
            self._thread.join()

    def _flush(self) -> None:
        with contextlib.suppress(OSError):  # whoever lands the file flushes it, and hears of it
            os.fdatasync(self._descriptor)


log = logging.getLogger(__name__)


def discard_partial_downloads(state: Path, boot: str) -> None:
    """Remove the spool files in the state directory, unless *boot* has written them.

    Where nothing tells one boot from another, *boot* is empty and all are kept. A restart of the
    appliance alone keeps them. A disk that refuses it is logged.
    """
    marker = state / layout.BOOT
    try:
        if boot and _read(marker) != boot:
            _discard(marker.parent)
            marker.write_text(boot)
    except (OSError, DatastoreError) as error:
        log.warning("partial downloads not discarded", extra={"error": error})


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
        log.info("partial downloads of an earlier boot discarded", extra={"files": len(paths)})
