"""Single flight shares one download of a blob among all clients of all workers.

Every client of a download is a reader. The writer belongs to no request: it is a thread that
appends to a spool file and holds the file's lock. Readers in any process follow the file as it
grows. While the lock is held, a writer is active. The length of the spool file shows how many bytes
have arrived. A file in the blob store is verified. A download has no state except its files and the
lock. So if a writer dies, the kernel releases the lock, a reader acquires the lock, and the
reader's process continues the download where the file ends.

The worker sends the last byte of a blob only after the digest is verified. A commit to a remote
storage takes long. Therefore the writer marks the spool file as verified before such a commit, and
readers send the whole spool file while the writer commits the blob.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from entrepot.datastore import layout
from entrepot.datastore.errors import (
    ContentDamaged,
    DatastoreError,
    NotFound,
    StorageBroken,
    storage_error,
)
from entrepot.datastore.locks import LockedFile, try_lock
from entrepot.datastore.refs import Digest
from entrepot.datastore.storage import descriptor_of
from entrepot.registry.download.resume import limited, resumed
from entrepot.registry.download.spoolfile import is_verified, read_size
from entrepot.registry.download.verify import verified_range
from entrepot.registry.download.writer import Destination, Download, Task
from entrepot.registry.errors import Absent, Denied
from entrepot.registry.server.fileslice import FileSlice, Piece, pieces
from entrepot.runtime.bounded_dict import BoundedDict
from entrepot.runtime.reused_threads import ReusedThreads

_MIN_SEND = 4 * 1024 * 1024  # If fewer bytes than this have arrived, a reader waits once for more.
_MORE_WITHIN_S = 0.01
# After a commit, a reader waits at most this many seconds for the writer to link the blob.
_LINKED_WITHIN_S = 1.0
_SHORTEST_WAIT_S = 0.002
_LONGEST_WAIT_S = 0.05
_DISTRUSTED_S = 600.0
_MOST_DISTRUSTED = 1024
# After this many seconds without new bytes, a reader checks whether the writer is alive.
_TOO_QUIET_S = 0.016


class _Distrusted:
    """A `_Distrusted` lists sources that sent wrong bytes in the last 10 minutes.

    Each pair of digest and upstream has its own list. A download uses no listed source. If all
    sources of a download would be listed, the list is emptied instead.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: BoundedDict[tuple[Digest, str], tuple[frozenset[int], float]] = BoundedDict(
            _MOST_DISTRUSTED
        )

    def add(self, task: Task, sources: frozenset[int]) -> None:
        """Record the sources of a download whose digest did not match."""
        until = time.monotonic() + _DISTRUSTED_S
        with self._lock:
            together = task.without | sources
            # If all sources sent wrong bytes, the next download tries all of them again.
            if len(together) >= len(task.fetches):
                together = frozenset()
            self._known.keep((task.digest, task.upstream), (together, until))

    def of(self, task: Task) -> frozenset[int]:
        """Return the distrusted sources of a task, as positions in `Task.fetches`."""
        found, until = self._known.get((task.digest, task.upstream), (frozenset[int](), 0.0))
        return found if time.monotonic() < until else frozenset()


