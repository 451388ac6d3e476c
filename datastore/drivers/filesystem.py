"""Storage on a local disk: a key is a path below the root, and a value is a file.

A value is written under a temporary name, which `list` and `walk` never show, and then renamed. So
readers always see either the old value or the new value, even after a crash. Folders exist only
while they have values: `delete` removes folders that become empty, and a writer whose folder was
removed creates the folder again.
"""
# ruff: noqa: PTH100, PTH102, PTH104, PTH106, PTH108, PTH112, PTH116, PTH120, PTH123
# PERF: this module calls `os` directly. With pathlib, the stat call of a cache hit would take twice
# as long.

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat as modes
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from entrepot.datastore.errors import NotFound, storage_error
from entrepot.datastore.listings import FolderListings
from entrepot.datastore.storage import TimedStat

_UNFINISHED = "~unfinished"  # No tag, digest or repository name has a tilde.
_PIECE_BYTES = 64 * 1024
# Another process may remove a new folder before the writer creates a file in it. The writer then
# creates the folder again, at most this many times.
_MAX_TRIES = 64
_ABSENT = (FileNotFoundError, NotADirectoryError)


class Filesystem:
    """A `Filesystem` stores values as files below the folder *root*.

    The write of the first value creates *root*. *clock* returns the modification times of written
    files, in seconds since the UTC epoch. Without *clock*, the kernel sets these times.
    """

    def __init__(self, root: Path, clock: Callable[[], float] | None = None) -> None:
        self._root = os.path.abspath(root)
        self._clock = clock
        self._listings = FolderListings()

    def stat(self, key: str) -> TimedStat | None:
        """Return the size and the time of a value with a single system call; None if absent."""
        try:
            found = os.stat(self._path(key))
        except _ABSENT:
            return None
        except OSError as error:
            raise storage_error(error) from error
        if modes.S_ISDIR(found.st_mode):
            return None
        return TimedStat(key, found.st_size, found.st_mtime)

    def open(self, key: str) -> BinaryIO:
        """Open a value for reading. Raises: NotFound."""
        try:
            # PERF: sendfile sends the bodies, so a buffer of the file object would never be used.
            # With a thousand slow clients, these buffers would waste memory.
            return open(self._path(key), "rb", buffering=0)
        except (*_ABSENT, IsADirectoryError) as error:
            raise NotFound(key) from error
        except OSError as error:
            raise storage_error(error) from error

    def read(self, key: str, max_bytes: int | None = None) -> bytes:
        """Return a small value of at most *max_bytes* bytes. Raises: NotFound."""
        try:
            content = _content(self._path(key), max_bytes)
        except (*_ABSENT, IsADirectoryError) as error:
            raise NotFound(key) from error
        except OSError as error:
            raise storage_error(error) from error
        if content is None:
            raise NotFound(key)
        return content

    def write(self, key: str, data: bytes) -> None:
        """Set a small value, atomically and durably."""
        path = self._path(key)
        with _disk_errors():
            _in_folder(path, lambda: _replace(path, lambda beside: self._fill(beside, data)))

    def commit_file(self, path: Path, key: str) -> None:
        """Rename a finished file into place, durably. Raises: NotFound if *path* is absent."""
        source, target = os.fspath(path), self._path(key)
        with _disk_errors():
            try:
                self._stamp(source)
                _sync(source)
            except FileNotFoundError as error:
                raise NotFound(source) from error
            _move(source, target)
            _sync_folder(target)

    def set_aside(self, key: str, target: str, file: BinaryIO) -> bool:
        """Rename a value, durably, if *file* was opened from that value.

        Another process may replace the value between the check and the rename, so that the rename
        moves the new value. The new value is then moved back, unless a third value was written to
        *key* meanwhile.
        """
        path, aside = self._path(key), self._path(target)
        with _disk_errors():
            if not _is_open_as(path, file):
                return False
            _make_folder(os.path.dirname(aside))
            with suppress(*_ABSENT):
                os.rename(path, aside)
            if not _is_open_as(aside, file):
                _put_back(aside, path)
                _sync_folder(path)
                return False
            _sync_folder(aside)
            _sync_folder(path)
        self._remove_empty(os.path.dirname(path))
        return True

    def touch(self, key: str, at: float) -> None:
        """Set the modification time of a value's file."""
        with _disk_errors(), suppress(*_ABSENT):
            os.utime(self._path(key), (at, at))

    def delete(self, key: str) -> bool:
        """Remove a value and the folders that become empty."""
        path = self._path(key)
        try:
            os.unlink(path)
        except (*_ABSENT, IsADirectoryError):
            return False
        except OSError as error:
            raise storage_error(error) from error
        self._remove_empty(os.path.dirname(path))
        return True

    def list(self, key: str) -> Iterator[str]:
        """Yield the names directly below *key*, sorted."""
        found: tuple[str, ...] = ()
        with _disk_errors(), suppress(*_ABSENT):
            found = self._listings.names(self._path(key))
        yield from (name for name in found if not name.endswith(_UNFINISHED))

    def walk(self, key: str) -> Iterator[TimedStat]:
        """Yield every value below *key*; skip a value that is deleted during the walk."""
        for below in self._files(key):
            if not below.endswith(_UNFINISHED) and (found := self.stat(below)) is not None:
                yield found

    def remove_unfinished(self, key: str, before: float) -> int:
        """Remove unfinished files that were last written earlier than *before*.

        *before* is in seconds since the UTC epoch.
        """
        unfinished = (below for below in self._files(key) if below.endswith(_UNFINISHED))
        stats = (self.stat(below) for below in unfinished)
        old = [found.key for found in stats if found is not None and found.modified < before]
        return sum(self.delete(below) for below in old)

    def _fill(self, path: str, data: bytes) -> None:
        with open(path, "xb", buffering=0) as file:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
            self._stamp(file.fileno())
            os.fsync(file.fileno())

    def _stamp(self, file: str | int) -> None:
        if self._clock is not None:
            now = self._clock()
            os.utime(file, (now, now))

    def _path(self, key: str) -> str:
        assert "/../" not in f"/{key}/", key  # noqa: S101 - layout creates the keys
        return f"{self._root}/{key}"

    def _files(self, key: str) -> Iterator[str]:
        """Yield the keys of all files below *key*, ordered by components; follow no symlink."""
        pending = [(key, True)]
        while pending:
            below, is_folder = pending.pop()
            if not is_folder:
                yield below
                continue
            prefix = f"{below}/" if below else ""
            found = reversed(_entries(self._path(below)))
            pending.extend((f"{prefix}{name}", folder) for name, folder in found)

    def _remove_empty(self, folder: str) -> None:
        while len(folder) > len(self._root):
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                pass  # Another process removed the folder; its empty parents are still removed.
            except OSError:
                return
            folder = os.path.dirname(folder)


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error) from error


