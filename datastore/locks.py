"""Exclude other processes and threads with `flock` on a file.

A lock belongs to one open file description: if two threads of one process each open the file, they
exclude each other as two processes do. The kernel releases a lock when its process exits, even
after a SIGKILL.

The process that has the lock can rename or remove the file. If this happens after a second process
has opened the file and before it locks the file, the second process may lock a file that is no
longer at the path. Therefore a lock counts only if the path still names the locked file.
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

_POLL_S = 0.01  # flock has no time-out, so `lock` tries to lock the file at this interval (s).


class LockedFile:
    """A `LockedFile` is a file that is locked exclusively; `fd` is open for reading and writing.

    Use a `LockedFile` in a `with` statement, which releases the lock even after an exception.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd

    def close(self) -> None:
        """Release the lock, but do not remove the file.

        A second call does nothing. If the disk reports an error when the file is closed, the kernel
        has closed the file nevertheless, so no exception is raised.
        """
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            with suppress(OSError):
                os.close(fd)

    def unlink(self) -> None:
        """Remove the locked file, but not another file that has replaced it at its path.

        Raises: StorageFull, StorageBroken.
        """
        if not _leads_to(self.path, self.fd):
            return
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error) from error

    def discard(self) -> None:
        """Remove the file, and release the lock even if the removal fails."""
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
    """Lock *path*, and create it if it is absent; return None if it is already locked.

    Raises: StorageFull, StorageBroken.
    """
    return _try_lock(path, _open)


def try_lock_present(path: Path) -> LockedFile | None:
    """Lock *path* without creating it; return None if it is already locked.

    Raises: NotFound if the file is absent; StorageFull, StorageBroken.
    """
    return _try_lock(path, _open_present)


def lock(path: Path, timeout: float) -> LockedFile | None:
    """Wait at most *timeout* seconds for the lock of *path*; return None if it is still locked.

    If *timeout* is `math.inf`, wait without a limit.

    Raises: StorageFull, StorageBroken.
    """
    return poll(lambda: try_lock(path), timeout, _POLL_S)


@contextmanager
def holding(path: Path, timeout: float, *, is_kept: bool = False) -> Iterator[LockedFile | None]:
    """Lock *path* during a `with` block; yield None if it is still locked after *timeout* seconds.

    After the block, the lock is released. The file is removed too, except if *is_kept* is True. If
    the file is not removed, it can be locked later even if the disk has no free inode. Raises:
    StorageFull, StorageBroken, both only before the block begins.
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
    """Lock a repository for writes during a `with` block; yield False if it is still locked.

    A process changes the tags and links of a repository only while it has this lock. A tag may only
    refer to a linked manifest: a writer first checks the link, and then sets the tag. Without the
    lock, another process could remove the link between the check and the write.

    *state* is the state directory; the wait for the lock takes at most *timeout* seconds. Raises:
    StorageFull, StorageBroken.
    """
    with holding(state / layout.WRITE_LOCKS / layout.short_name(name), timeout) as locked:
        yield locked is not None


def is_locked(path: Path) -> bool:
    """Return whether a process has locked *path*; False if the file is absent.

    To find out, this function takes a shared lock for an instant. In that instant, a call of
    `try_lock` in another process returns None and must be repeated. Raises: StorageFull,
    StorageBroken.
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