class SingleFlight:
    """A `SingleFlight` begins and joins downloads; all workers share these downloads."""

    def __init__(self, spool: Path, destination: Destination) -> None:
        self._spool = spool
        self._destination = destination
        self.is_remote = destination.blobs.is_remote
        self._running: dict[Digest, Download] = {}
        self._distrusted = _Distrusted()
        self._threads = ReusedThreads()
        self._lock = threading.Lock()

    def path(self, key: Digest) -> Path:
        """Return the path of the spool file of the download with the key *key*."""
        return self._spool / layout.spool(key)

    def stored_size(self, task: Task) -> int | None:
        """Return the size of a committed blob in bytes, or None if the blob is not committed."""
        if self.is_remote and self._destination.is_absent(task.digest):
            return None
        stat = self._destination.blobs.stat(task.digest)
        return stat.size if stat and task.is_proven() else None

    def open_stored(self, task: Task) -> tuple[BinaryIO, int] | None:
        """Open a committed blob, and return the open file and the size of the blob in bytes.

        Return None if the blob is not committed yet.
        """
        if not task.is_proven():
            return None
        try:
            return self._destination.blobs.open_sized(task.digest)
        except NotFound:
            return None

    def open_spooled(self, task: Task) -> int | None:
        """Open the spool file of a download and return the descriptor.

        Return None if the file does not exist. Raises: StorageBroken.
        """
        try:
            return os.open(self.path(task.key), os.O_RDONLY)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise storage_error(error) from error

    def is_running(self, task: Task) -> bool:
        """Return True if the blob has a spool file of a running or interrupted download."""
        return self.path(task.key).exists()

    def trusted(self, task: Task) -> Task:
        """Return a copy of a task without the sources that sent wrong bytes recently."""
        return replace(task, without=self._distrusted.of(task))

    def join(self, task: Task) -> Reader:
        """Follow the download of a blob as a reader.

        If the download has no writer, this call begins or continues the download.

        Raises: Absent or Denied if this call began the download and the upstream refused the
        request; another UpstreamError if the download failed; StorageFull or StorageBroken if
        nothing can be written.
        """
        download, is_ours = self.begin(task, is_opened_by_caller=True)
        is_confirmed = False
        try:
            if download and is_ours:
                is_confirmed = download.open()
            if download and not is_confirmed:
                download.wait_opened()
        except (Absent, Denied):
            if is_ours:
                raise
            # The upstream refused a request for another repository, so this reader sends its own
            # request.
            return self.join(task)
        return Reader(self, task, download, is_ours=is_ours, is_confirmed=is_confirmed)

    def begin(
        self, task: Task, *, is_opened_by_caller: bool = False
    ) -> tuple[Download | None, bool]:
        """Start to write the spool file of a blob in this process, unless a writer is active.

        Return the download, and True if this call started it. The download is None if another
        process writes the file, or if the blob is stored already. If *is_opened_by_caller* is set,
        the caller must call `open` on a download that this call started.
        """
        with self._lock, ExitStack() as undo:
            known = self._running.get(task.key)
            if known and not known.is_done:
                return known, False
            locked = try_lock(self.path(task.key))
            if locked is None:
                return None, False
            undo.callback(locked.close)
            if self.stored_size(task) is not None:
                locked.unlink()
                return None, False
            download = Download(
                self.trusted(task),
                self.path(task.key),
                locked.fd,
                self._destination,
                self._distrusted.add,
                is_opened_by_caller=is_opened_by_caller,
            )
            self._start(download, locked)
            undo.pop_all()
        return download, True

    def _start(self, download: Download, locked: LockedFile) -> None:
        """Run a download in another thread of this process.

        Raises: StorageBroken if the process can start no thread.
        """
        key = download.task.key

        def run() -> None:
            with locked:
                try:
                    download.run()
                finally:
                    with self._lock:  # A new download with the same key may have replaced this one.
                        if self._running.get(key) is download:
                            del self._running[key]

        self._running[key] = download
        try:
            self._threads.start(run, f"fetch {download.task.digest}")
        except RuntimeError as error:
            del self._running[key]
            raise StorageBroken(str(error)) from error


