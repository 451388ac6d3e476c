"""The data directory: made if need be, and given to who serves where root has made or filled it.

A million files must not be looked at at every start: all of them are only where something near
the top is not the user's yet. The top itself comes last, so a walk that was cut short is begun
again.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from entrepot.appliance.privileges import trusted_path
from entrepot.appliance.privileges.users import User
from entrepot.config.errors import ConfigError, Problem
from entrepot.config.schema import Settings
from entrepot.datastore import layout

_log = logging.getLogger(__name__)

_TOPS = tuple(
    tuple(filter(None, each.split("/"))) for each in ("", layout.OWN, layout.V2, layout.BLOBS)
)
_PRIVATE = 0o750
_OF_OLD = 0o755
_NEAR = 2  # levels below each of them: entrepot/log/*, repositories/*, blobs/sha256/*
_DEEPEST = 300  # levels; a name of 255 characters has 128, and a descriptor is open for each


def make_folders(settings: Settings) -> None:
    """Make data and state directory, if need be. Raises: ConfigError.

    One that is made is for its user and group alone: what is pulled with a password, and pushed, is
    not for all who have an account on this machine. One that is there keeps its mode here.
    """
    for folder in (settings.storage.rootdirectory, settings.storage.statedir / "log"):
        try:
            folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        except OSError as error:
            message = f"cannot be made: {(error.strerror or str(error)).lower()}"
            remedy = "make it writable, or give another REGISTRYDIR"
            raise ConfigError([Problem(str(folder), message, remedy)]) from error


def close_to_others(settings: Settings) -> None:
    """Take the rights of all other accounts from data and state directory, as 0.1.0 made them.

    Only of mode 0755, which a umask of 022 gives: any other mode is the operator's choice. Only
    folders that are this user's own, and through no link. A disk that refuses it is logged.
    """
    for folder in dict.fromkeys((settings.storage.rootdirectory, settings.storage.statedir)):
        try:
            is_changed = _close_to_others(folder)
        except OSError as error:
            _log.warning("folder stays readable for all", extra={"path": folder, "error": error})
            continue
        if is_changed:
            _log.info("folder closed to other accounts", extra={"path": folder, "mode": "0750"})


def _close_to_others(folder: Path) -> bool:
    """Return whether the mode was changed. Raises: OSError."""
    if folder.is_symlink():
        return False
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) != _OF_OLD:
            return False
        os.fchmod(fd, _PRIVATE)
    finally:
        os.close(fd)
    return True


@dataclass(slots=True)
class OwnershipChange:
    """What became of a folder: how much of it was given to the user, and how much could not be."""

    given: int = 0
    refused: int = 0


def take_over(folder: Path, user: User) -> OwnershipChange:
    """Give what is in *folder*, and it, to *user*; groups and modes stay as they are.

    It is made if need be. What is in it may be the work of a user who has turned against us: no
    link in it is followed, and a file of several names (a hard link to anything) stays whose it is.
    What cannot be given (a read-only or foreign file system) is left: whether the user can work
    there all the same is for the user to try. Raises: OSError, Untrusted.
    """
    taken = OwnershipChange()
    with trusted_path.folder(folder, user, make=True) as top:
        if not _is_whole(top, user):
            _give_all(top, user, taken, _DEEPEST)
            _give(top, user, taken)
    return taken


def is_whole(folder: Path, user: User) -> bool:
    """Say whether all that lies near the top is the user's. Raises: OSError, Untrusted."""
    with trusted_path.folder(folder, user) as top:
        return _is_whole(top, user)


def _is_whole(top: int, user: User) -> bool:
    return os.fstat(top).st_uid == user.uid and all(
        status.st_uid == user.uid for names in _TOPS for status in _near(top, names, _NEAR)
    )


def _near(parent: int, names: tuple[str, ...], levels: int) -> Iterator[os.stat_result]:
    """Yield the status of what lies so many levels below a folder, through no link."""
    with suppress(OSError), ExitStack() as opened:
        fd = trusted_path.below(parent, *names)
        opened.callback(os.close, fd)
        for each in os.listdir(fd):  # noqa: PTH208 - of a descriptor
            status = os.stat(each, dir_fd=fd, follow_symlinks=False)
            yield status
            if levels > 1 and stat.S_ISDIR(status.st_mode):
                yield from _near(fd, (each,), levels - 1)


def _give_all(folder: int, user: User, taken: OwnershipChange, levels: int) -> None:
    """Give what is in a folder, what lies deepest first."""
    for name in os.listdir(folder):
        try:
            found = trusted_path.look(name, folder)
        except FileNotFoundError:
            continue
        with ExitStack() as opened:
            opened.callback(os.close, found)
            if stat.S_ISDIR(os.fstat(found).st_mode):
                _give_below(name, folder, user, taken, levels)
            _give(found, user, taken)


def _give_below(name: str, parent: int, user: User, taken: OwnershipChange, levels: int) -> None:
    if levels == 0:
        taken.refused += 1
        return
    try:
        inside = trusted_path.below(parent, name)
    except OSError:
        taken.refused += 1
        return
    try:
        _give_all(inside, user, taken, levels - 1)
    finally:
        os.close(inside)


def _give(fd: int, user: User, taken: OwnershipChange) -> None:
    status = os.fstat(fd)
    if status.st_uid == user.uid:
        return
    if _is_many_names(status) or stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode):
        taken.refused += 1
        return
    try:
        trusted_path.give(fd, user)
    except OSError:
        taken.refused += 1
    else:
        taken.given += 1


def _is_many_names(status: os.stat_result) -> bool:
    """Whether it may be a file from elsewhere: what the user was never given has another name."""
    return not stat.S_ISDIR(status.st_mode) and status.st_nlink > 1
