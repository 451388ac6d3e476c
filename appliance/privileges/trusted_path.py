"""Open paths for root so that an unprivileged user cannot redirect root to another file.

A user that controls a folder can replace any entry of it, even between root's check of a file and
root's use of the file. So a path is opened one component at a time, each check examines an open
descriptor, and the following operation uses the same descriptor.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from entrepot.appliance.privileges.user import User

_MOST_LINKS = 40  # The kernel follows at most this many links, path_resolution(7).
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class UntrustedPath(OSError):  # noqa: N818 - the name states the fact
    """The user can make the path lead to another file, or may have done so."""

    def __init__(self, path: Path, user: User) -> None:
        super().__init__(errno.EPERM, f"user {user.name} can replace parts of the path", str(path))


@contextmanager
def open_folder(path: Path, user: User, *, make: bool = False) -> Iterator[int]:
    """Open a folder. *user* may own the folder, but must not control a folder above it.

    If *make* is true, missing folders are created with mode 0755. Raises: UntrustedPath, other
    OSError.
    """
    with ExitStack() as opened:
        found = _PathWalk(path, user, opened, make=make).run()
        fd = os.open(_magic(found), _FOLDER & ~os.O_NOFOLLOW)
        opened.callback(os.close, fd)
        yield fd


@contextmanager
def open_file(path: Path, user: User) -> Iterator[int]:
    """Open a regular file for reading, unless *user* may have put it in place of another file.

    Raises: UntrustedPath, other OSError.
    """
    with ExitStack() as opened:
        walk = _PathWalk(path, user, opened)
        found = walk.run()
        status = os.fstat(found)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if walk.is_shared and status.st_nlink > 1:  # The user may have created this hard link.
            raise UntrustedPath(path, user)
        fd = os.open(_magic(found), os.O_RDONLY | os.O_CLOEXEC)
        opened.callback(os.close, fd)
        yield fd


def check_output(path: Path, user: User) -> None:
    """Check that *user* cannot redirect files that root writes below the folder *path*.

    The last folders of the path may be missing, because root creates them. Raises: UntrustedPath,
    other OSError.
    """
    with ExitStack() as opened:
        walk = _PathWalk(path, user, opened)
        with suppress(FileNotFoundError):
            walk.run()
        walk.refuse_shared()


def is_trusted(path: Path, user: User) -> bool:
    """Return whether *user* can replace neither the file at *path* nor a component of the path.

    If there is no file at *path*, the path is trusted, because root would open nothing.
    """
    try:
        with open_file(path, user):
            return True
    except UntrustedPath:
        return False
    except OSError:
        return True


def open_entry(name: str, parent: int) -> int:
    """Open the entry *name* of the folder *parent*, without following a symlink.

    The descriptor can be used only for `os.fstat` and `give`. Raises: OSError.
    """
    return os.open(name, _PATH, dir_fd=parent)


def open_below(parent: int, *names: str) -> int:
    """Open the folder at the path *names*, relative to *parent*, without following symlinks.

    Raises: OSError.
    """
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


class _PathWalk:
    """A `_PathWalk` opens the components of *path* one after another, from the root directory on.

    After `run`, `is_shared` states whether *user* can create entries in the last folder. *opened*
    is the stack that closes the descriptors.
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
        """Raise UntrustedPath if the user can create or replace entries of the last folder."""
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
    """Return the path in /proc that refers directly to the open file behind a descriptor."""
    return f"/proc/self/fd/{fd}"
