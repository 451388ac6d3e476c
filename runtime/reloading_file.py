"""Re-read a small file when it changes; after a bad change, use the last good content.

A read of the value checks the file with `stat`, by default at most twice a second. This costs
little, needs no thread, and detects changes that inotify misses, for example on network file
systems, or if Kubernetes changes the target of a symlink in the path.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import mmap
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from entrepot.runtime.atomic_write import write_atomically

log = logging.getLogger(__name__)

T = TypeVar("T")

# On some file systems, the times of files are multiples of 2 seconds. So a file that was written
# less than this many seconds before it was read can change once more without a change of its time.
_RACY = 2.0
# A file that was written less than this many seconds ago may be incomplete. Such a file is read at
# the next check.
_INCOMPLETE = 0.1


@dataclass(frozen=True, slots=True)
class Snapshot(Generic[T]):
    """A `Snapshot` is the last good value of the file. `generation` rises with each new value."""

    value: T
    generation: int


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


class ReloadingFile(Generic[T]):
    """A `ReloadingFile` holds the value that *parse* returns for the content of the file *path*.

    Each read of the value checks the file if the last check was at least *interval* seconds ago. If
    the file is missing, or *parse* rejects its content with one of *errors*, the last good value
    remains valid. *validate* receives the current and the new value and can reject the new value.

    Any thread may read the value. While one thread checks the file, other threads get the last good
    value without waiting. If several processes of one program read the same bad content, only one
    of them logs a warning.

    The last good content is saved in the file *last_good*, for a process that starts while the file
    is bad. Such a process must not use the value that it inherited by fork(2): the inherited value
    can be older, so revoked rights would be valid again. *open_file* opens the file.

    The constructor raises OSError and the errors of *parse*.
    """

    def __init__(
        self,
        path: Path,
        parse: Callable[[bytes], T],
        *,
        interval: float = 0.5,
        clock: Callable[[], float] = time.time,
        errors: tuple[type[Exception], ...] = (Exception,),
        last_good: Path | None = None,
        validate: Callable[[T, T], None] = lambda _before, _after: None,
        open_file: Callable[[Path], contextlib.AbstractContextManager[BinaryIO]] = _open,
    ) -> None:
        self._path = path
        self._open_file = open_file
        self._last_good = _LastGood(last_good)
        self._validate = validate
        self._parse = parse
        self._interval = interval
        self._clock = clock
        self._errors = errors
        self._lock = threading.Lock()
        self._read_error: str | None = None
        self._last_warning = _LastWarning()
        self._checked_at = clock()
        self._process = os.getpid()
        self._good = b""
        self._generation = 0
        self._seen, self._snapshot = self._begin()

    @property
    def snapshot(self) -> Snapshot[T]:
        """Check the file if a check is due, and return the current value with its generation."""
        now = self._clock()
        # If the clock was set back, the time since the last check is negative; the file is checked
        # in this case too.
        if not 0 <= now - self._checked_at < self._interval and self._lock.acquire(blocking=False):
            try:
                self._checked_at = now
                self._check(now)
            finally:
                self._lock.release()
        return self._snapshot

    def refresh(self) -> None:
        """Check the file now, even if it was checked a moment ago.

        After this call, the value is at least as new as the newest value that any process has
        accepted. This is true even if the file was replaced a moment ago and may be incomplete.
        """
        with self._lock:
            self._checked_at = self._clock()
            self._check(self._checked_at)
            if self._last_good.has_changed():
                self._catch_up()

    @property
    def value(self) -> T:
        """Return the last good value."""
        return self.snapshot.value

    @property
    def generation(self) -> int:
        """Return the number of good values so far."""
        return self.snapshot.generation

    def _begin(self) -> tuple[_ReadFile, Snapshot[T]]:
        """Read the file, or the saved last good content if the file cannot be used."""
        failures: tuple[type[Exception], ...] = (OSError, *self._errors)
        try:
            seen, content, _ = self._read(self._checked_at)
            value = self._parse(content)
        except failures:
            saved = self._last_good.read()
            if saved is None:
                raise
            return _NEVER, self._in_force(saved, self._parse(saved))
        self._last_good.write(content)
        return seen, self._in_force(content, value)

    def _check(self, now: float) -> None:
        # After a fork, another process may have read a newer version of the file.
        if self._process != os.getpid():
            self._process = os.getpid()
            self._catch_up()
        try:
            content = self._changed(now)
        except OSError as error:
            self._warn_unreadable(error.strerror or repr(error))
            self._catch_up()
            return
        if self._read_error is not None:
            log.info("the watched file can be read again", extra={"path": self._path})
            self._read_error = None
        if content is not None:
            self._accept(content)

    def _changed(self, now: float) -> bytes | None:
        """Return the content of the file if it has changed since the last read, else None.

        Return None if the file was just written, because it may be incomplete; the next check reads
        it. Raises: OSError.
        """
        status = self._path.stat()
        if _signature(status) == self._seen.signature and not self._seen.racy:
            return None
        if 0 <= now - status.st_mtime < _INCOMPLETE:
            return None
        read, content, after = self._read(now)
        if not _signature(status) == read.signature == after:
            return None
        before, self._seen = self._seen, read
        return None if read.fingerprint == before.fingerprint else content

    def _read(self, now: float) -> tuple[_ReadFile, bytes, tuple[int, ...]]:
        """Return the file's state before the read, its content, and its signature after the read.

        Raises: OSError.
        """
        with self._open_file(self._path) as file:
            # `fstat` is called before the read, so that a write between the two calls is detected
            # as a change.
            status = os.fstat(file.fileno())
            content = file.read()
            after = _signature(os.fstat(file.fileno()))
        racy = now - status.st_mtime < _RACY
        return _ReadFile(_signature(status), _fingerprint(content), racy), content, after

    def _accept(self, content: bytes) -> None:
        self._catch_up()
        try:
            value = self._parse(content)
            self._validate(self._snapshot.value, value)
        except self._errors as error:
            if self._last_warning.is_new(self._seen.fingerprint):
                log.warning(
                    "the watched file is unusable, the last good content stays in force",
                    extra={"path": self._path, "problem": error},
                )
            return
        self._last_warning.clear()
        self._last_good.write(content)
        self._snapshot = self._in_force(content, value)
        log.info("watched file changed", extra={"path": self._path})

    def _catch_up(self) -> None:
        """Use the saved last good content if another process has accepted newer content."""
        content = self._last_good.read()
        if content is not None and _fingerprint(content) != self._good:
            with contextlib.suppress(*self._errors):
                self._snapshot = self._in_force(content, self._parse(content))

    def _in_force(self, content: bytes, value: T) -> Snapshot[T]:
        self._good = _fingerprint(content)
        self._generation += 1
        return Snapshot(value, self._generation)

    def _warn_unreadable(self, error: str) -> None:
        if error != self._read_error:
            self._read_error = error
            log.warning(
                "the watched file cannot be read, the last good content stays in force",
                extra={"path": self._path, "problem": error},
            )


@dataclass(slots=True)
class _LastGood:
    """A `_LastGood` saves the last good content of a file in the file `path`, for all processes."""

    path: Path | None
    _seen: tuple[int, ...] = ()

    def has_changed(self) -> bool:
        """Return whether the saved content was replaced since the last call of this method."""
        if self.path is None:
            return False
        try:
            seen, self._seen = self._seen, _signature(self.path.stat())
        except OSError:
            return False
        return self._seen != seen

    def read(self) -> bytes | None:
        """Return the saved content, or None if no content is saved."""
        try:
            return self.path.read_bytes() if self.path else None
        except OSError:
            return None

    def write(self, content: bytes) -> None:
        """Save the last good content, readable for this user only.

        If the write fails, delete the older saved content, because it is outdated.
        """
        if self.path is None:
            return
        try:
            write_atomically(self.path, content, mode=0o600)
        except OSError as error:
            log.warning(
                "the last good content of the watched file could not be saved",
                extra={"path": self.path, "problem": error},
            )
            self.path.unlink(missing_ok=True)


class _LastWarning:
    """This object holds the hash of the last bad content in memory that forked processes share.

    The processes compare this hash, so only one of them logs a warning about the content. A record
    lock (fcntl(2)) protects the memory. Such a lock belongs to a process, so it also works between
    processes that inherited the same file descriptor.
    """

    def __init__(self) -> None:
        length = hashlib.sha256().digest_size
        self._file = os.memfd_create("last warning")
        weakref.finalize(self, os.close, self._file)
        os.ftruncate(self._file, length)
        self._shared = mmap.mmap(self._file, length)

    def is_new(self, fingerprint: bytes) -> bool:
        """Return whether the last warning was about other content, and record this content."""
        with self._locked():
            is_new = self._shared[:] != fingerprint
            self._shared[:] = fingerprint
            return is_new

    def clear(self) -> None:
        """Forget the last warning, so that the next bad content causes one."""
        with self._locked():
            self._shared[:] = bytes(len(self._shared))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)


@dataclass(frozen=True, slots=True)
class _ReadFile:
    """A `_ReadFile` describes the state of the file at the time of a read.

    `signature` consists of time, size and inode, and `fingerprint` is a hash of the content. If
    `racy` is true, a later change of the file may leave `signature` unchanged.
    """

    signature: tuple[int, ...]
    fingerprint: bytes
    racy: bool


_NEVER = _ReadFile((), b"", racy=True)


def _fingerprint(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _signature(status: os.stat_result) -> tuple[int, ...]:
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev
