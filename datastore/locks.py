"""Exclude other processes and threads by flock on a file, which the holder may rename or remove.

A lock belongs to one open of the file: two opens in one process exclude each other as two processes
do. The kernel releases a lock when its process ends, for whatever reason. The path may be replaced
between open and lock, so a lock counts only if the path still leads to the locked file.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from entrepot.datastore import layout
from entrepot.datastore.errors import DatastoreError, NotFound, storage_error
from entrepot.datastore.refs import Repository
from entrepot.runtime.polling import poll

_POLL_S = 0.01  # pause in s between two tries: flock has no timeout


class LockedFile:
    """A `LockedFile` is a file that is locked exclusively; `fd` is open for reading and writing.

    Use a `LockedFile` in a `with` statement, which releases the lock also after an error.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd

    def close(self) -> None:
        """Release the lock; the file stays. The call may be repeated, and never fails.

        If the disk reports an error on close, the file is closed nevertheless.
        """
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            with suppress(OSError):
                os.close(fd)

    def unlink(self) -> None:
        """Remove the lock file while it is locked; a newer file under its path stays.

        Raises: StorageFull, StorageBroken.
        """
        if not _leads_to(self.path, self.fd):
            return
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error) from error

    def discard(self) -> None:
        """Remove the file if the disk permits that, and release the lock in any case.

        A file that cannot be removed is unlocked, so the next process can lock it.
        """
        try:
            with suppress(DatastoreError):
                self.unlink()
        finally:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def try_lock(path: Path) -> LockedFile | None:
    """Lock *path*, which is created if absent; return None if the file is locked already.

    Raises: StorageFull, StorageBroken.
    """
    return _try_lock(path, _open)


def try_lock_present(path: Path) -> LockedFile | None:
    """Lock *path* if the file exists; return None if the file is locked already.

    Raises: NotFound if the file is absent; StorageFull, StorageBroken.
    """
    return _try_lock(path, _open_present)


def lock(path: Path, timeout: float) -> LockedFile | None:
    """Wait for the lock at most *timeout* (s; math.inf: without a limit), else return None.

    Raises: StorageFull, StorageBroken.
    """
    return poll(lambda: try_lock(path), timeout, _POLL_S)


@contextmanager
def holding(path: Path, timeout: float, *, is_kept: bool = False) -> Iterator[LockedFile | None]:
    """Hold the lock of *path* for a block; yield None if it is not free within *timeout* (s).

    After the block, the file is removed, if *is_kept* is False, and the lock is released, also if
    the removal fails. A file that is kept needs no free inode the next time. Raises: StorageFull,
    StorageBroken, before the block only.
    """
    locked = lock(path, timeout)
    try:
        yield locked
    finally:
        if locked and is_kept:
            locked.close()
        elif locked:
            locked.discard()


@contextmanager
def repository_lock(state: Path, name: Repository, timeout: float) -> Iterator[bool]:
    """Hold the write lock of a repository for a block; yield False if it is not free in time.

    All processes change a repository's tags and links under this lock. A tag is set only while its
    manifest is linked, and a manifest is unlinked after its tags are removed. Without the
    repository's lock, another writer could change tags or links between the check and the write.

    *state* is the state directory; *timeout* (s) limits the wait. Raises: StorageFull,
    StorageBroken.
    """
    with holding(state / layout.WRITE_LOCKS / layout.short_name(name), timeout) as locked:
        yield locked is not None


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock of *path*; False if the file is absent.

    The test of a lock takes a shared lock for an instant, in which a `try_lock` of another process
    returns None: that process must try again. Raises: StorageFull, StorageBroken.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise storage_error(error) from error
    try:
        return not _flock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


def _try_lock(path: Path, opened: Callable[[Path], int]) -> LockedFile | None:
    while True:
        with ExitStack() as undo:
            locked = undo.enter_context(LockedFile(path, opened(path)))
            if not _flock(locked.fd, fcntl.LOCK_EX):
                return None
            if _leads_to(path, locked.fd):
                undo.pop_all()
                return locked


def _open_present(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR)
    except FileNotFoundError as error:
        raise NotFound(str(path)) from error
    except OSError as error:
        raise storage_error(error) from error


def _open(path: Path) -> int:
    try:
        with suppress(FileNotFoundError):
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise storage_error(error) from error


def _flock(fd: int, operation: int) -> bool:
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise storage_error(error) from error
    return True


def _leads_to(path: Path, fd: int) -> bool:
    """Return whether *path* names the file that is open as *fd*."""
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise storage_error(error) from error
