"""One download a blob, for all clients of all workers.

Every client is a reader; the writer is nobody's request: a thread that appends to a spool file,
which it holds locked. Readers, in whatever process, follow the file as it grows. The lock says
whether somebody writes, the file's length how far he is, its place in the blob store that all
of it was verified. So a writer may die at any byte: the lock falls open, a reader takes it, and
goes on where the file ends.

The last byte of a blob is read only after its digest was proven.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
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
    refusal,
)
from entrepot.datastore.locks import LockedFile, try_lock
from entrepot.datastore.refs import Digest
from entrepot.registry.download.resume import resumed, until
from entrepot.registry.download.spoolfile import read_size
from entrepot.registry.download.verify import window
from entrepot.registry.download.writer import Download, Landing, Task
from entrepot.registry.errors import Absent, Denied, UpstreamError
from entrepot.registry.server.fileslice import FileSlice, Piece, descriptor_of, pieces

_WORTH_IT = 1024 * 1024  # bytes: with less, a reader waits once whether more comes
_MORE_WITHIN_S = 0.01
_SHORTEST_WAIT_S = 0.002
_LONGEST_WAIT_S = 0.05
_STUCK_S = 3.0  # without a byte from another upstream
_DISTRUSTED_S = 600.0
_MOST_DISTRUSTED = 1024
_TOO_QUIET_S = 0.016  # after such a wait for nothing, whether the writer lives is looked at


class DownloadStuck(StorageBroken):
    """A download from another upstream stands still: its reader had better fetch for itself."""


class _Distrusted:
    """The sources that sent wrong bytes, by digest and upstream, for some minutes.

    They are not asked for that digest as long as there is another source.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[Digest, str], tuple[frozenset[int], float]] = {}

    def add(self, task: Task, sources: frozenset[int]) -> None:
        """Note the sources of a download whose digest was wrong."""
        until = time.monotonic() + _DISTRUSTED_S
        with self._lock:
            if len(self._known) >= _MOST_DISTRUSTED:
                self._known.clear()
            together = task.without | sources
            if len(together) >= len(task.fetches):  # then any of them may be right by now
                together = frozenset()
            self._known[task.digest, task.upstream] = together, until

    def of(self, task: Task) -> frozenset[int]:
        """Return the numbers of the sources that are not asked."""
        found, until = self._known.get((task.digest, task.upstream), (frozenset[int](), 0.0))
        return found if time.monotonic() < until else frozenset()


