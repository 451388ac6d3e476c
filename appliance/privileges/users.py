"""Choose the user that runs the appliance: in the image, root hands over to the user `entrepot`.

The process becomes another user only if it runs in the image, and as root. Outside the image the
service user does not exist. An operator who starts the container as another user (`--user`,
`runAsUser`) has already chosen the user. The module appliance/privileges/separation.py does the
rest of root's work.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from entrepot import config
from entrepot.config.errors import ConfigError, Problem

NAME = "entrepot"

# Root needs these capabilities(7) to change owners, read all files, signal processes and become
# other users.
NEEDED = {"CHOWN": 0, "DAC_OVERRIDE": 1, "KILL": 5, "SETGID": 6, "SETUID": 7}
_EFFECTIVE = re.compile(r"^CapEff:\s*([0-9a-fA-F]+)$", re.MULTILINE)
_PR_SET_NO_NEW_PRIVS = 38  # The flag of prctl(2) survives execve, and cannot be reset.


@dataclass(frozen=True, slots=True)
class User:
    """A `User` is an account other than root."""

    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A `Choice` has the service user; None keeps the current user.

    `lacking` has the capabilities that root lacks to become the service user.
    """

    user: User | None
    lacking: tuple[str, ...] = ()


def choose(environ: Mapping[str, str]) -> Choice:
    """Choose the service user for the current process."""
    if not config.is_image(environ) or os.geteuid() != 0:
        return Choice(None)
    lacking = missing(Path("/proc/self/status").read_text())
    user = account(NAME)
    if user is None:
        return Choice(None, (f"user {NAME}",))
    return Choice(None, lacking) if lacking else Choice(user)


def step_down(environ: Mapping[str, str]) -> None:
    """Become the service user, for a command that writes among that user's files.

    Raises: OSError; ConfigError if the service user cannot read the interpreter, and so could
    neither import a module nor start a process.
    """
    user = choose(environ).user
    if user is not None:
        become(user)
        _check_interpreter(user)


def _check_interpreter(user: User) -> None:
    """Check that this process can still use its interpreter, its library and this program."""
    needed = ((sys.executable, os.X_OK), (os.__file__, os.R_OK), (__file__, os.R_OK))
    for path, mode in needed:
        if not os.access(path, mode):
            remedy = f"install Entrepot and its interpreter where user {user.name} can read them"
            raise ConfigError(
                [Problem(path, f"user {user.name} cannot read the interpreter", remedy)]
            )


def missing(status: str) -> tuple[str, ...]:
    """Return the capabilities that root needs but lacks, by its /proc/PID/status (*status*)."""
    found = _EFFECTIVE.search(status)
    effective = int(found[1], 16) if found else 0
    return tuple(f"CAP_{name}" for name, bit in NEEDED.items() if not effective >> bit & 1)


def account(name: str) -> User | None:
    """Return the user of that name; None if this operating system has no such user."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir)


def become(user: User) -> None:
    """Switch this process to *user*; neither it nor its children can become root again.

    Raises: OSError.
    """
    os.setgroups([])
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
