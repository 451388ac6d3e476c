"""Run the thread of a download, which fills a spool file and commits it to the blob store."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from entrepot.datastore.blobs import BlobStore
from entrepot.datastore.budget import STEP
from entrepot.datastore.errors import (
    DatastoreError,
    DigestMismatch,
    IndexUnavailable,
    StorageBroken,
    StorageFull,
    storage_error,
)
from entrepot.datastore.index import AccessIndex, ContentKind
from entrepot.datastore.refs import Digest
from entrepot.datastore.reservations import Reservations
from entrepot.datastore.storage import Sending
from entrepot.registry.download.parallel import MissingRange, ParallelLimits, in_parallel
from entrepot.registry.download.resume import resumed
from entrepot.registry.download.sources import DEFAULT, Limits, Sources
from entrepot.registry.download.spoolfile import (
    BackgroundFsync,
    append,
    mark_verified,
    read_size,
    size_path,
)
from entrepot.registry.errors import Unavailable, UpstreamError, Why
from entrepot.registry.server.fileslice import FileSlice
from entrepot.registry.upstream.protocol import Fetch, RemoteBlob

_BY_DIGEST = Digest("", "")


@dataclass(frozen=True, slots=True)
class Task:
    """A `Task` describes a blob to download and how to request it in one repository.

    `fetches` has one function for each source, in order of preference; the function requests the
    blob from its source. `limits` are the time limits of the download. `without` contains the
    positions in `fetches` of sources that sent wrong bytes recently. `size` is the size that the
    manifest states for the blob, in bytes, or None if unknown. `is_ahead` is True if the download
    is a prefetch.

    A download calls three functions of its task in this order. The download calls `shown` after the
    upstream responded to a request for the blob in this repository. Before the call of `shown`,
    only the reader that sent the request sees the response. The download calls `verified` after the
    digest matched, before the blob is committed. The download calls `landed` after the commit. If
    the storage is remote, readers may get the last byte before `verified` is called.

    `key` determines the path of the spool file, so tasks with the same key share one download. If
    `key` is not the digest, all bytes come from one upstream, and the blob is treated as stored
    only if `is_proven` returns True.
    """

    digest: Digest
    fetches: tuple[Fetch, ...]
    upstream: str
    repository: str
    size: int | None = None
    shown: Callable[[], None] = lambda: None
    verified: Callable[[], None] = lambda: None
    landed: Callable[[], None] = lambda: None
    is_ahead: bool = False
    limits: Limits = DEFAULT
    without: frozenset[int] = frozenset()
    key: Digest = field(default=_BY_DIGEST)
    is_proven: Callable[[], bool] = lambda: True

    def __post_init__(self) -> None:
        if self.key is _BY_DIGEST:
            object.__setattr__(self, "key", self.digest)

    def sources(self) -> Sources:
        """Return new `Sources` of the task; the time limit `Limits.silence` starts at this call."""
        return Sources(self.fetches, self.limits, without=self.without)


@dataclass(frozen=True, slots=True)
class Destination:
    """A `Destination` holds the stores, functions and limits that all downloads of a worker share.

    `report` logs a `download` event with the given fields. `is_absent` returns True if a blob is
    certainly not stored; it sends no request to a storage.
    """

    blobs: BlobStore
    index: AccessIndex
    reservations: Reservations
    report: Callable[..., None] = lambda **_: None
    parallel: ParallelLimits = field(default_factory=lambda: ParallelLimits(1))
    is_absent: Callable[[Digest], bool] = lambda _: False


log = logging.getLogger(__name__)

_LARGE = 16 * 1024 * 1024  # A blob of fewer bytes is fetched with one request.
# The writer wakes the readers each time it has appended this many bytes.
_NOTIFY_STEP = 4 * 1024 * 1024
_NOTIFY_S = 0.01
_HEAD_WITHIN_S = 0.01
"""The writer waits up to this many seconds until the first reader has sent its headers."""
_UNKNOWN_SIZE = "?"


class Download:
    """A `Download` fills a spool file.

    The thread that runs a download holds the lock of the spool file. If *is_opened_by_caller* is
    set, that thread waits until another thread has called `open`.
    """

    def __init__(
        self,
        task: Task,
        path: Path,
        descriptor: int,
        destination: Destination,
        distrust: Callable[[Task, frozenset[int]], None] = lambda *_: None,
        *,
        is_opened_by_caller: bool = False,
    ) -> None:
        self.task = task
        self._is_awaited = is_opened_by_caller
        self._is_followed = not is_opened_by_caller
        self._distrust = distrust
        self.size: int | None = None
        self.error: UpstreamError | DatastoreError | None = None
        self.is_opened = False
        self._is_answered = False
        self.is_done = False
        self._path = path
        self._descriptor = descriptor
        self._destination = destination
        self._changed = threading.Condition()
        self._rest: Iterator[bytes] | None = None
        self._sources = task.sources()
        self._start = self._offset = os.fstat(descriptor).st_size
        self._notified_offset, self._notified_at = self._start, 0.0
        self._reserved = 0
        fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_APPEND)
        self._fsync = BackgroundFsync(descriptor)
        self._sending: Sending | None = None
        self._after_commit: list[Callable[[], None]] = []
        self._began = time.monotonic()

    def open(self) -> bool:
        """Send the first request in the calling thread; return True if the upstream responded.

        If this method returns True, the attribute `size` is set. `run` announces the response to
        all other readers, after the caller has sent the head of its own response.

        PERF: the thread of a client waits for the response in any case. If this thread sends the
        request itself, the client's response needs no wake-up of the writer thread or of this
        thread. If the request fails, this method raises nothing, and `run` tries the other sources.
        If the spool file has bytes, or if the blob is large enough for several connections, this
        method sends nothing, and `run` sends the requests.
        """
        try:
            if not self._start and not self._is_parallel():
                remote = self._sources.send_ahead(0)
                if remote is not None and not self._is_wrongly_empty(remote):
                    self.size, self._is_answered = remote.size, True
        finally:
            with self._changed:
                self._is_awaited = False
                self._is_followed = self._is_followed or not self._is_answered
                self._changed.notify_all()
        return self._is_answered

    def follow(self) -> None:
        """Let the writer continue, because the first reader has sent its response's headers."""
        if not self._is_followed:
            with self._changed:
                self._is_followed = True
                self._changed.notify_all()

    def wait_opened(self) -> None:
        """Wait until the upstream has responded to the request of the download.

        Raises: UpstreamError if the request to the upstream failed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.is_opened or self.is_done)
        if isinstance(self.error, UpstreamError):
            raise self.error

    def wait(self, seconds: float) -> None:
        """Wait up to *seconds* for more bytes or the end of the download."""
        with self._changed:
            if not self.is_done:
                self._changed.wait(seconds)

    def wait_done(self, within: float | None = None) -> None:
        """Wait until the download has ended, successfully or not, for at most *within* seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.is_done, within)

    def after_commit(self, act: Callable[[], None]) -> None:
        """Call *act* in the download's thread after the commit, or now if the download has ended.

        If the download failed, *act* is not called.
        """
        with self._changed:
            if not self.is_done:
                self._after_commit.append(act)
                return
        if self.error is None:
            act()

    def take_rest(self) -> Iterator[bytes] | None:
        """Return the whole body if the download found no disk space for the first bytes.

        Return None on every later call, or if the download has written any byte.
        """
        with self._changed:
            rest, self._rest = self._rest, None
        return rest

    def run(self) -> None:
        """Fill the spool file and commit it as a blob.

        If the download fails, the attribute `error` holds the exception.
        """
        outcome = "failed"
        self._let_first_reader_begin()
        try:
            outcome = self._fill_and_commit()
        except (UpstreamError, DatastoreError) as error:
            # The traceback is removed. Otherwise the frames of the traceback would keep the
            # download and the upstream connections alive.
            self.error = error.with_traceback(None)
            outcome = self._abandon(error)
        except Exception as error:  # Any error must end the download, because readers wait.
            log.exception("download failed", extra=self._names())
            self.error = StorageBroken(repr(error))
            outcome = self._abandon(self.error)
        finally:
            self._sources.close()
            self._fsync.wait()
            if self._sending is not None:
                self._sending.abort()
            with self._changed:
                self.is_done = True
                self._changed.notify_all()
            if self.error is None:
                self._call_after_commit()
            self._report(outcome)

    def _let_first_reader_begin(self) -> None:
        """Wait until `open` has returned, then briefly until the first reader has sent headers.

        PERF: otherwise this thread would take the interpreter lock from the reader at each system
        call of the reader.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._is_awaited)
            self._changed.wait_for(lambda: self._is_followed, _HEAD_WITHIN_S)

    def _call_after_commit(self) -> None:
        for act in self._after_commit:
            # If `act` fails, the next request for the blob repeats the work of `act`.
            with contextlib.suppress(DatastoreError):
                act()

    # ---- filling the spool file

    def _fill_and_commit(self) -> str:
        hasher = self.task.digest.hasher()
        for chunk in FileSlice(self._descriptor, 0, self._start).chunks():
            hasher.update(chunk)
        self._sending = self._destination.blobs.sending(
            self._path, self.task.digest, self.task.size
        )
        if self._sending is not None:
            self._sending.reached(self._start)
        for chunk in self._missing(hasher.hexdigest()):
            self._append(chunk)
            hasher.update(chunk)
        actual = Digest(self.task.digest.algorithm, hasher.hexdigest())
        if actual != self.task.digest:
            raise DigestMismatch(self.task.digest, actual)
        self._commit(actual)
        return "stored"

    def _missing(self, hashed_so_far: str) -> Iterator[bytes]:
        """Yield the missing bytes of the spool file, after a reservation of disk space for them.

        Space for the whole blob is reserved if its size is known. Yield no bytes if the spool file
        is complete. *hashed_so_far* is the hex digest of the spool file's content.
        """
        if self._is_complete(hashed_so_far):
            self._announce(self._start)
            return
        body = self._body()
        for chunk in body:
            if not self._reserve(self._offset + len(chunk)):
                if not (self._offset or self.task.is_ahead):
                    self._rest = itertools.chain((chunk,), body)
                raise StorageFull(f"no disk space for {self.task.digest}")
            yield chunk

    def _body(self) -> Iterator[bytes]:
        """Yield the body from the upstream, over several connections if the blob is large."""
        sources = self._sources
        if self._is_parallel():
            missing = MissingRange(self._start, self.task.size or 0)
            budget = self._destination.parallel.budget(self.task.upstream)
            return in_parallel(sources, missing, budget, self._on_response)
        return resumed(sources, self._start, self._on_response)

    def _is_parallel(self) -> bool:
        """Return True if the missing bytes are worth several connections."""
        most = self._destination.parallel.most
        return most > 1 and (self.task.size or 0) - self._start >= _LARGE

    def _on_response(self, remote: RemoteBlob) -> None:
        if self._is_wrongly_empty(remote):
            raise Unavailable(self.task.upstream, "the upstream sent an empty blob", Why.NONSENSE)
        if not self.is_opened:
            self.task.shown()
        self._announce(remote.size)

    def _is_wrongly_empty(self, remote: RemoteBlob) -> bool:
        """Return True if the upstream sent an empty body for a digest that is not that of b""."""
        return remote.size == 0 and self.task.digest != Digest.of(b"", self.task.digest.algorithm)

    def _is_complete(self, hashed_so_far: str) -> bool:
        """Return True if an earlier writer died between the last byte and the commit."""
        if not self._start:
            return False
        try:
            return hashed_so_far == self.task.digest.hex or read_size(self._path) == self._start
        except FileNotFoundError:
            return False

    def _announce(self, size: int | None) -> None:
        """Announce the blob's size to readers of this process, and in a file to other processes."""
        if self.is_opened:
            return
        # If the size file cannot be written, readers in other processes wait until the blob is
        # committed.
        with contextlib.suppress(OSError):
            size_path(self._path).write_text(_UNKNOWN_SIZE if size is None else str(size))
        with self._changed:
            self.size = size
            self.is_opened = True
            self._changed.notify_all()

    def _reserve(self, length: int) -> bool:
        if length <= self._reserved:
            return True
        size = self.size if self.size and self.size >= length else length + STEP
        if not self._destination.reservations.reserve(self.task.key, size):
            return False
        self._reserved = size
        return True

    def _append(self, chunk: bytes) -> None:
        try:
            append(self._descriptor, chunk, self._offset)
        except OSError as error:
            refused = storage_error(error)
            # After this error, the readers fetch the blob without storing it. The call of `refused`
            # makes the cleaner free space for the next download.
            if isinstance(refused, StorageFull):
                self._destination.reservations.refused(self.size or self._offset + len(chunk))
            raise refused from error
        self._offset += len(chunk)
        self._notify()
        if self._sending is None:
            self._flush_spool_file()
        else:
            self._sending.reached(self._offset)

    def _flush_spool_file(self, *, is_complete: bool = False) -> None:
        """Flush the spool file in the background; if it *is_complete*, wait for the last flush.

        Raises: StorageFull or StorageBroken if bytes could not be written to the disk.
        """
        try:
            if is_complete:
                self._fsync.wait()
                self._fsync.check()
            else:
                self._fsync.reached(self._offset)
        except OSError as error:
            raise storage_error(error) from error

    def _notify(self) -> None:
        """Wake the readers that wait for bytes.

        The writer does not wake readers for each chunk: to wake many readers costs more than to
        write the chunk.
        """
        now = time.monotonic()
        if (
            self._offset - self._notified_offset >= _NOTIFY_STEP
            or now - self._notified_at >= _NOTIFY_S
        ):
            self._notified_offset, self._notified_at = self._offset, now
            with self._changed:
                self._changed.notify_all()

    # ---- ending the download

    def _commit(self, verified: Digest) -> None:
        if self._sending is None:
            self._flush_spool_file(is_complete=True)
        else:
            self._release_last_byte()
        self.task.verified()
        # The blob's reservation begins before the download's reservation ends, so that a crash
        # cannot leave the blob without a reservation.
        if self.task.key != verified:
            self._destination.reservations.settle(verified, self._offset)
            self._destination.reservations.release(self.task.key)
        self._destination.blobs.commit_file(
            self._path, verified, verified=verified, size=self._offset, sending=self._sending
        )
        size_path(self._path).unlink(missing_ok=True)
        now = self._destination.reservations.clock()
        prefetched_at = now - time.monotonic() + self._began if self.task.is_ahead else None
        try:
            self._destination.index.record(
                verified, self._offset, ContentKind.BLOB, now, prefetched_at=prefetched_at
            )
        # The next start of the cleaner finds the blob and adds its missing row to the index.
        except IndexUnavailable as error:
            log.warning("blob not recorded", extra={"digest": verified, "error": error})
        self.task.landed()

    def _release_last_byte(self) -> None:
        """Let all readers send the whole spool file, because its digest is verified.

        A commit to a remote storage takes long, and clients must not wait for it.
        """
        try:
            mark_verified(self._descriptor)
        except OSError as error:
            raise storage_error(error) from error
        with self._changed:
            self._changed.notify_all()

    def _abandon(self, error: UpstreamError | DatastoreError) -> str:
        """Keep the spool file if a later download can continue it; otherwise remove the file.

        The spool file is removed if it is empty, if its content is wrong, or after a disk error.
        """
        wrong = isinstance(error, DigestMismatch)
        if wrong:
            self._distrust(self.task, self._sources.delivered)
        if isinstance(error, DatastoreError) or self._offset == 0:
            # The writer releases its reservation while it holds the lock on the spool file. After
            # the writer has released the lock, this call could release the reservation of the next
            # writer, which has the same key.
            self._destination.reservations.release(self.task.key)
            with contextlib.suppress(OSError):
                size_path(self._path).unlink(missing_ok=True)
                self._path.unlink(missing_ok=True)
        level = logging.WARNING if wrong or self._offset else logging.INFO
        log.log(level, "download not stored", extra={**self._names(), "error": error})
        return "mismatch" if wrong else "failed" if isinstance(error, UpstreamError) else "unstored"

    def _names(self) -> dict[str, str]:
        return {
            "upstream": self.task.upstream,
            "repository": self.task.repository,
            "digest": str(self.task.digest),
        }

    def _report(self, outcome: str) -> None:
        self._destination.report(
            **self._names(),
            bytes=self._offset - self._start,
            start=self._start,
            seconds=round(time.monotonic() - self._began, 3),
            outcome=outcome,
        )