class SingleFlight:
    """The downloads of all workers, as one worker sees them."""

    def __init__(self, spool: Path, landing: Landing) -> None:
        self._spool = spool
        self._landing = landing
        self._running: dict[Digest, Download] = {}
        self._distrusted = _Distrusted()
        self._lock = threading.Lock()

    def path(self, key: Digest) -> Path:
        """Return the spool file of the download that *key* stands for."""
        return self._spool / layout.spool(key)

    def stored_size(self, task: Task) -> int | None:
        """Return how long a blob is (bytes) whose download ended well; None while it has not."""
        stat = self._landing.blobs.stat(task.digest)
        return stat.size if stat and task.is_proven() else None

    def open_stored(self, task: Task) -> tuple[BinaryIO, int] | None:
        """Open a blob whose download ended well, and return its length; None while it has not."""
        if not task.is_proven():
            return None
        try:
            return self._landing.blobs.open_sized(task.digest)
        except NotFound:
            return None

    def open_spooled(self, task: Task) -> int | None:
        """Open the spool file of a download; None when there is none. Raises: StorageBroken."""
        try:
            return os.open(self.path(task.key), os.O_RDONLY)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise refusal(error) from error

    def is_running(self, task: Task) -> bool:
        """Whether a worker has begun this download and not ended it, or died over it."""
        return self.path(task.key).exists()

    def trusted(self, task: Task) -> Task:
        """Return a task without the sources that sent wrong bytes a while ago."""
        return replace(task, without=self._distrusted.of(task))

    def join(self, task: Task) -> Reader:
        """Follow the download of a blob; begin it, or take it over, when nobody writes.

        Raises: UpstreamError when it was begun here and the upstream said no; StorageFull,
        StorageBroken when nothing can be written.
        """
        download, is_ours = self.begin(task)
        is_common = download is not None and download.task.upstream == task.upstream
        try:
            if download and (is_ours or is_common):
                download.wait_opened()
        except (Absent, Denied):
            if is_ours:
                raise
            return self.join(task)  # what another name may not see says nothing of this one
        return Reader(self, task, download, is_ours=is_ours)

    def begin(self, task: Task) -> tuple[Download | None, bool]:
        """Write a blob's spool file from here on, and tell whether that is news.

        None when another process writes it, or nobody need: it is stored.
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
                self._landing,
                self._distrusted.add,
            )
            self._start(download, locked)
            undo.pop_all()
        return download, True

    def _start(self, download: Download, locked: LockedFile) -> None:
        """Run it in a thread of its own. Raises: StorageBroken when there is none to be had."""
        key = download.task.key

        def run() -> None:
            with locked:
                try:
                    download.run()
                finally:
                    with self._lock:  # its file may be gone, and another's
                        if self._running.get(key) is download:
                            del self._running[key]

        self._running[key] = download
        try:
            threading.Thread(target=run, name=f"fetch {download.task.digest}", daemon=True).start()
        except RuntimeError as error:
            del self._running[key]
            raise StorageBroken(str(error)) from error


class Reader:
    """One client's view of a blob that is being downloaded.

    `collapsed`: another client's request had begun it.
    """

    def __init__(
        self, downloads: SingleFlight, task: Task, download: Download | None, *, is_ours: bool
    ) -> None:
        self.collapsed = not is_ours
        self._downloads = downloads
        self._task = task
        self._download = download
        self._is_ours = is_ours
        self._descriptor: int | None = None
        self._stored: BinaryIO | None = None
        self._stored_size = 0
        self._size = download.size if download else None
        self._pause = _SHORTEST_WAIT_S
        self._grown = -1, time.monotonic()

    def size(self) -> int | None:
        """Wait until the upstream has said how long the blob is (bytes); None: it does not say.

        Raises: UpstreamError when the download that was joined failed, and so did our own try;
        StorageFull, StorageBroken when it cannot be followed here, DownloadStuck among them.
        """
        while True:
            if self._download is not None and self._download.is_opened:
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
            if self._is_stuck():
                raise DownloadStuck(f"another upstream sends nothing of {self._task.digest}")
            self._see_to_it()

    def ahead(self) -> int:
        """Return how many bytes have come in."""
        self._has_landed()
        return self._length()

    def read(self, start: int, stop: int | None, *, early: bool = False) -> Iterator[Piece]:
        """Yield the bytes from *start* to *stop* (exclusive; None: the end) as they come in.

        The last of them waits until the blob is verified; of a range that may be *early*, only the
        last byte of the blob does.
        Raises: UpstreamError, DatastoreError in the middle: the connection must be dropped.
        """
        try:
            yield from self._read(start, stop, early=early)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        if self._stored is not None:
            self._stored.close()
        self._descriptor = self._stored = None

    # ---- reading

    def _read(self, start: int, stop: int | None, *, early: bool) -> Iterator[Piece]:
        first, has_waited = start, False
        while stop is None or start < stop:
            ready = self._ready(stop, early=early)
            if start < ready:
                if has_waited or ready == stop or self._is_worth_it(ready - start):
                    yield from self._pieces(start, ready)
                    start, self._pause, has_waited = ready, _SHORTEST_WAIT_S, False
                    continue
                self._wait(_MORE_WITHIN_S)
            elif self._stored is not None:
                if start < (self._stored_size if stop is None else stop):
                    raise ContentDamaged(f"{self._task.digest} ends at {start}, not at {stop}")
                return
            elif self._has_landed():
                continue  # now all of it may be read
            elif self._is_abandoned() or self._is_stuck():
                yield from self._alone(first, start, stop, early=early)
                return
            else:
                self._see_to_it()
            has_waited = True

    def _is_worth_it(self, length: int) -> bool:
        """Whether so many bytes are sent without a wait for more: each wake-up costs."""
        return length >= _WORTH_IT or self._stored is not None

    def _pieces(self, start: int, stop: int) -> Iterator[Piece]:
        """Yield bytes that are there: of the stored blob, or of the spool file."""
        if self._stored is not None:
            yield from pieces(self._stored, start, stop)
        elif self._descriptor is not None:
            yield FileSlice(self._descriptor, start, stop)

    def _ready(self, stop: int | None, *, early: bool) -> int:
        """Return up to where may be read: the last byte waits for the proof."""
        length = self._length()
        end = length if stop is None else min(length, stop)
        if self._stored is not None:
            return end
        if stop is not None and not early:
            end = min(end, stop - 1)
        return max(min(end, self._size - 1 if self._size else length - 1), 0)

    def _length(self) -> int:
        if self._stored is not None:
            return self._length_of_stored(self._stored)
        if self._descriptor is None:
            self._descriptor = self._downloads.open_spooled(self._task)
        return os.fstat(self._descriptor).st_size if self._descriptor is not None else 0

    def _has_landed(self) -> bool:
        """Whether the blob is in the store: from then on it is what is read.

        Not what lies in the spool: whoever takes a lock there makes a file for an instant.
        """
        if self._stored is None:
            stored = self._downloads.open_stored(self._task)
            if stored is not None:
                self.close()
                self._stored, self._stored_size = stored
        return self._stored is not None

    def _length_of_stored(self, file: BinaryIO) -> int:
        """Return how many bytes the stored blob has now: its file may have been cut."""
        descriptor = descriptor_of(file)
        return self._stored_size if descriptor is None else os.fstat(descriptor).st_size

    def _is_abandoned(self) -> bool:
        """Whether the writer gave the file up: it is wrong, or there is no room for it."""
        if self._download is not None and self._download.is_done and self._download.error:
            return isinstance(self._download.error, DatastoreError)
        if self._descriptor is None or os.fstat(self._descriptor).st_nlink:
            return False
        return not self._has_landed()

    # ---- when nothing comes

    def _see_to_it(self) -> None:
        """Wait for more; where the writer is dead, become it.

        Raises: UpstreamError when the upstream failed, and not only under another's name.
        """
        if self._download is None or not self._download.is_done:
            self._wait(self._pause)
            if self._download is None and self._pause >= _TOO_QUIET_S:
                self._download, self._is_ours = self._downloads.begin(self._task)
        elif self._download.error is None or self._is_anothers(self._download.error):
            self._download = None
        else:
            raise self._download.error
        self._pause = min(self._pause * 2, _LONGEST_WAIT_S)

    def _wait(self, seconds: float) -> None:
        """Wait for more; what another process writes tells nobody."""
        if self._download is None:
            time.sleep(seconds)
        else:
            self._download.wait(seconds)

    def _is_anothers(self, error: Exception) -> bool:
        """Whether a download failed for a reason that may not hold for this reader's own source."""
        if self._is_ours or not isinstance(error, UpstreamError):
            return False
        return isinstance(error, Absent | Denied) or self._is_of_another_upstream

    @property
    def _is_of_another_upstream(self) -> bool:
        download = self._download
        return download is not None and download.task.upstream != self._task.upstream

    def _is_stuck(self) -> bool:
        """Whether another upstream has sent nothing for a while: the own source may be well."""
        if not self._is_of_another_upstream:
            return False
        length, now = self._length(), time.monotonic()
        if length != self._grown[0]:
            self._grown = length, now
        return now - self._grown[1] > _STUCK_S

    def _alone(self, first: int, start: int, stop: int | None, *, early: bool) -> Iterator[Piece]:
        """Fetch the rest for this client only, and prove all that it gets.

        What of the front is not here is fetched for the proof too: the client that resumes a pull
        has it already. A range that may be *early* is not proven.
        Raises: ContentDamaged when what was sent can't be proven any more.
        """
        sources, digest = self._downloads.trusted(self._task).sources(), self._task.digest
        if early and (first or stop not in (None, self._size)):
            yield from until(resumed(sources, start), stop and stop - start)
            return
        here = 0 if self._descriptor is None else os.fstat(self._descriptor).st_size
        if here < start and start > first:
            raise ContentDamaged(f"the spool file of {digest} ends at {here}, not at {start}")
        edge = FileSlice(self._descriptor or 0, 0, min(here, start))
        handed = self._download.take_rest() if self._download and not start else None
        rest = handed or resumed(sources, edge.stop)
        yield from window(chain(edge.chunks(), rest), digest, start, stop)
