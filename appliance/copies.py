"""Copies of the files that settings name, for a user who may not read the originals.

A secret is often root's, with mode 0600. Root reads it, here, and again whenever it changed: in
place, by a rename in its folder, or by the swap of a symlink above it.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from appliance import rundir
from appliance.privileges import User
from config.errors import ConfigError, Problem
from registry.watched import Watched

_log = logging.getLogger(__name__)

_PREFIX = "entrepot-files-"


class Copies:
    """Copies of *originals* below *folder*, which *user* can read and nobody but us can change.

    A copy has its original's whole path in its own: what is said of the one names the other.
    Raises, at the start only: OSError.
    """

    def __init__(self, originals: Iterable[Path], folder: Path, user: User) -> None:
        self._folder = folder
        self._originals = {path: Watched(path, bytes) for path in originals}
        self._written: dict[Path, int] = {}
        os.chown(folder, -1, user.gid)
        folder.chmod(0o750)
        for path in self._originals:
            self._write(path)

    @property
    def places(self) -> Mapping[Path, Path]:
        """Where the copy of each original is."""
        return {path: self._place(path) for path in self._originals}

    def refresh(self) -> None:
        """Copy again what has changed; where that can't be done the last copy stays as it is."""
        for path, original in self._originals.items():
            if original.generation == self._written[path]:
                continue
            try:
                self._write(path)
            except OSError as error:  # it is tried again at the next look
                _log.warning("changed file not copied", extra={"path": path, "problem": error})

    def _write(self, path: Path) -> None:
        seen, place = self._originals[path].snapshot, self._place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=place.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(seen.value)
                os.fchmod(descriptor, 0o644)  # the folder above lets nobody else come here
            Path(temporary).rename(place)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        self._written[path] = seen.generation

    def _place(self, path: Path) -> Path:
        return self._folder / path.relative_to(path.anchor)


@contextmanager
def made(originals: Iterable[Path], user: User) -> Iterator[Copies]:
    """Copy *originals* into a fresh folder, which is gone afterwards.

    Raises: ConfigError when one can't be read any more, or there is no place for it.
    """
    folder = rundir.fresh(_PREFIX)
    try:
        for left in folder.parent.glob(f"{_PREFIX}*"):  # of one that was killed, secrets and all
            if left != folder:
                shutil.rmtree(left, ignore_errors=True)
        yield _copied(originals, folder, user)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copied(originals: Iterable[Path], folder: Path, user: User) -> Copies:
    try:
        return Copies(originals, folder, user)
    except OSError as error:
        where, why = error.filename or folder, error.strerror or str(error)
        raise ConfigError([Problem(str(where), why.lower(), "it must be readable")]) from error