def _content(path: str, max_bytes: int | None) -> bytes | None:
    """Return the bytes of a file; None if the file has more than *max_bytes*.

    PERF: reading with `os.read` takes half as long as with the built-in `open`, which calls stat
    too.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        first = os.read(descriptor, _PIECE_BYTES)
        if (
            max_bytes is not None
            and len(first) == _PIECE_BYTES
            and os.fstat(descriptor).st_size > max_bytes
        ):
            return None
        pieces = [first, *iter(lambda: os.read(descriptor, _PIECE_BYTES), b"")]
        content = b"".join(pieces) if len(pieces) > 1 else first
        return content if max_bytes is None or len(content) <= max_bytes else None
    finally:
        os.close(descriptor)


def _entries(path: str) -> list[tuple[str, bool]]:
    """Return the names in the folder *path*, sorted, each with True if it is a folder.

    Return an empty list if *path* is absent.
    """
    with _disk_errors(), suppress(*_ABSENT), os.scandir(path) as found:
        return sorted((each.name, each.is_dir(follow_symlinks=False)) for each in found)
    return []


def _in_folder(path: str, act: Callable[[], None]) -> None:
    """Call *act*; if the folder of *path* is absent, create it and call *act* again."""
    for _ in range(_MAX_TRIES):
        try:
            return act()
        except FileNotFoundError:
            _make_folder(os.path.dirname(path))
    return act()


def _make_folder(folder: str) -> None:
    """Create a folder and its parents, durably.

    Other processes may create or remove the folders at the same time.
    """
    parent = os.path.dirname(folder)
    if not os.path.isdir(parent):
        _make_folder(parent)
    with suppress(FileExistsError, FileNotFoundError):
        os.mkdir(folder)
        _sync_folder(folder)


def _replace(path: str, fill: Callable[[str], None]) -> None:
    """Create a temporary file beside *path* with *fill*, then rename it to *path*.

    After a failure, the temporary file is deleted.
    """
    temporary = f"{os.path.dirname(path)}/{secrets.token_hex(8)}{_UNFINISHED}"
    try:
        fill(temporary)
        os.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(path)


def _move(source: str, target: str) -> None:
    """Rename a file.

    A rename to another file system is impossible. If *target* is on another file system, the file
    is copied to a temporary file beside *target*, and this copy is renamed.
    """
    try:
        _in_folder(target, lambda: os.rename(source, target))
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _in_folder(target, lambda: _replace(target, lambda beside: _copy(source, beside)))
        os.unlink(source)


def _copy(source: str, path: str) -> None:
    shutil.copyfile(source, path)
    _sync(path)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: str) -> None:
    """Sync the folder of *path*, so that the name of *path* survives a power failure.

    A folder that another process has removed is ignored.
    """
    with suppress(FileNotFoundError):
        _sync(os.path.dirname(path))


def _is_open_as(path: str, file: BinaryIO) -> bool:
    """Return whether *path* is the file that is open as *file*. Raises: OSError."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except _ABSENT:
        return False


def _put_back(aside: str, path: str) -> None:
    """Rename the file *aside* to *path*; if *path* exists, delete *aside*. Raises: OSError."""
    with suppress(FileExistsError, *_ABSENT):
        os.link(aside, path)
    with suppress(*_ABSENT):
        os.unlink(aside)
