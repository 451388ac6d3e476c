"""The data directory: made if need be, and given to who serves where root has made or filled it.

A million files must not be looked at at every start: all of them are only where something near
the top is not the user's yet. The top itself comes last, so a walk that was cut short is begun
again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from appliance.privileges import User
from config.errors import ConfigError, Problem
from config.schema import Settings
from datastore import layout

_TOPS = ("", layout.OWN, layout.V2, layout.BLOBS)
_NEAR = 2  # levels below each of them: entrepot/log/*, repositories/*, blobs/sha256/*


def make_folders(settings: Settings) -> None:
    """Make data and state directory, if need be. Raises: ConfigError."""
    for folder in (settings.storage.rootdirectory, settings.storage.statedir / "log"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"cannot be made: {(error.strerror or str(error)).lower()}"
            remedy = "make it writable, or give another REGISTRYDIR"
            raise ConfigError([Problem(str(folder), message, remedy)]) from error


@dataclass(slots=True)
class Taken:
    """What became of a folder: how much of it was given to the user, and how much could not be."""

    given: int = 0
    refused: int = 0


def take_over(folder: Path, user: User) -> Taken:
    """Give what is in *folder*, and it, to *user*; groups and modes stay as they are.

    What cannot be given (a read-only or foreign file system) is left: whether the user can work
    there all the same is for him to try.
    """
    taken = Taken()
    folder = folder.resolve()
    if not is_whole(folder, user):
        for _, names, files, parent in os.fwalk(folder, topdown=False):
            for name in (*files, *names):
                _give(name, user, taken, parent)
        _give(folder, user, taken)
    return taken


def is_whole(folder: Path, user: User) -> bool:
    """Say whether all that lies near the top is the user's."""
    near = (each for top in _TOPS for each in _near(folder / top, _NEAR))
    return all(_owner(each) in {user.uid, None} for each in near)


def _near(top: Path, levels: int) -> Iterator[Path]:
    yield top
    if levels and not top.is_symlink():
        with suppress(OSError):
            for each in top.iterdir():
                yield from _near(each, levels - 1)


def _owner(path: Path) -> int | None:
    """Return who owns *path* itself; None where there is nothing (any more)."""
    try:
        return path.lstat().st_uid
    except OSError:
        return None


def _give(name: str | Path, user: User, taken: Taken, parent: int | None = None) -> None:
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if status.st_uid != user.uid:
            os.chown(name, user.uid, -1, dir_fd=parent, follow_symlinks=False)
            taken.given += 1
    except FileNotFoundError:
        return
    except OSError:
        taken.refused += 1
