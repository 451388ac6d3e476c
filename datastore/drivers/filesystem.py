"""Storage on a local disk: a key is a path below the root, a value a file.

A value is written under a name that `list` and `walk` never show and then renamed, so that
readers and crashes see the old one or the new one. Folders come and go with their values: `delete`
removes those that are empty, and a writer whose folder went meanwhile makes it again.
"""
# ruff: noqa: PTH100, PTH102, PTH104, PTH106, PTH108, PTH112, PTH116, PTH120, PTH123
# PERF: plain os calls; through pathlib the stat of a hit costs twice as much.

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

from entrepot.datastore.errors import NotFound, refusal
from entrepot.datastore.listings import FolderListings
from entrepot.datastore.storage import Stat

_UNFINISHED = "~unfinished"  # no tag, digest or repository name can hold a tilde
_PIECE = 64 * 1024  # bytes
_TRIES = 64  # how often another process may remove a folder between our mkdir and our file
_ABSENT = (FileNotFoundError, NotADirectoryError)


class Filesystem:
    """Values as files below *root*, which is made with the first of them.

    With a *clock* (s, UTC epoch) that gives the time of what is written, instead of the kernel's.
    """

    def __init__(self, root: Path, clock: Callable[[], float] | None = None) -> None:
        self._root = os.path.abspath(root)
        self._clock = clock
        self._listings = FolderListings()

    def stat(self, key: str) -> Stat | None:
        """Return what is known of a value, at the price of one system call."""
        try:
            found = os.stat(self._path(key))
        except _ABSENT:
            return None
        except OSError as error:
            raise refusal(error) from error
        if modes.S_ISDIR(found.st_mode):
            return None
        return Stat(key, found.st_size, found.st_mtime)

    def open(self, key: str) -> BinaryIO:
        """Open a value for reading. Raises: NotFound."""
        try:
            # PERF: a buffer for each of a thousand slow readers, whose bodies the kernel sends
            return open(self._path(key), "rb", buffering=0)
        except (*_ABSENT, IsADirectoryError) as error:
            raise NotFound(key) from error
        except OSError as error:
            raise refusal(error) from error

    def read(self, key: str, most: int | None = None) -> bytes:
        """Return a small value, of at most *most* bytes. Raises: NotFound."""
        try:
            content = _content(self._path(key), most)
        except (*_ABSENT, IsADirectoryError) as error:
            raise NotFound(key) from error
        except OSError as error:
            raise refusal(error) from error
        if content is None:
            raise NotFound(key)
        return content

    def write(self, key: str, data: bytes) -> None:
        """Set a small value, atomically and durably."""
        path = self._path(key)
        with _refusals():
            _in_folder(path, lambda: _replace(path, lambda beside: self._fill(beside, data)))

    def adopt(self, path: Path, key: str) -> None:
        """Rename a finished file into place, durably. Raises: NotFound when *path* is absent."""
        source, target = os.fspath(path), self._path(key)
        with _refusals():
            try:
                self._stamp(source)
                _sync(source)
            except FileNotFoundError as error:
                raise NotFound(source) from error
            _move(source, target)
            _sync_folder(target)

    def set_aside(self, key: str, target: str, file: BinaryIO) -> bool:
        """Rename a value, durably, if it still is the one that *file* was opened from.

        Another process may replace the value between the look and the rename: the new one is put
        back, unless a still newer one has come.
        """
        path, aside = self._path(key), self._path(target)
        with _refusals():
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

    def stamp(self, key: str, at: float) -> None:
        """Set a value's file time."""
        with _refusals(), suppress(*_ABSENT):
            os.utime(self._path(key), (at, at))

    def delete(self, key: str) -> bool:
        """Remove a value and the folders that are empty then."""
        path = self._path(key)
        try:
            os.unlink(path)
        except (*_ABSENT, IsADirectoryError):
            return False
        except OSError as error:
            raise refusal(error) from error
        self._remove_empty(os.path.dirname(path))
        return True

    def list(self, key: str) -> Iterator[str]:
        """Yield the names directly below *key*, sorted."""
        found: tuple[str, ...] = ()
        with _refusals(), suppress(*_ABSENT):
            found = self._listings.names(self._path(key))
        yield from (name for name in found if not name.endswith(_UNFINISHED))

    def walk(self, key: str) -> Iterator[Stat]:
        """Yield every value below *key*; what vanishes meanwhile is left out."""
        for below in self._files(key):
            if not below.endswith(_UNFINISHED) and (found := self.stat(below)) is not None:
                yield found

    def tidy(self, key: str, before: float) -> int:
        """Remove unfinished files that nobody has written to since *before*."""
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
        assert "/../" not in f"/{key}/", key  # noqa: S101 - keys are made by layout, never read in
        return f"{self._root}/{key}"

    def _files(self, key: str) -> Iterator[str]:
        """Yield the keys of all files below *key*, by their components; follow no link."""
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
                pass  # another process was quicker; what is above may still be empty
            except OSError:
                return
            folder = os.path.dirname(folder)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise refusal(error) from error


def _content(path: str, most: int | None) -> bytes | None:
    """Return what is in a file; None when that is more than *most* bytes.

    PERF: a file that fits into one piece costs no further system call.
    """
    """Read a file. PERF: half of what open() costs, which asks the file what it is."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        first = os.read(descriptor, _PIECE)
        if most is not None and len(first) == _PIECE and os.fstat(descriptor).st_size > most:
            return None
        pieces = [first, *iter(lambda: os.read(descriptor, _PIECE), b"")]
        content = b"".join(pieces) if len(pieces) > 1 else first
        return content if most is None or len(content) <= most else None
    finally:
        os.close(descriptor)


def _entries(path: str) -> list[tuple[str, bool]]:
    """Return name and whether it is a folder, sorted; nothing where there is no such folder."""
    with _refusals(), suppress(*_ABSENT), os.scandir(path) as found:
        return sorted((each.name, each.is_dir(follow_symlinks=False)) for each in found)
    return []


def _in_folder(path: str, act: Callable[[], None]) -> None:
    """Do what needs the folder of *path*; make that only when it turns out to be missing."""
    for _ in range(_TRIES):
        try:
            return act()
        except FileNotFoundError:
            _make_folder(os.path.dirname(path))
    return act()


def _make_folder(folder: str) -> None:
    """Make a folder and those above it, durably; others may make or remove them meanwhile."""
    parent = os.path.dirname(folder)
    if not os.path.isdir(parent):
        _make_folder(parent)
    with suppress(FileExistsError, FileNotFoundError):
        os.mkdir(folder)
        _sync_folder(folder)


def _replace(path: str, fill: Callable[[str], None]) -> None:
    """Let *fill* make a file beside *path*, then rename it there; nothing stays of a failure."""
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
    """Rename; from another file system, copy beside the target and rename there."""
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
    """Make the name *path* durable; where its folder went meanwhile, so did the name."""
    with suppress(FileNotFoundError):
        _sync(os.path.dirname(path))


def _is_open_as(path: str, file: BinaryIO) -> bool:
    """Whether *path* leads to the file that is open as *file*. Raises: OSError."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except _ABSENT:
        return False


def _put_back(aside: str, path: str) -> None:
    """Give a file its name back, unless the name was taken meanwhile. Raises: OSError."""
    with suppress(FileExistsError, *_ABSENT):
        os.link(aside, path)
    with suppress(*_ABSENT):
        os.unlink(aside)
