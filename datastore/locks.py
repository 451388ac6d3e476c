"""Locks between processes and threads: flock on a file that its holder may rename or remove.

A lock belongs to one open of the file, so two opens in one process exclude each other as two
processes do, and it ends with its holder, however that ends. Since the path may have moved on
between open and lock, a lock counts only if the path still leads to the locked file.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from entrepot.datastore import layout
from entrepot.datastore.errors import DatastoreError, NotFound, refusal
from entrepot.datastore.refs import Repository

_POLL = 0.01  # s between two tries, for flock itself knows no deadline


class LockedFile:
    """A file that nobody else has locked; `fd` is open for reading and writing.

    Used in a `with` statement, or handed to one: only that releases it whatever fails before.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd

    def close(self) -> None:
        """Release the lock; the file stays. May be repeated, and never fails.

        A disk that reports an error on close has closed the file all the same.
        """
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            with suppress(OSError):
                os.close(fd)

    def unlink(self) -> None:
        """Remove the file, lock held; what others have put under its path since stays.

        Raises: StorageFull, StorageBroken.
        """
        if not _leads_to(self.path, self.fd):
            return
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise refusal(error) from error

    def discard(self) -> None:
        """Remove the file if the disk permits that, and release the lock in any case.

        A file that stays is locked by no process: the next one to need it takes it.
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
    """Lock *path*, made when absent; None when somebody holds it.

    Raises: StorageFull, StorageBroken.
    """
    return _try_lock(path, _open)


def try_lock_present(path: Path) -> LockedFile | None:
    """Lock *path* where it is; None when somebody holds it.

    Raises: NotFound when it is absent; StorageFull, StorageBroken.
    """
    return _try_lock(path, _open_present)


def lock(path: Path, patience: float) -> LockedFile | None:
    """Wait for the lock at most *patience* (s; math.inf: for as long as it takes), else None.

    Raises: StorageFull, StorageBroken.
    """
    deadline = time.monotonic() + patience
    while (held := try_lock(path)) is None:
        if time.monotonic() >= deadline:
            return None
        time.sleep(_POLL)
    return held


@contextmanager
def holding(path: Path, patience: float) -> Iterator[LockedFile | None]:
    """Hold the lock of *path* for a block, waiting for it at most *patience* (s); else yield None.

    Afterwards the file is removed and the lock released, the latter even if the removal fails.
    Raises: StorageFull, StorageBroken, before the block only.
    """
    held = lock(path, patience)
    try:
        yield held
    finally:
        if held:
            held.discard()


@contextmanager
def repository_lock(state: Path, name: Repository, patience: float) -> Iterator[bool]:
    """Wait for the write lock of a repository at most *patience* (s); yield whether it was taken.

    The tags of a repository and the links that they lead to change under this lock, in every
    process: a tag is set while its manifest is linked, and a manifest is unlinked after its tags.
    Without the lock another writer could change either one between check and write.

    *state* is the state directory. Raises: StorageFull, StorageBroken.
    """
    with holding(state / layout.WRITING / layout.short(name), patience) as held:
        yield held is not None


def is_locked(path: Path) -> bool:
    """Tell whether somebody holds it; False when it is absent.

    The question takes a shared lock for an instant, in which a `try_lock` gets None: whoever
    counts on that lock tries again. Raises: StorageFull, StorageBroken.
    """
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise refusal(error) from error
    try:
        return not _flock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


def _try_lock(path: Path, opened: Callable[[Path], int]) -> LockedFile | None:
    while True:
        with ExitStack() as undo:
            held = undo.enter_context(LockedFile(path, opened(path)))
            if not _flock(held.fd, fcntl.LOCK_EX):
                return None
            if _leads_to(path, held.fd):
                undo.pop_all()
                return held


def _open_present(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR)
    except FileNotFoundError as error:
        raise NotFound(str(path)) from error
    except OSError as error:
        raise refusal(error) from error


def _open(path: Path) -> int:
    try:
        with suppress(FileNotFoundError):
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise refusal(error) from error


def _flock(fd: int, operation: int) -> bool:
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise refusal(error) from error
    return True


def _leads_to(path: Path, fd: int) -> bool:
    """Whether *path* names the file that is open as *fd*."""
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise refusal(error) from error