class Reader:
    """A `Reader` is one client's view of a blob that is being downloaded.

    `collapsed` is True if another client's request began the download. `is_confirmed` is True if
    this reader has sent the request to which the upstream responded, so the upstream has the blob
    in the repository of this reader. The reader calls `on_stored` after the blob is verified and
    stored, and before it yields the last byte. With a remote storage, the reader may yield the last
    byte during the commit; then a download of this process calls `on_stored` after the commit.
    """

    def __init__(
        self,
        downloads: SingleFlight,
        task: Task,
        download: Download | None,
        *,
        is_ours: bool,
        is_confirmed: bool = False,
    ) -> None:
        self.collapsed = not is_ours
        self.is_confirmed = is_confirmed
        self.on_stored: Callable[[], None] = lambda: None
        self._downloads = downloads
        self._task = task
        self._download = download
        self._is_ours = is_ours
        self._descriptor: int | None = None
        self._stored: BinaryIO | None = None
        self._stored_size = 0
        self._size = download.size if download else None
        self._is_verified = False
        self._pause = _SHORTEST_WAIT_S

    def size(self) -> int | None:
        """Wait for the upstream's response and return the size of the blob, in bytes.

        Return None if the upstream did not announce the size. Raises: UpstreamError if the download
        failed for a reason that applies to this reader's task; StorageFull or StorageBroken if a
        local disk error ended the download.
        """
        while True:
            if self._download is not None and (self.is_confirmed or self._download.is_opened):
                self._size = self._download.size
                return self._size
            try:
                self._size = read_size(self._downloads.path(self._task.key))
            except FileNotFoundError:
                stored = self._downloads.stored_size(self._task)
                if stored is not None:
                    return stored
            else:
                return self._size
            self._wait_or_take_over()

    def received(self) -> int:
        """Return how many bytes of the blob have arrived."""
        self._is_stored()
        return self._length()

    def read(self, start: int, stop: int | None, *, early: bool = False) -> Iterator[Piece]:
        """Yield the bytes from *start* to *stop* (exclusive; None means the end) as they arrive.

        The last byte is yielded only after the blob is verified. If *early* is set, this applies
        only to the last byte of the whole blob, and a range without that byte is not verified.
        Raises: UpstreamError or DatastoreError in the middle of the body, after which the caller
        must close the client's connection.
        """
        try:
            yield from self._read(start, stop, early=early)
        finally:
            self.close()

    def close(self) -> None:
        """Close the file from which this reader reads."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        if self._stored is not None:
            self._stored.close()
        self._descriptor = self._stored = None

    # ---- reading bytes that have arrived

    def _read(self, start: int, stop: int | None, *, early: bool) -> Iterator[Piece]:
        first, has_waited = start, False
        if self._download is not None:
            self._download.follow()
        while stop is None or start < stop:
            available = self._ready(stop, early=early)
            if start < available:
                # A client waits for the first byte, so this reader does not wait for more bytes.
                is_first = start == first
                if (
                    is_first
                    or has_waited
                    or available == stop
                    or self._is_worth_it(available - start)
                ):
                    yield from self._pieces(start, available)
                    start, self._pause, has_waited = available, _SHORTEST_WAIT_S, False
                    continue
                self._wait(_MORE_WITHIN_S)
            elif self._is_verified or self._stored is not None:
                if start < (self._whole_size() if stop is None else stop):
                    raise ContentDamaged(f"{self._task.digest} ends at {start}, not at {stop}")
                return
            elif self._is_stored():
                continue  # From now on, the whole blob may be sent.
            elif self._is_abandoned() or not self._has_waited():
                yield from self._fetch_privately(first, start, stop, early=early)
                return
            has_waited = True

    def _whole_size(self) -> int:
        """Return the size of a verified blob in bytes, or 0 if no source has stated its size."""
        return self._stored_size if self._stored is not None else self._size or 0

    def _is_worth_it(self, length: int) -> bool:
        """Return True if *length* bytes are enough to send now, or if the blob is verified.

        A reader that sends fewer bytes at a time needs more wake-ups, which cost CPU time.
        """
        return length >= _MIN_SEND or self._is_verified or self._stored is not None

    def _pieces(self, start: int, stop: int) -> Iterator[Piece]:
        """Yield bytes that have arrived, from the stored blob or from the spool file."""
        if self._stored is not None:
            yield from pieces(self._stored, start, stop)
        elif self._descriptor is not None:
            yield FileSlice(self._descriptor, start, stop)

    def _ready(self, stop: int | None, *, early: bool) -> int:
        """Return the offset up to which bytes of the blob may be sent.

        Before the blob is verified, the offset excludes the last byte of the blob and, unless
        *early* is set, the last byte before *stop*.
        """
        length = self._length()
        end = length if stop is None else min(length, stop)
        if self._is_verified or self._stored is not None:
            return end
        if stop is not None and not early:
            end = min(end, stop - 1)
        return max(min(end, self._size - 1 if self._size else length - 1), 0)

    def _length(self) -> int:
        if self._stored is not None:
            return self._length_of_stored(self._stored)
        if self._descriptor is None:
            self._descriptor = self._downloads.open_spooled(self._task)
        if self._descriptor is None:
            return 0
        found = os.fstat(self._descriptor)
        if self._downloads.is_remote and not self._is_verified and is_verified(found):
            self._note_verified()
        return found.st_size

    def _note_verified(self) -> None:
        """Record that the blob in the spool file is verified; call `on_stored` after the commit."""
        self._is_verified = True
        if self._download is not None:
            self._download.after_commit(self.on_stored)

    def _may_be_stored(self) -> bool:
        """Return False if the blob is certainly not committed yet.

        PERF: a look-up in a remote storage costs a request. A commit to a remote storage removes
        the spool file, so while the file exists, no look-up is needed.
        """
        if not self._downloads.is_remote:
            return True
        if self._download is not None and not self._download.is_done:
            return False
        return self._descriptor is None or os.fstat(self._descriptor).st_nlink == 0

    def _is_stored(self) -> bool:
        """Return True if the blob is in the store; then this reader reads the stored file.

        The spool file does not show whether the blob is stored, because any process that tries to
        take the lock creates the spool file for an instant.
        """
        if self._stored is None and not self._is_verified and self._may_be_stored():
            stored = self._downloads.open_stored(self._task)
            if stored is not None:
                # The reader waits until the writer has linked the blob. If the reader linked the
                # blob too, the link would cost two more disk flushes.
                if self._download is not None:
                    self._download.wait_done(_LINKED_WITHIN_S)
                self.close()
                self._stored, self._stored_size = stored
                self.on_stored()
        return self._stored is not None

    def _length_of_stored(self, file: BinaryIO) -> int:
        """Return the current length of the stored file, in bytes; a fault may have truncated it."""
        descriptor = descriptor_of(file)
        return self._stored_size if descriptor is None else os.fstat(descriptor).st_size

    def _is_abandoned(self) -> bool:
        """Return True if the writer has failed: the content is wrong, or the disk failed."""
        if self._download is not None and self._download.is_done and self._download.error:
            return isinstance(self._download.error, DatastoreError)
        if self._descriptor is None or os.fstat(self._descriptor).st_nlink:
            return False
        return not self._is_stored()

    # ---- waiting when no bytes arrive

    def _has_waited(self) -> bool:
        """Wait for more bytes of the blob.

        Return False if a local disk error has ended the download in the meantime.

        Raises: UpstreamError if the upstream failed.
        """
        try:
            self._wait_or_take_over()
        except DatastoreError:
            return False
        return True

    def _wait_or_take_over(self) -> None:
        """Wait for more bytes of the blob.

        If the writer has died, this method continues the download in this process.

        Raises: UpstreamError if the download failed for a reason that applies to this task;
        DatastoreError if the download failed on the local disk.
        """
        if self._download is None or not self._download.is_done:
            # A writer in this process wakes the reader, so the reader can wait longer.
            self._wait(self._pause if self._download is None else _LONGEST_WAIT_S)
            if self._download is None and self._pause >= _TOO_QUIET_S:
                self._download, self._is_ours = self._downloads.begin(self._task)
        elif self._download.error is None or self._is_for_another(self._download.error):
            self._download = None
        else:
            raise self._download.error
        self._pause = min(self._pause * 2, _LONGEST_WAIT_S)

    def _wait(self, seconds: float) -> None:
        """Wait for more bytes of the blob.

        A writer in another process cannot wake this reader, so the reader sleeps.
        """
        if self._download is None:
            time.sleep(seconds)
        else:
            self._download.wait(seconds)

    def _is_for_another(self, error: Exception) -> bool:
        """Return True if a download failed for a reason that may not apply to this task."""
        return not self._is_ours and isinstance(error, Absent | Denied)

    def _fetch_privately(
        self, first: int, start: int, stop: int | None, *, early: bool
    ) -> Iterator[Piece]:
        """Fetch the rest of the blob for this client only, and verify all received bytes.

        The verification needs all bytes of the blob, including those before *start*. Bytes that are
        not on disk are fetched again, although a client that resumes a pull has these bytes
        already. If *early* is set, a range is sent without verification. Raises: ContentDamaged if
        the spool file no longer contains the bytes that were sent.
        """
        sources, digest = self._downloads.trusted(self._task).sources(), self._task.digest
        if early and (first or stop not in (None, self._size)):
            yield from limited(resumed(sources, start), stop and stop - start)
            return
        on_disk = 0 if self._descriptor is None else os.fstat(self._descriptor).st_size
        if on_disk < start and start > first:
            raise ContentDamaged(f"the spool file of {digest} ends at {on_disk}, not at {start}")
        prefix = FileSlice(self._descriptor or 0, 0, min(on_disk, start))
        taken_rest = self._download.take_rest() if self._download and not start else None
        rest = taken_rest or resumed(sources, prefix.stop)
        yield from verified_range(chain(prefix.chunks(), rest), digest, start, stop)
