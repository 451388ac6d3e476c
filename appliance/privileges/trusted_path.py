"""Paths that root may use: opened one component at a time, never through what a user can change.

A user who controls a directory can replace anything in it, also between a check and its use. So
every decision is made about a descriptor, and what is done is done to that descriptor.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from entrepot.appliance.privileges.users import User

_MOST_LINKS = 40  # as the kernel's own limit, path_resolution(7)
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class UntrustedPath(OSError):  # noqa: N818 - the class says the fact
    """A path leads through a folder in which the user can replace what root would use."""

    def __init__(self, path: Path, user: User) -> None:
        super().__init__(errno.EPERM, f"user {user.name} can replace parts of its path", str(path))


@contextmanager
def folder(path: Path, user: User, *, make: bool = False) -> Iterator[int]:
    """Open a folder, which may be the user's own while those above it must not be.

    *make*: missing folders are made, with mode 0755. Raises: Untrusted, other OSError.
    """
    with ExitStack() as opened:
        found = _Walk(path, user, opened, make=make).run()
        fd = os.open(_magic(found), _FOLDER & ~os.O_NOFOLLOW)
        opened.callback(os.close, fd)
        yield fd


@contextmanager
def regular(path: Path, user: User) -> Iterator[int]:
    """Open a regular file for reading that the user cannot have put there in place of another.

    Raises: Untrusted, other OSError.
    """
    with ExitStack() as opened:
        walk = _Walk(path, user, opened)
        found = walk.run()
        status = os.fstat(found)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if walk.is_shared and status.st_nlink > 1:  # a hard link may be anybody's to make
            raise UntrustedPath(path, user)
        fd = os.open(_magic(found), os.O_RDONLY | os.O_CLOEXEC)
        opened.callback(os.close, fd)
        yield fd


def is_trusted(path: Path, user: User) -> bool:
    """Whether no part of a path, nor what it leads to, can be replaced by the user.

    A path that leads nowhere is trusted: there is nothing yet that root could use.
    """
    try:
        with regular(path, user):
            return True
    except UntrustedPath:
        return False
    except OSError:
        return True


def look(name: str, parent: int) -> int:
    """Open *name* in the folder *parent* to look at it and to give it away, whatever it is.

    Raises: OSError.
    """
    return os.open(name, _LOOK, dir_fd=parent)


def below(parent: int, *names: str) -> int:
    """Open the folder that *names* lead to from *parent*, through no link. Raises: OSError."""
    fd = os.open(".", _FOLDER, dir_fd=parent)
    for name in names:
        try:
            child = os.open(name, _FOLDER, dir_fd=fd)
        finally:
            os.close(fd)
        fd = child
    return fd


def give(fd: int, user: User) -> None:
    """Make what *fd* was opened for the user's; its group stays. Raises: OSError."""
    os.chown(_magic(fd), user.uid, -1)


class _Walk:
    """The way from the root directory to *path*; `is_shared`: others may add names to its folder.

    Descriptors are closed with *opened*.
    """

    def __init__(self, path: Path, user: User, opened: ExitStack, *, make: bool = False) -> None:
        self._path = path
        self._user = user
        self._make = make
        self._opened = opened
        self._links = 0
        self._left = deque(path.absolute().parts[1:])
        self._at = self._kept(os.open("/", _LOOK))
        self.is_shared = False

    def run(self) -> int:
        """Return a descriptor (O_PATH) of what the path leads to. Raises: OSError."""
        while self._left:
            self._refuse_what_the_user_can_change()
            name = self._left.popleft()
            found = self._kept(self._open(name))
            status = os.fstat(found)
            if stat.S_ISLNK(status.st_mode):
                self._follow(found, status)
            else:
                self._at = found
        return self._at

    def _open(self, name: str) -> int:
        try:
            return os.open(name, _LOOK, dir_fd=self._at)
        except FileNotFoundError:
            if not self._make:
                raise
        os.mkdir(name, 0o755, dir_fd=self._at)
        return os.open(name, _LOOK, dir_fd=self._at)

    def _follow(self, link: int, status: os.stat_result) -> None:
        self._links += 1
        if self._links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(self._path))
        if self.is_shared and status.st_uid == self._user.uid:
            raise UntrustedPath(self._path, self._user)
        target = Path(os.readlink("", dir_fd=link))
        if target.is_absolute():
            self._at = self._kept(os.open("/", _LOOK))
        self._left.extendleft(reversed([each for each in target.parts if each != "/"]))

    def _refuse_what_the_user_can_change(self) -> None:
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
    """Name what a descriptor was opened for: the kernel goes there, through no path."""
    return f"/proc/self/fd/{fd}"
