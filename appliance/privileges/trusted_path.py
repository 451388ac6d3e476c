"""Open paths for root, one component at a time, through nothing that a user can replace.

A user that controls a folder can replace anything in the folder, also between a check and the use
of a file. Therefore each check examines an open descriptor, and each operation uses the same
descriptor.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from entrepot.appliance.privileges.users import User

_MOST_LINKS = 40  # The kernel follows at most this many links, path_resolution(7).
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class UntrustedPath(OSError):  # noqa: N818 - the name states the fact
    """A path leads through a folder in which the user can replace the file that root would use."""

    def __init__(self, path: Path, user: User) -> None:
        super().__init__(errno.EPERM, f"user {user.name} can replace parts of the path", str(path))


@contextmanager
def open_folder(path: Path, user: User, *, make: bool = False) -> Iterator[int]:
    """Open a folder. The serving user may own the folder, but must not control a folder above it.

    If *make* is set, missing folders are created, with mode 0755. Raises: UntrustedPath, other
    OSError.
    """
    with ExitStack() as opened:
        found = _Walk(path, user, opened, make=make).run()
        fd = os.open(_magic(found), _FOLDER & ~os.O_NOFOLLOW)
        opened.callback(os.close, fd)
        yield fd


@contextmanager
def open_file(path: Path, user: User) -> Iterator[int]:
    """Open a regular file for reading, if the user cannot have put it in place of another file.

    Raises: UntrustedPath, other OSError.
    """
    with ExitStack() as opened:
        walk = _Walk(path, user, opened)
        found = walk.run()
        status = os.fstat(found)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if walk.is_shared and status.st_nlink > 1:  # Any user may have made the hard link.
            raise UntrustedPath(path, user)
        fd = os.open(_magic(found), os.O_RDONLY | os.O_CLOEXEC)
        opened.callback(os.close, fd)
        yield fd


def check_output(path: Path, user: User) -> None:
    """Check that the user cannot redirect files that root writes below the folder *path*.

    Root creates the missing folders of the path. Raises: UntrustedPath, other OSError.
    """
    with ExitStack() as opened:
        walk = _Walk(path, user, opened)
        with suppress(FileNotFoundError):
            walk.run()
        walk.refuse_shared()


def is_trusted(path: Path, user: User) -> bool:
    """Return whether the user can replace no component of a path, nor the file at its end.

    A path that leads nowhere is trusted, because there is no file that root could use.
    """
    try:
        with open_file(path, user):
            return True
    except UntrustedPath:
        return False
    except OSError:
        return True


def open_entry(name: str, parent: int) -> int:
    """Open the entry *name* of the folder *parent*, of any type, for `fstat` and `give` only.

    Raises: OSError.
    """
    return os.open(name, _PATH, dir_fd=parent)


def open_below(parent: int, *names: str) -> int:
    """Open the folder that *names* lead to from *parent*; follow no link. Raises: OSError."""
    fd = os.open(".", _FOLDER, dir_fd=parent)
    for name in names:
        try:
            child = os.open(name, _FOLDER, dir_fd=fd)
        finally:
            os.close(fd)
        fd = child
    return fd


def give(fd: int, user: User) -> None:
    """Make *user* the owner of the file or folder behind *fd*; keep its group. Raises: OSError."""
    os.chown(_magic(fd), user.uid, -1)


class _Walk:
    """A `_Walk` walks from the root directory to *path*.

    If `is_shared` is set, other users may add names to the path's folder.

    *opened* is the stack that closes the descriptors.
    """

    def __init__(self, path: Path, user: User, opened: ExitStack, *, make: bool = False) -> None:
        self._path = path
        self._user = user
        self._make = make
        self._opened = opened
        self._links = 0
        self._left = deque(path.absolute().parts[1:])
        self._at = self._kept(os.open("/", _PATH))
        self.is_shared = False

    def run(self) -> int:
        """Return a descriptor (O_PATH) of the file or folder at the path. Raises: OSError."""
        while self._left:
            self._refuse_replaceable()
            name = self._left.popleft()
            found = self._kept(self._open(name))
            status = os.fstat(found)
            if stat.S_ISLNK(status.st_mode):
                self._follow(found, status)
            else:
                self._at = found
        return self._at

    def refuse_shared(self) -> None:
        """Raise UntrustedPath if the user can add to, or replace entries of, the last folder."""
        self._refuse_replaceable()
        if self.is_shared:
            raise UntrustedPath(self._path, self._user)

    def _open(self, name: str) -> int:
        try:
            return os.open(name, _PATH, dir_fd=self._at)
        except FileNotFoundError:
            if not self._make:
                raise
        os.mkdir(name, 0o755, dir_fd=self._at)
        return os.open(name, _PATH, dir_fd=self._at)

    def _follow(self, link: int, status: os.stat_result) -> None:
        self._links += 1
        if self._links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(self._path))
        if self.is_shared and status.st_uid == self._user.uid:
            raise UntrustedPath(self._path, self._user)
        target = Path(os.readlink("", dir_fd=link))
        if target.is_absolute():
            self._at = self._kept(os.open("/", _PATH))
        self._left.extendleft(reversed([each for each in target.parts if each != "/"]))

    def _refuse_replaceable(self) -> None:
        """Raise UntrustedPath if the user can replace entries of the current folder of the walk."""
        status = os.fstat(self._at)
        by_group = status.st_gid == self._user.gid and status.st_mode & stat.S_IWGRP
        is_shared = bool(by_group or status.st_mode & stat.S_IWOTH)
        is_sticky = bool(status.st_mode & stat.S_ISVTX)
        if status.st_uid == self._user.uid or (is_shared and not is_sticky):
            raise UntrustedPath(self._path, self._user)
        self.is_shared = is_shared

    def _kept(self, fd: int) -> int:
        self._opened.callback(os.close, fd)
        return fd


def _magic(fd: int) -> str:
    """Return the path in /proc by which the kernel opens the file of a descriptor directly."""
    return f"/proc/self/fd/{fd}"
