"""The writer of a download: a thread that fills a spool file and lands it in the blob store."""

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
    refusal,
)
from entrepot.datastore.index import AccessIndex, ContentKind
from entrepot.datastore.refs import Digest
from entrepot.datastore.reservations import Reservations
from entrepot.registry.download.parallel import MissingRange, ParallelLimits, in_lanes
from entrepot.registry.download.resume import resumed
from entrepot.registry.download.sources import DEFAULT, Limits, Sources
from entrepot.registry.download.spoolfile import BackgroundFsync, append, read_size, size_path
from entrepot.registry.errors import Unavailable, UpstreamError, Why
from entrepot.registry.server.fileslice import FileSlice
from entrepot.registry.upstream.protocol import Fetch, RemoteBlob

_BY_DIGEST = Digest("", "")


@dataclass(frozen=True, slots=True)
class Task:
    """What to download, and how to ask for it under the name of whoever wants it.

    `fetches` open it at its sources, in order of preference; `limits` bound the patience with them;
    `without` are the numbers of those that sent wrong bytes a while ago.
    `size` is what its manifest says, in bytes, None where that is not known. `shown` is called once
    the upstream has answered for the blob under that name, before anybody else learns of it; then
    `verified`, once its bytes have proven the digest, before they become the blob; then `landed`.
    `is_ahead`: nobody has asked for it yet.

    `key` stands for the download in the spool: tasks of one key join. Where it is not the digest,
    all bytes come from one upstream, and the blob counts as stored only where `is_proven`.
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
        """Return the sources, with patience from now on."""
        return Sources(self.fetches, self.limits, without=self.without)


@dataclass(frozen=True, slots=True)
class Landing:
    """Where downloads end; `report` takes the fields of a `download` event."""

    blobs: BlobStore
    index: AccessIndex
    reservations: Reservations
    report: Callable[..., None] = lambda **_: None
    lanes: ParallelLimits = field(default_factory=lambda: ParallelLimits(1))


log = logging.getLogger(__name__)

_LARGE = 16 * 1024 * 1024  # bytes from which several connections are worth their requests
_TELL_STEP = 1024 * 1024  # bytes
_TELL_S = 0.01
_UNSAID = "?"


class Download:
    """A spool file that grows. Whoever runs it holds the file locked."""

    def __init__(
        self,
        task: Task,
        path: Path,
        descriptor: int,
        landing: Landing,
        distrust: Callable[[Task, frozenset[int]], None] = lambda *_: None,
    ) -> None:
        self.task = task
        self._distrust = distrust
        self.size: int | None = None
        self.error: UpstreamError | DatastoreError | None = None
        self.is_opened = False
        self.is_done = False
        self._path = path
        self._descriptor = descriptor
        self._landing = landing
        self._news = threading.Condition()
        self._rest: Iterator[bytes] | None = None
        self._sources = task.sources()
        self._start = self._offset = os.fstat(descriptor).st_size
        self._told, self._told_at = self._start, 0.0
        self._reserved = 0
        fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_APPEND)
        self._flushing = BackgroundFsync(descriptor)
        self._began = time.monotonic()

    def wait_opened(self) -> None:
        """Wait until the upstream has answered. Raises: UpstreamError when it said no."""
        with self._news:
            self._news.wait_for(lambda: self.is_opened or self.is_done)
        if isinstance(self.error, UpstreamError):
            raise self.error

    def wait(self, seconds: float) -> None:
        """Wait for a byte more, or the end."""
        with self._news:
            if not self.is_done:
                self._news.wait(seconds)

    def wait_done(self) -> None:
        """Wait for the end, good or bad."""
        with self._news:
            self._news.wait_for(lambda: self.is_done)

    def take_rest(self) -> Iterator[bytes] | None:
        """Return the body that found no room, from its first byte, to whoever comes first."""
        with self._news:
            rest, self._rest = self._rest, None
        return rest

    def run(self) -> None:
        """Fill the file and land it; what went wrong is kept in `error`."""
        outcome = "failed"
        try:
            outcome = self._fill_and_land()
        except (UpstreamError, DatastoreError) as error:
            # without its frames: they hold us, and the connections of a body that nobody takes over
            self.error = error.with_traceback(None)
            outcome = self._give_up(error)
        except Exception as error:  # its readers wait for a word, whatever it is
            log.exception("download failed", extra=self._names())
            self.error = StorageBroken(repr(error))
            outcome = self._give_up(self.error)
        finally:
            self._flushing.wait()
            with self._news:
                self.is_done = True
                self._news.notify_all()
            self._report(outcome)

    # ---- filling

    def _fill_and_land(self) -> str:
        hasher = self.task.digest.hasher()
        for chunk in FileSlice(self._descriptor, 0, self._start).chunks():
            hasher.update(chunk)
        for chunk in self._missing(hasher.hexdigest()):
            self._append(chunk)
            hasher.update(chunk)
        actual = Digest(self.task.digest.algorithm, hasher.hexdigest())
        if actual != self.task.digest:
            raise DigestMismatch(self.task.digest, actual)
        self._land(actual)
        return "stored"

    def _missing(self, edge: str) -> Iterator[bytes]:
        """Yield what the file lacks, once there is room for it; a whole file lacks nothing.

        *front* is what the file hashes to so far.
        """
        if self._is_complete(edge):
            self._opened(self._start)
            return
        body = self._body()
        for chunk in body:
            if not self._has_room(self._offset + len(chunk)):
                if not (self._offset or self.task.is_ahead):
                    self._rest = itertools.chain((chunk,), body)
                raise StorageFull(f"no room for {self.task.digest}")
            yield chunk

    def _body(self) -> Iterator[bytes]:
        """Return what comes in from the upstream: of a large blob, over several connections."""
        size, lanes = self.task.size or 0, self._landing.lanes
        sources = self._sources
        if lanes.most > 1 and size - self._start >= _LARGE:
            share = lanes.share(self.task.upstream)
            return in_lanes(sources, MissingRange(self._start, size), share, self._answered)
        return resumed(sources, self._start, self._answered)

    def _answered(self, remote: RemoteBlob) -> None:
        if remote.size == 0 and self.task.digest != Digest.of(b"", self.task.digest.algorithm):
            raise Unavailable(self.task.upstream, "a blob without its bytes", Why.NONSENSE)
        if not self.is_opened:
            self.task.shown()
        self._opened(remote.size)

    def _is_complete(self, edge: str) -> bool:
        """Whether a writer died between the last byte and the landing."""
        if not self._start:
            return False
        try:
            return edge == self.task.digest.hex or read_size(self._path) == self._start
        except FileNotFoundError:
            return False

    def _opened(self, size: int | None) -> None:
        """Tell the readers, here and elsewhere, how long the blob will be."""
        if self.is_opened:
            return
        with contextlib.suppress(OSError):  # readers elsewhere then go on without it
            size_path(self._path).write_text(_UNSAID if size is None else str(size))
        with self._news:
            self.size = size
            self.is_opened = True
            self._news.notify_all()

    def _has_room(self, length: int) -> bool:
        if length <= self._reserved:
            return True
        wanted = self.size if self.size and self.size >= length else length + STEP
        if not self._landing.reservations.reserve(self.task.key, wanted):
            return False
        self._reserved = wanted
        return True

    def _append(self, chunk: bytes) -> None:
        try:
            append(self._descriptor, chunk, self._offset)
        except OSError as error:
            refused = refusal(error)
            if isinstance(refused, StorageFull):  # this one goes on unstored, the next may fit
                self._landing.reservations.refused(self.size or self._offset + len(chunk))
            raise refused from error
        self._offset += len(chunk)
        self._tell()
        self._flushing.reached(self._offset)

    def _tell(self) -> None:
        """Wake those who wait; not for each piece: to wake many costs more than to write it."""
        now = time.monotonic()
        if self._offset - self._told >= _TELL_STEP or now - self._told_at >= _TELL_S:
            self._told, self._told_at = self._offset, now
            with self._news:
                self._news.notify_all()

    # ---- ending

    def _land(self, verified: Digest) -> None:
        self._flushing.wait()
        self.task.verified()
        if self.task.key != verified:  # the promise becomes the blob's before anything can die
            self._landing.reservations.settle(verified, self._offset)
            self._landing.reservations.release(self.task.key)
        self._landing.blobs.adopt(self._path, verified, verified=verified, size=self._offset)
        size_path(self._path).unlink(missing_ok=True)
        now = self._landing.reservations.clock()
        prefetched_at = now - time.monotonic() + self._began if self.task.is_ahead else None
        try:
            self._landing.index.record(
                verified, self._offset, ContentKind.BLOB, now, prefetched_at=prefetched_at
            )
        except IndexUnavailable as error:  # the next start finds the blob without its row
            log.warning("blob not recorded", extra={"digest": verified, "error": error})
        self.task.landed()

    def _give_up(self, error: UpstreamError | DatastoreError) -> str:
        """Keep what a later try can go on from; remove what is wrong or has no room."""
        wrong = isinstance(error, DigestMismatch)
        if wrong:
            self._distrust(self.task, self._sources.delivered)
        if isinstance(error, DatastoreError) or self._offset == 0:
            # first: with the file goes the lock, and the next writer's promise would be taken back
            self._landing.reservations.release(self.task.key)
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
        self._landing.report(
            **self._names(),
            bytes=self._offset - self._start,
            start=self._start,
            seconds=round(time.monotonic() - self._began, 3),
            outcome=outcome,
        )
