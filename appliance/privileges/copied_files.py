"""Copy the files that settings name, so that the service user can read them.

A file with a secret often belongs to root and has mode 0600. Root copies each file at the start,
and again after each change. Such a change can be a write to the file, a rename that replaces it, or
a new target of a symlink in its path.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from entrepot.appliance.privileges import trusted_path
from entrepot.appliance.privileges.trusted_path import UntrustedPath
from entrepot.appliance.privileges.user import User
from entrepot.runtime.reloading_file import ReloadingFile

_log = logging.getLogger(__name__)

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class SecretCopies:
    """A `SecretCopies` has copies of *originals* that *user* can read and only root can change.

    The path of a copy contains the whole path of its original, so a message about the copy also
    names the original. A file is not copied if *user* could replace it by a symlink to any other
    file; then processes of *user* read the original. The constructor raises OSError if a file
    cannot be copied.
    """

    def __init__(self, originals: Iterable[Path], folder: Path, user: User) -> None:
        self._user = user
        self.folder = folder
        self.lock = -1
        """A descriptor that locks `folder`, set by the code that has created the folder."""
        self._folder = os.open(folder, _FOLDER)
        os.fchown(self._folder, -1, user.gid)
        os.fchmod(self._folder, 0o750)
        self._originals = dict(self._watched(originals))
        self._written: dict[Path, int] = {}
        for path in self._originals:
            self._write(path)

    @property
    def paths(self) -> Mapping[Path, Path]:
        """Return a map from the path of each original to the path of its copy."""
        return {path: self.folder.joinpath(*_names(path)) for path in self._originals}

    def refresh(self) -> None:
        """Copy the files that have changed. If a file cannot be copied, its old copy stays."""
        for path, original in self._originals.items():
            if original.generation == self._written[path]:
                continue
            try:
                self._write(path)
            except OSError as error:  # The next call of `refresh` tries again.
                _log.warning(
                    "the changed file could not be copied", extra={"path": path, "problem": error}
                )

    def close(self) -> None:
        """Close the folder of the copies."""
        os.close(self._folder)

    def _watched(self, originals: Iterable[Path]) -> Iterator[tuple[Path, ReloadingFile[bytes]]]:
        for path in originals:
            try:
                yield path, ReloadingFile(path, bytes, open_file=self._opened)
            except UntrustedPath as error:
                _log.warning("file not copied", extra={"path": path, "problem": error.strerror})

    @contextmanager
    def _opened(self, path: Path) -> Iterator[BinaryIO]:
        with (
            trusted_path.open_file(path, self._user) as fd,
            os.fdopen(fd, "rb", closefd=False) as file,
        ):
            yield file

    def _write(self, path: Path) -> None:
        """Write a copy under a temporary name, and rename it.

        Both names are relative to a descriptor of the open folder.
        """
        seen, (*above, name) = self._originals[path].snapshot, _names(path)
        parent = self._parent(above)
        new = f".{name}.new"
        try:
            # A temporary file exists only if an earlier write failed.
            with suppress(FileNotFoundError):
                os.unlink(new, dir_fd=parent)
            descriptor = os.open(new, _NEW, 0o600, dir_fd=parent)
            with os.fdopen(descriptor, "wb") as file:
                file.write(seen.value)
                os.fchown(descriptor, -1, self._user.gid)
                os.fchmod(descriptor, 0o640)
            os.rename(new, name, src_dir_fd=parent, dst_dir_fd=parent)
        finally:
            os.close(parent)
        self._written[path] = seen.generation

    def _parent(self, names: Sequence[str]) -> int:
        """Open the folder of a copy; create the folder if needed."""
        for depth, name in enumerate(names):
            above = trusted_path.open_below(self._folder, *names[:depth])
            try:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=above)
            finally:
                os.close(above)
        return trusted_path.open_below(self._folder, *names)


def _names(path: Path) -> tuple[str, ...]:
    """Return the components of the copy's path, relative to the folder of all copies."""
    return tuple("..." if each == ".." else each for each in path.absolute().parts[1:])
