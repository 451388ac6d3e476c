"""A small file that is read again when it changed, while everybody goes on using what was read.

Asked, not told: a `stat` twice a second costs nothing, needs no thread, and sees what inotify
misses (network file systems, a symlinked directory that Kubernetes swaps).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import mmap
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

# A file written this short a time [s] before it was read may be written again without a change
# of its time or size: file times are coarse (2 s on the coarsest file systems).
_RACY = 2.0
# A file written this short a time [s] ago may be half written: it waits for the next look.
_SETTLING = 0.1


@dataclass(frozen=True, slots=True)
class Snapshot(Generic[T]):
    """What the file said last; `generation` rises with every change that could be read."""

    value: T
    generation: int


def _opened(path: Path) -> BinaryIO:
    return path.open("rb")


class ReloadingFile(Generic[T]):
    """What `parse` makes of the file at *path*, looked at again after *every* s.

    A file that is gone, or that `parse` refuses (one of *errors*), leaves the last good value in
    force. Any thread may ask; one of them looks, the others are not kept waiting. Processes that
    were forked from this one complain once between them. *judge*, given the value in force and
    the next, may refuse that one too.

    The last good content lies at *kept*, for a process that begins while the file is bad: it
    must not go back to what this one had when it was forked, or what was taken away since would
    be there again. *opened* opens the file to be read. Raises, at the start only: OSError and what
    *parse* raises.
    """

    def __init__(
        self,
        path: Path,
        parse: Callable[[bytes], T],
        *,
        every: float = 0.5,
        clock: Callable[[], float] = time.time,
        errors: tuple[type[Exception], ...] = (Exception,),
        kept: Path | None = None,
        judge: Callable[[T, T], None] = lambda _before, _after: None,
        opened: Callable[[Path], contextlib.AbstractContextManager[BinaryIO]] = _opened,
    ) -> None:
        self._path = path
        self._opened = opened
        self._kept = _Kept(kept)
        self._judge = judge
        self._parse = parse
        self._every = every
        self._clock = clock
        self._errors = errors
        self._lock = threading.Lock()
        self._trouble: str | None = None
        self._said = _Said()
        self._looked = clock()
        self._process = os.getpid()
        self._good = b""
        self._generation = 0
        self._seen, self._snapshot = self._begin()

    @property
    def snapshot(self) -> Snapshot[T]:
        """Return value and generation that belong together."""
        now = self._clock()
        # a clock that was set back must not stop the looking
        if not 0 <= now - self._looked < self._every and self._lock.acquire(blocking=False):
            try:
                self._looked = now
                self._look(now)
            finally:
                self._lock.release()
        return self._snapshot

    def refresh(self) -> None:
        """Look now, however short a time ago somebody looked."""
        with self._lock:
            self._looked = self._clock()
            self._look(self._looked)

    @property
    def value(self) -> T:
        """Return the last good value."""
        return self.snapshot.value

    @property
    def generation(self) -> int:
        """Return how many good values there have been."""
        return self.snapshot.generation

    def _begin(self) -> tuple[_Seen, Snapshot[T]]:
        """Read the file, or, where that fails, what was kept of it."""
        failures: tuple[type[Exception], ...] = (OSError, *self._errors)
        try:
            seen, content = self._read(self._looked)
            value = self._parse(content)
        except failures:
            kept = self._kept.read()
            if kept is None:
                raise
            return _NEVER, self._in_force(kept, self._parse(kept))
        self._kept.write(content)
        return seen, self._in_force(content, value)

    def _look(self, now: float) -> None:
        if self._process != os.getpid():  # forked: others may have gone on since
            self._process = os.getpid()
            self._catch_up()
        try:
            content = self._changed(now)
        except OSError as error:
            self._complain(error.strerror or repr(error))
            self._catch_up()
            return
        if self._trouble is not None:
            log.info("watched file is back", extra={"path": self._path})
            self._trouble = None
        if content is not None:
            self._take(content)

    def _changed(self, now: float) -> bytes | None:
        """Return the content where it is another one than last time. Raises: OSError."""
        status = self._path.stat()
        if _signature(status) == self._seen.signature and not self._seen.racy:
            return None
        if 0 <= now - status.st_mtime < _SETTLING:
            return None
        before = self._seen
        self._seen, content = self._read(now)
        return None if self._seen.fingerprint == before.fingerprint else content

    def _read(self, now: float) -> tuple[_Seen, bytes]:
        with self._opened(self._path) as file:
            # before the bytes: what is written meanwhile then shows as a change
            status = os.fstat(file.fileno())
            content = file.read()
        racy = now - status.st_mtime < _RACY
        return _Seen(_signature(status), _fingerprint(content), racy), content

    def _take(self, content: bytes) -> None:
        self._catch_up()
        try:
            value = self._parse(content)
            self._judge(self._snapshot.value, value)
        except self._errors as error:
            if self._said.is_news(self._seen.fingerprint):
                log.warning(
                    "watched file is unusable, the last good one stays in force",
                    extra={"path": self._path, "problem": error},
                )
            return
        self._said.forget()
        self._kept.write(content)
        self._snapshot = self._in_force(content, value)
        log.info("watched file changed", extra={"path": self._path})

    def _catch_up(self) -> None:
        """Take what another process took before this one began to look."""
        content = self._kept.read()
        if content is not None and _fingerprint(content) != self._good:
            with contextlib.suppress(*self._errors):
                self._snapshot = self._in_force(content, self._parse(content))

    def _in_force(self, content: bytes, value: T) -> Snapshot[T]:
        self._good = _fingerprint(content)
        self._generation += 1
        return Snapshot(value, self._generation)

    def _complain(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            log.warning(
                "watched file cannot be read, the last good one stays in force",
                extra={"path": self._path, "problem": trouble},
            )


@dataclass(frozen=True, slots=True)
class _Kept:
    """The last good content of a file, as whichever process saw it last has left it."""

    path: Path | None

    def read(self) -> bytes | None:
        """Return it; None when there is none."""
        try:
            return self.path.read_bytes() if self.path else None
        except OSError:
            return None

    def write(self, content: bytes) -> None:
        """Leave it, readable to us alone; a full disk takes away what was there, for it is old."""
        if self.path is None:
            return
        try:
            descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=self.path.name)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            Path(name).rename(self.path)
        except OSError as error:
            log.warning("watched file not kept", extra={"path": self.path, "problem": error})
            self.path.unlink(missing_ok=True)


class _Said:
    """The last complaint, in memory that forked processes share: one of them makes it.

    Two that look in the same instant may both make it; nothing worse comes of that.
    """

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, hashlib.sha256().digest_size)

    def is_news(self, fingerprint: bytes) -> bool:
        """Whether nobody has complained of this content yet; from now on somebody has."""
        if self._shared[:] == fingerprint:
            return False
        self._shared[:] = fingerprint
        return True

    def forget(self) -> None:
        """Let the next complaint be made, whatever it is."""
        self._shared[:] = bytes(len(self._shared))


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file as it was read: `racy` where the next change might not show in `signature`."""

    signature: tuple[int, ...]
    fingerprint: bytes
    racy: bool


_NEVER = _Seen((), b"", racy=True)


def _fingerprint(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _signature(status: os.stat_result) -> tuple[int, ...]:
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev
