"""Create the data directory, and make the service user its owner.

To check the owner of a million files at every start would take too long. So all files are checked
only if a file near the top of the data directory does not belong to the service user. The top
folder gets its new owner last. So if the walk is interrupted, the next start repeats the walk.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from entrepot.appliance import data_folders
from entrepot.appliance.privileges import trusted_path
from entrepot.appliance.privileges.users import User
from entrepot.config.errors import ConfigError, Problem
from entrepot.config.schema import Settings
from entrepot.datastore import layout

_log = logging.getLogger(__name__)

_TOPS = tuple(
    tuple(filter(None, each.split("/"))) for each in ("", layout.OWN, layout.V2, layout.BLOBS)
)
_MODE_OF_0_1_0 = 0o755
# Below each folder in _TOPS, this many levels are checked, for example entrepot/log/*,
# repositories/* and blobs/sha256/*.
_NEAR = 2
# The walk descends at most this many levels, because each level needs an open file descriptor. The
# name of a repository has at most 255 characters, and so at most 128 levels.
_DEEPEST = 300


def make_folders(settings: Settings) -> None:
    """Create the data directory and the state directory if needed. Raises: ConfigError.

    Only the owner and the group can enter a new folder, because other accounts on this machine must
    not read private images. An existing folder keeps its mode.
    """
    for folder in data_folders.folders(settings.storage.rootdirectory, settings.storage.statedir):
        try:
            data_folders.make(folder)
        except OSError as error:
            message = f"the folder cannot be created: {(error.strerror or str(error)).lower()}"
            remedy = "make its parent folder writable, or set another REGISTRYDIR"
            raise ConfigError([Problem(str(folder), message, remedy)]) from error


def close_to_others(settings: Settings) -> None:
    """Close the data directory and the state directory to other accounts on this machine.

    Version 0.1.0 created these folders with mode 0755, so only this mode is changed: any other mode
    is the operator's choice. A symlink and a folder of another user are not changed. Disk errors
    are logged.
    """
    for folder in dict.fromkeys((settings.storage.rootdirectory, settings.storage.statedir)):
        try:
            is_changed = _close_to_others(folder)
        except OSError as error:
            _log.warning(
                "the folder stays readable for all accounts",
                extra={"path": folder, "error": error},
            )
            continue
        if is_changed:
            _log.info(
                "the folder was closed to other accounts", extra={"path": folder, "mode": "0750"}
            )


def _close_to_others(folder: Path) -> bool:
    """Close one folder to other accounts, and return whether its mode was changed.

    Raises: OSError.
    """
    if folder.is_symlink():
        return False
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) != _MODE_OF_0_1_0:
            return False
        os.fchmod(fd, data_folders.PRIVATE)
    finally:
        os.close(fd)
    return True


@dataclass(slots=True)
class OwnershipChange:
    """An `OwnershipChange` counts files that got the new owner, and files that kept the old one."""

    given: int = 0
    refused: int = 0


def take_over(folder: Path, user: User) -> OwnershipChange:
    """Make *user* the owner of *folder* and its content; keep groups and modes.

    *folder* is created if needed. A compromised service user may have put anything into *folder*.
    So this function follows no symlink there, and does not change files with several names, which
    could be hard links to files elsewhere. Files whose owner cannot be changed (for example on a
    read-only file system) are skipped, because the service user may be able to use them anyway.

    Raises: OSError, UntrustedPath.
    """
    taken = OwnershipChange()
    with trusted_path.open_folder(folder, user, make=True) as top:
        if not _is_owned(top, user):
            _give_all(top, user, taken, _DEEPEST)
            _give(top, user, taken)
    return taken


def is_owned(folder: Path, user: User) -> bool:
    """Return whether *user* owns every entry near the top of the folder.

    Raises: OSError, UntrustedPath.
    """
    with trusted_path.open_folder(folder, user) as top:
        return _is_owned(top, user)


def _is_owned(top: int, user: User) -> bool:
    return os.fstat(top).st_uid == user.uid and all(
        status.st_uid == user.uid for names in _TOPS for status in _near(top, names, _NEAR)
    )


def _near(parent: int, names: tuple[str, ...], levels: int) -> Iterator[os.stat_result]:
    """Yield the status of all entries up to *levels* below a folder, without following symlinks."""
    with suppress(OSError), ExitStack() as opened:
        fd = trusted_path.open_below(parent, *names)
        opened.callback(os.close, fd)
        for each in os.listdir(fd):  # noqa: PTH208 - of a descriptor
            status = os.stat(each, dir_fd=fd, follow_symlinks=False)
            yield status
            if levels > 1 and stat.S_ISDIR(status.st_mode):
                yield from _near(fd, (each,), levels - 1)


def _give_all(folder: int, user: User, taken: OwnershipChange, levels: int) -> None:
    """Make *user* the owner of a folder's content, the deepest entries first."""
    for name in os.listdir(folder):
        try:
            found = trusted_path.open_entry(name, folder)
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
        inside = trusted_path.open_below(parent, name)
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
    if _has_other_names(status) or stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode):
        taken.refused += 1
        return
    try:
        trusted_path.give(fd, user)
    except OSError:
        taken.refused += 1
    else:
        taken.given += 1


def _has_other_names(status: os.stat_result) -> bool:
    """Return whether a file has several names; it may then be a hard link to a foreign file."""
    return not stat.S_ISDIR(status.st_mode) and status.st_nlink > 1
